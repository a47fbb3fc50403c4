"""Recordings made here with PyAV, then decoded, cut, mislabelled and made too large."""

import contextlib
import io
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import soundfile

from models.errors import BadInput
from models.media.audio import RATE_HZ, AudioLimits, decode_audio, decode_pieces, decode_sndfile

FORMATS = {
    "wav": ("wav", "pcm_s16le", 44_100),
    "wav-float": ("wav", "pcm_f32le", 48_000),
    "wav-mulaw": ("wav", "pcm_mulaw", 8_000),
    "flac": ("flac", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "vorbis": ("ogg", "vorbis", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "m4a": ("mp4", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "aac": ("adts", "aac", 44_100),
}


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def encode(name: str, seconds: float = 3.0, channels: int = 2) -> bytes:
    container, codec, rate = FORMATS[name]
    out = io.BytesIO()
    if codec == "vorbis":  # PyAV's FFmpeg decodes Vorbis but has no encoder for it
        with soundfile.SoundFile(out, "w", rate, channels, "VORBIS", format="OGG") as opened:
            for piece in np.array_split(tone(seconds, rate), max(1, int(seconds))):  # large writes may crash
                opened.write(np.repeat(piece[:, None], channels, axis=1))
        return out.getvalue()
    with av.open(out, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        samples = np.repeat(tone(seconds, rate)[:, None], channels, axis=1).reshape(1, -1)
        layout = "stereo" if channels == 2 else "mono"
        resampler = av.AudioResampler(
            stream.codec_context.format.name, layout, rate, frame_size=stream.codec_context.frame_size or 1024
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="flt", layout=layout)
        frame.sample_rate = rate
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            opened.mux(stream.encode(piece))
        opened.mux(stream.encode(None))
    return out.getvalue()


def reason(data: bytes, media_type: str = "", limits: AudioLimits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        decode_audio(data, media_type, limits)
    return caught.value.reason


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_tone_it_holds(name: str) -> None:
    samples = decode_audio(encode(name), "audio/whatever")
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert samples.size == pytest.approx(3.0 * RATE_HZ, abs=0.15 * RATE_HZ)
    middle = samples[RATE_HZ : 2 * RATE_HZ]
    spectrum = np.abs(np.fft.rfft(middle))
    assert int(spectrum.argmax()) == 440
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.08)


def test_the_resampler_is_flushed_to_the_last_sample() -> None:
    assert decode_audio(encode("wav", 1.0)).size == RATE_HZ


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.35, 0.8, 0.97])
def test_a_cut_file_is_truncated(name: str, kept: float) -> None:
    if name == "webm" and kept > 0.9:
        kept = 0.9  # what follows the last cluster is the index
    data = encode(name)
    assert reason(data[: int(len(data) * kept)]) == "truncated"


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "vorbis", "opus", "m4a"])
def test_a_file_cut_by_a_few_bytes_is_truncated(name: str) -> None:
    assert reason(encode(name)[:-40]) == "truncated"


def test_a_streamed_wav_announces_nothing_and_is_accepted() -> None:
    data = bytearray(encode("wav", 1.0))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    assert decode_audio(bytes(data)).size == RATE_HZ


def test_limits_hold_while_decoding_even_if_the_header_lies() -> None:
    data = bytearray(encode("wav", 3.0))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    assert reason(bytes(data), limits=AudioLimits(max_s=2.0)) == "too_long"


@pytest.mark.parametrize("name", ["wav", "mp3", "opus", "aac"])
def test_too_long(name: str) -> None:
    assert reason(encode(name), limits=AudioLimits(max_s=2.0)) == "too_long"


def test_too_many_bytes_channels_or_a_wild_rate() -> None:
    data = encode("wav")
    assert reason(data, limits=AudioLimits(max_bytes=100)) == "too_large"
    assert reason(data, limits=AudioLimits(max_channels=1)) == "too_large"
    assert reason(data, limits=AudioLimits(max_rate_hz=22_050)) == "too_large"
    slow = bytearray(data)
    slow[24:28] = struct.pack("<I", 1)  # one sample a second: minutes of sound from nothing
    assert reason(bytes(slow)) == "too_large"


def test_empty_and_nonsense() -> None:
    assert reason(b"") == "empty"
    assert reason(bytes(range(256)) * 40) == "undecodable"
    assert reason(encode("wav", 1.0)[:0]) == "empty"


def test_samples_that_are_not_finite_are_refused() -> None:
    data = bytearray(encode("wav-float", 1.0))
    data[-4:] = struct.pack("<f", float("nan"))
    assert reason(bytes(data)) == "undecodable"


