"""Recordings as bytes -> float32 mono at 16 kHz, decoded from memory under bounds.

FFmpeg (through PyAV) decodes; libsndfile is the fall-back where FFmpeg's build lacks a demuxer or decoder.
The container is told by content and named to FFmpeg, so nothing is probed; only listed containers and codecs
are opened, and no protocol is allowed, so a playlist or a reference inside a file reaches nothing.
Bounds hold while decoding, because headers lie: memory never exceeds the bound by more than one frame.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.media.containers import is_cut
from models.media.sniff import require

RATE_HZ = 16_000

F32 = NDArray[np.float32]

# Our container names -> FFmpeg's demuxers. What is missing here is refused as `unsupported`.
_DEMUXERS = {
    "wav": "wav",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "ogg",
    "mp4": "mov",
    "aac": "aac",
    "matroska": "matroska",
}
_SNDFILE = frozenset({"wav", "mp3", "flac", "ogg"})
_CODECS = (
    "pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw,pcm_s16be,pcm_s24be,"
    "mp3float,mp3,mp2float,mp2,mp1float,mp1,flac,vorbis,opus,libopus,libvorbis,aac,aac_fixed,alac,"
    "adpcm_ms,adpcm_ima_wav"
)
# Encoders add up to a few frames of delay and padding, which players drop: no sign of a cut.
_SLACK_S = 0.15


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What a recording may be at most. Seconds of decoded sound; `max_rate_hz` and channels of the source."""

    max_bytes: int = 256 * 1024 * 1024
    max_s: float = 7200.0
    max_channels: int = 8
    max_rate_hz: int = 192_000


def decode_audio(data: bytes, media_type: str = "", limits: AudioLimits | None = None) -> F32:
    """Samples (n,) in -1..1 at `RATE_HZ`, mean of the channels. Thread-safe; about 1 ms a second of sound.

    Raises BadInput with reason `empty`, `mislabelled`, `undecodable`, `truncated`, `too_large` (bytes,
    channels, rate), `too_long` or `unsupported` (a known format that is not accepted).
    """
    limits = limits or AudioLimits()
    if len(data) > limits.max_bytes:
        raise BadInput("too_large", f"{len(data)} bytes of audio, at most {limits.max_bytes} are accepted")
    container = require(data, media_type, "audio")
    if container not in _DEMUXERS:
        raise BadInput("unsupported", f"audio in {container} is not accepted")
    if is_cut(data, container):
        raise BadInput("truncated", f"the {container} data end before the size they announce")
    try:
        with _ffmpeg_errors(container):
            samples = _decode_ffmpeg(data, container, limits)
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError) as error:
        if container not in _SNDFILE:
            raise BadInput("unsupported", f"this FFmpeg build cannot decode {container}") from error
        samples = decode_sndfile(data, limits)
    if not samples.size:
        raise BadInput("empty", "the recording holds no samples")
    if not np.isfinite(samples).all():
        raise BadInput("undecodable", "the recording holds samples that are not finite")
    return np.clip(samples, -1.0, 1.0, out=samples)


class _Mono16k:
    """Collects frames as float32 mono at `RATE_HZ`; refuses what exceeds the bounds as it comes."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self._max_bytes = int(limits.max_s * RATE_HZ) * 4
        # A bytearray grows in place; joining a list of arrays would hold the sound twice.
        self._buffer = bytearray()
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self.source_s = 0.0
        self.failing = False  # the last packet could not be decoded

    def push(self, frame: av.AudioFrame) -> None:
        """Add one decoded frame. Raises BadInput `too_long` or `too_large`."""
        check_source(frame.sample_rate, frame.layout.nb_channels, self._limits)
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # chained Ogg and some broadcasts change rate or layout midway
            self._drain()
            self._resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=RATE_HZ)
            self._shape = shape
        assert self._resampler is not None
        self.failing = False
        self.source_s += frame.samples / frame.sample_rate
        frame.pts = None  # gaps in time stamps must not become silence without bound
        for out in self._resampler.resample(frame):
            self._append(out)

    def samples(self) -> F32:
        """All samples so far, the resampler's tail included."""
        self._drain()
        return np.frombuffer(self._buffer, np.float32)

    def _drain(self) -> None:
        if self._resampler is not None:
            for out in self._resampler.resample(None):
                self._append(out)
            self._resampler = None

    def _append(self, frame: av.AudioFrame) -> None:
        channels = frame.layout.nb_channels
        packed = np.frombuffer(memoryview(frame.planes[0]), np.float32, count=frame.samples * channels)
        # The mean, by us: FFmpeg's own mix of floats adds up to 3 dB and would clip loud stereo.
        mono = packed if channels == 1 else packed.reshape(-1, channels).mean(axis=1, dtype=np.float32)
        self._buffer += mono.tobytes()
        if len(self._buffer) > self._max_bytes:
            raise BadInput("too_long", f"more than {self._limits.max_s:g} s of audio")


