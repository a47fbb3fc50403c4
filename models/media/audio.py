"""Recordings as bytes -> float32 mono at 16 kHz, decoded from memory under bounds.

FFmpeg (through PyAV) decodes; libsndfile is the fall-back where FFmpeg's build lacks a demuxer or decoder.
The container is told by content and named to FFmpeg, so nothing is probed; only listed containers and codecs
are opened, and no protocol is allowed, so a playlist or a reference inside a file reaches nothing.
Bounds hold while decoding, because headers lie. `decode_pieces` holds a piece at a time, however long the recording.
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
# What FFmpeg decodes to: what is silence and what is full scale.
_SCALES = {
    "uint8": (128, 128),
    "int16": (0, 1 << 15),
    "int32": (0, 1 << 31),
    "float32": (0, 1),
    "float64": (0, 1),
}
_AT_ONCE = 16_384  # samples of a channel that are mixed and resampled together
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
    """All samples (n,) of `decode_pieces` at once, which raises what this raises. Thread-safe."""
    samples = bytearray()  # grows in place; joining a list of arrays would hold the sound twice
    for piece in decode_pieces(data, media_type, limits):
        samples += piece.tobytes()
    return np.frombuffer(samples, np.float32)


def decode_pieces(
    data: bytes, media_type: str = "", limits: AudioLimits | None = None, piece_s: float = 60.0
) -> Iterator[F32]:
    """Samples in -1..1 at `RATE_HZ`, mean of the channels, in pieces of `piece_s`, the last one shorter.

    About 1.5 ms of work a second of sound; never more than a piece and a frame in memory, whatever the length.

    Raises BadInput with reason `empty`, `mislabelled`, `undecodable`, `truncated`, `too_large` (bytes,
    channels, rate), `too_long` or `unsupported` (a known format that is not accepted); what ails the end of
    a recording is known when its pieces have been read.
    """
    limits = limits or AudioLimits()
    if len(data) > limits.max_bytes:
        raise BadInput("too_large", f"{len(data)} bytes of audio, at most {limits.max_bytes} are accepted")
    container = require(data, media_type, "audio")
    if container not in _DEMUXERS:
        raise BadInput("unsupported", f"audio in {container} is not accepted")
    if is_cut(data, container):
        raise BadInput("truncated", f"the {container} data end before the size they announce")
    size = int(piece_s * RATE_HZ)
    pieces = 0
    for piece in _decoded(data, container, limits, size):
        if not np.isfinite(piece).all():
            raise BadInput("undecodable", "the recording holds samples that are not finite")
        pieces += 1
        yield np.clip(piece, -1.0, 1.0, out=piece)
    if not pieces:
        raise BadInput("empty", "the recording holds no samples")


def _decoded(data: bytes, container: str, limits: AudioLimits, size: int) -> Iterator[F32]:
    try:
        with _ffmpeg_errors(container):
            yield from _decode_ffmpeg(data, container, limits, size)
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError) as error:
        if container not in _SNDFILE:
            raise BadInput("unsupported", f"this FFmpeg build cannot decode {container}") from error
        yield from decode_sndfile(data, limits, size)


class _Mono16k:
    """Takes frames as they come, gives float32 mono at `RATE_HZ`; refuses what exceeds the bounds on the way.

    A decoder's frames are 20 ms and less, and each costs more in the way of calls than in work: they gather in a
    queue of FFmpeg's, are mixed to one channel there and resampled many at once (twice as fast for Opus).
    """

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self._left = int(limits.max_s * RATE_HZ)
        self._parts: list[F32] = []
        self._size = 0
        self._fifo = av.AudioFifo()
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self.source_s = 0.0
        self.failing = False  # the last packet could not be decoded

    def push(self, frame: av.AudioFrame) -> None:
        """Add one decoded frame. Raises BadInput `too_long` or `too_large`."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # chained Ogg and some broadcasts change rate or layout midway
            check_source(frame.sample_rate, frame.layout.nb_channels, self._limits)
            self._drain()
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
            self._shape = shape
        self.failing = False
        self.source_s += frame.samples / frame.sample_rate
        frame.pts = None  # gaps in time stamps must not become silence without bound
        self._fifo.write(frame)
        if self._fifo.samples >= _AT_ONCE:
            self._mix(self._fifo.read(_AT_ONCE))

    def take(self, size: int) -> Iterator[F32]:
        """Whole pieces of `size` samples that have come so far."""
        while self._size >= size:
            joined = np.concatenate(self._parts)
            self._parts, self._size = [joined[size:]], self._size - size
            yield joined[:size].copy()

    def last(self, size: int) -> Iterator[F32]:
        """What is left, the resampler's tail included."""
        self._drain()
        yield from self.take(size)
        if self._size:
            yield np.concatenate(self._parts)

    def _drain(self) -> None:
        if self._resampler is not None:
            self._mix(self._fifo.read(0, partial=True))
            self._resample(None)
            self._fifo = av.AudioFifo()
            self._resampler = None

    def _mix(self, frame: av.AudioFrame | None) -> None:
        """The mean of the channels, by us: FFmpeg's own mix of floats adds up to 3 dB and would clip loud stereo."""
        if frame is None:
            return
        channels = frame.layout.nb_channels
        samples = frame.to_ndarray()
        by_channel = samples if frame.format.is_planar else samples.reshape(-1, channels).T
        mixed = by_channel[0].astype(np.float32)
        for channel in by_channel[1:]:
            mixed += channel
        offset, full_scale = _SCALES[samples.dtype.name]
        if offset:
            mixed -= np.float32(offset * channels)
        if (factor := 1.0 / (full_scale * channels)) != 1.0:
            mixed *= np.float32(factor)
        mono = av.AudioFrame.from_ndarray(mixed[None], format="flt", layout="mono")
        mono.sample_rate = frame.sample_rate
        self._resample(mono)

    def _resample(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for out in self._resampler.resample(frame):
            self._left -= out.samples
            if self._left < 0:
                raise BadInput("too_long", f"more than {self._limits.max_s:g} s of audio")
            self._size += out.samples
            self._parts.append(np.frombuffer(memoryview(out.planes[0]), np.float32, count=out.samples).copy())


def check_source(rate_hz: int, channels: int, limits: AudioLimits) -> None:
    """Refuse a source whose rate or channels make its seconds too costly. Raises BadInput."""
    if not 1000 <= rate_hz <= limits.max_rate_hz:
        raise BadInput("too_large", f"a sample rate of {rate_hz} Hz is outside 1000..{limits.max_rate_hz}")
    if not 1 <= channels <= limits.max_channels:
        raise BadInput("too_large", f"{channels} channels are outside 1..{limits.max_channels}")


def _decode_ffmpeg(data: bytes, container: str, limits: AudioLimits, size: int) -> Iterator[F32]:
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
            yield from sink.take(size)
        _check_complete(sink, announced_s)
        yield from sink.last(size)


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


def decode_sndfile(data: bytes, limits: AudioLimits, size: int) -> Iterator[F32]:
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
                yield from sink.take(size)
            announced_s = opened.frames / opened.samplerate
    except soundfile.SoundFileError as error:
        raise BadInput("undecodable", "the audio data cannot be decoded") from error
    _check_complete(sink, announced_s)
    yield from sink.last(size)