@pytest.mark.parametrize(
    "playlist",
    [b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile '/etc/hostname'\n"],
)
def test_a_playlist_is_not_audio(playlist: bytes) -> None:
    assert reason(playlist, "audio/mpegurl") == "mislabelled"


def test_a_picture_declared_as_audio_is_mislabelled() -> None:
    assert reason(b"\x89PNG\r\n\x1a\n" + bytes(100), "audio/wav") == "mislabelled"
    assert reason(encode("wav"), "image/png") == "mislabelled"


def test_known_formats_that_are_not_accepted() -> None:
    assert reason(b"FORM\x00\x00\x01\x00AIFFCOMM" + bytes(200), "audio/aiff") == "unsupported"


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recording.wav", bytes(10_000_000))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (zipped(), "mislabelled"),
        (b"%PDF-1.7\n/Encrypt " + np.random.default_rng(1).bytes(5000), "mislabelled"),
        (b"\x1f\x8b\x08" + np.random.default_rng(2).bytes(5000), "mislabelled"),
        (np.random.default_rng(3).bytes(5000), "undecodable"),
        (b"RIFF\x24\x00\x00\x00WAVE", "truncated"),
        (encode("wav", 1.0)[:12] + encode("wav", 1.0)[12:44], "truncated"),
        (b"<html><body>404 Not Found</body></html>", "mislabelled"),
    ],
    ids=["zip", "pdf", "gzip", "noise", "no header", "no sample", "page"],
)
def test_other_things_named_recordings(content: bytes, expected: str) -> None:
    assert reason(content, "audio/wav") == expected


@pytest.mark.parametrize("name", ["wav", "flac", "m4a"])
def test_a_recording_without_samples_is_empty(name: str) -> None:
    out = io.BytesIO()
    if name == "m4a":
        with av.open(out, "w", format="mp4") as opened:
            opened.mux(opened.add_stream("aac", rate=44_100, layout="mono").encode(None))
    else:
        soundfile.write(out, np.zeros((0, 1), np.int16), 16_000, format=name)
    assert reason(out.getvalue()) in ("empty", "truncated", "undecodable", "unsupported")


def test_a_day_announced_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encode("flac", 1.0))
    samples = 24 * 3600 * 44_100
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    assert reason(bytes(data)) == "too_long"


def test_192_khz_is_read_and_32_channels_are_not() -> None:
    t = np.arange(192_000) / 192_000
    sound = 0.5 * np.sin(2 * np.pi * 440 * t)
    fast, wide = io.BytesIO(), io.BytesIO()
    soundfile.write(fast, np.stack([sound, sound], 1), 192_000, format="wav", subtype="PCM_24")
    soundfile.write(wide, np.repeat(sound[:9600, None], 32, 1), 48_000, format="wav")
    samples = decode_audio(fast.getvalue(), "audio/wav")
    assert samples.size == RATE_HZ and np.abs(samples).max() == pytest.approx(0.5, abs=0.01)
    assert reason(wide.getvalue()) == "too_large"


def test_pieces_are_whole_bounded_and_add_up() -> None:
    data = encode("opus", 5.0)
    pieces = list(decode_pieces(data, piece_s=0.7))
    assert [piece.size for piece in pieces[:-1]] == [int(0.7 * RATE_HZ)] * (len(pieces) - 1)
    assert len(pieces) >= 7 and np.array_equal(np.concatenate(pieces), decode_audio(data))


def test_loud_stereo_is_not_clipped_and_opposite_channels_cancel() -> None:
    t = np.arange(44_100) / 44_100
    left = (0.99 * np.sin(2 * np.pi * 440 * t) * 32767).astype(np.int16)
    same, opposite = io.BytesIO(), io.BytesIO()
    soundfile.write(same, np.stack([left, left], 1), 44_100, format="flac")
    soundfile.write(opposite, np.stack([left, -left], 1), 44_100, format="flac")
    assert 0.97 < np.abs(decode_audio(same.getvalue())).max() < 1.0
    assert np.abs(decode_audio(opposite.getvalue())).max() < 1e-6


def test_a_video_without_sound_is_unsupported() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as opened:
        stream = opened.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            opened.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        opened.mux(stream.encode(None))
    assert reason(out.getvalue(), "video/mp4") == "unsupported"


def test_damage_in_the_middle_never_raises_anything_else() -> None:
    random = np.random.default_rng(3)
    for name in FORMATS:
        data = encode(name, 1.0)
        for _ in range(15):
            broken = bytearray(data)
            for at in random.integers(4, len(data), 12):
                broken[at] = random.integers(256)
            with contextlib.suppress(BadInput):
                assert np.isfinite(decode_audio(bytes(broken))).all()


@pytest.mark.parametrize("name", ["wav", "flac", "vorbis"])
def test_the_fallback_agrees_with_ffmpeg(name: str) -> None:
    data = encode(name)
    first = decode_audio(data)
    second = np.concatenate(list(decode_sndfile(data, AudioLimits(), RATE_HZ)))
    assert abs(first.size - second.size) <= 0.05 * RATE_HZ
    n = min(first.size, second.size) - 2000
    assert np.abs(first[2000:n] - second[2000:n]).max() < 0.01


def test_threads_give_the_same_samples() -> None:
    data = encode("mp3")
    alone = decode_audio(data)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(alone, other) for other in pool.map(decode_audio, [data] * 16))