def check_source(rate_hz: int, channels: int, limits: AudioLimits) -> None:
    """Refuse a source whose rate or channels make its seconds too costly. Raises BadInput."""
    if not 1000 <= rate_hz <= limits.max_rate_hz:
        raise BadInput("too_large", f"a sample rate of {rate_hz} Hz is outside 1000..{limits.max_rate_hz}")
    if not 1 <= channels <= limits.max_channels:
        raise BadInput("too_large", f"{channels} channels are outside 1..{limits.max_channels}")


def _decode_ffmpeg(data: bytes, container: str, limits: AudioLimits) -> F32:
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": _whitelist(container),
        "codec_whitelist": _CODECS,
    }
    with av.open(io.BytesIO(data), format=_DEMUXERS[container], mode="r", options=options) as opened:
        if not opened.streams.audio:
            raise BadInput("unsupported", f"the {container} container holds no audio stream")
        stream = opened.streams.audio[0]
        if stream.codec_context is None or stream.codec_context.name not in _CODECS.split(","):
            raise BadInput("unsupported", f"the codec in this {container} is not accepted")
        check_source(stream.codec_context.sample_rate, stream.codec_context.channels, limits)
        announced_s = _announced_s(stream, container)
        if announced_s > limits.max_s:
            raise BadInput(
                "too_long", f"the recording announces {announced_s:.0f} s, at most {limits.max_s:g}"
            )
        sink = _Mono16k(limits)
        for packet in opened.demux(stream):
            _decode_packet(packet, sink)
        _check_complete(sink, announced_s)
        return sink.samples()


def _decode_packet(packet: "av.Packet[av.AudioStream]", sink: _Mono16k) -> None:
    """One bad packet is heard as a click and the next may be good again, so players go on, and so does this:
    only an end in failure, or too little sound in all, means that the file was cut."""
    try:
        for frame in packet.decode():
            sink.push(frame)
    except av.error.InvalidDataError:
        sink.failing = True


def _whitelist(container: str) -> str:
    return {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}.get(
        container, _DEMUXERS[container]
    )


def _announced_s(stream: "av.AudioStream", container: str) -> float:
    """Seconds that the container says it has; 0 where it says nothing or FFmpeg only guesses by size."""
    if container in ("aac", "matroska") or stream.duration is None or stream.time_base is None:
        return 0.0
    return float(stream.duration * stream.time_base)


def _check_complete(sink: _Mono16k, announced_s: float) -> None:
    decoded_s = sink.source_s
    if decoded_s == 0.0 and sink.failing:
        raise BadInput("undecodable", "no sound could be decoded")
    if sink.failing or decoded_s + _SLACK_S + 0.01 * announced_s < announced_s:
        raise BadInput("truncated", f"decoded {decoded_s:.2f} s of {announced_s:.2f} s announced")


@contextmanager
def _ffmpeg_errors(container: str) -> Iterator[None]:
    """FFmpeg's refusals of these bytes as BadInput; a missing decoder passes through."""
    try:
        yield
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError):
        raise
    except av.error.MemoryError as error:
        raise BadInput("too_large", f"the {container} data need more memory than there is") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise BadInput("undecodable", f"the {container} data cannot be decoded") from error


def decode_sndfile(data: bytes, limits: AudioLimits) -> F32:
    """The fall-back: libsndfile's blocks through the same resampler and bounds. Raises BadInput."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as opened:
            check_source(opened.samplerate, opened.channels, limits)
            sink = _Mono16k(limits)
            layout = {1: "mono", 2: "stereo"}.get(opened.channels, f"{opened.channels}c")
            for block in opened.blocks(blocksize=opened.samplerate, dtype="float32", always_2d=True):
                # libsndfile gives (n, channels); a packed frame wants (1, n * channels).
                packed = np.ascontiguousarray(block).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
                frame.sample_rate = opened.samplerate
                sink.push(frame)
            announced_s = opened.frames / opened.samplerate
    except soundfile.SoundFileError as error:
        raise BadInput("undecodable", "the audio data cannot be decoded") from error
    _check_complete(sink, announced_s)
    return sink.samples()
