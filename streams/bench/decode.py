"""How fast recordings are decoded, format by format: made here, so that nothing has to lie about."""

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from streams.bench.child import Job, cpu_s
from streams.clock import SystemClock

RATE_HZ = 44_100
FORMATS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "vorbis": ("ogg", "libvorbis"),
    "opus": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "aac": ("adts", "aac"),
}
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "aac": "audio/aac"}


def recording(container: str, codec: str, seconds: int) -> bytes:
    """Stereo: tones that come and go over noise, which no codec gets for nothing."""
    random = np.random.default_rng(3)
    t = np.arange(RATE_HZ * seconds) / RATE_HZ
    voice = np.sin(2 * np.pi * 140 * t) * (np.sin(2 * np.pi * 3 * t) > 0) + 0.1 * random.standard_normal(
        t.size
    )
    samples = (np.stack((voice, 0.8 * voice)) * 8000).astype(np.int16)
    if codec == "libvorbis":  # which PyAV's FFmpeg reads and does not write
        return _vorbis(samples)
    rate = 48_000 if codec == "libopus" else RATE_HZ
    out = io.BytesIO()
    with av.open(out, "w", format=container) as written:
        stream: Any = written.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        resampler = av.AudioResampler(format=stream.format.name, layout="stereo", rate=rate)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate = RATE_HZ
        fifo = av.AudioFifo()
        for resampled in (*resampler.resample(frame), *resampler.resample(None)):
            fifo.write(resampled)
        size = stream.codec_context.frame_size or 4096
        while (piece := fifo.read(size, partial=True)) is not None:
            written.mux(stream.encode(piece))
        written.mux(stream.encode(None))
    return out.getvalue()


def _vorbis(samples: NDArray[np.int16]) -> bytes:
    import soundfile

    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", RATE_HZ, 2, format="OGG", subtype="VORBIS") as written:
        for start in range(0, samples.shape[1], RATE_HZ):  # libsndfile may crash on much at once
            written.write(samples[:, start : start + RATE_HZ].T)
    return out.getvalue()


async def decode_job(job: Job) -> dict[str, Any]:
    """`clicks` is the seconds of each recording."""
    from models.media.audio import decode_audio

    clock, rows = SystemClock(), []
    for name, (container, codec) in FORMATS.items():
        data = recording(container, codec, job.clicks)
        took_s, used_s = [], []
        for _ in range(3):
            began_s, began_cpu_s = clock.monotonic_s(), cpu_s()
            samples = decode_audio(data, MEDIA_TYPES.get(name, "audio/ogg"))
            took_s.append(clock.monotonic_s() - began_s)
            used_s.append(cpu_s() - began_cpu_s)
        seconds = samples.size / 16_000
        rows.append(
            {
                "case": f"decode_{name}",
                "seconds_of_sound": round(seconds, 1),
                "times_real_time": round(seconds / min(took_s)),
                "times_real_time_by_cpu": round(seconds / max(min(used_s), 1e-6)),
            }
        )
    return {"rows": rows}
