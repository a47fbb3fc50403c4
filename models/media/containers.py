"""Whether a file is shorter than it says itself: the rule behind `truncated`.

Each container announces sizes (RIFF and ISO boxes, Ogg pages, PNG chunks, EBML segments); a file that ends
before what it announces was cut. Decoders often play such a file silently to its end, so this is read from
the bytes before decoding. Pure, linear in the number of boxes, pages or chunks; decodes nothing.

Not seen here: FLAC and MP3 announce a count of samples (`models.media.audio` compares it with what was
decoded), and a Matroska segment of unknown size (live recorders) announces nothing.
"""

from collections.abc import Callable

from models.media.mp3 import frame_bytes, id3_bytes

# Writers that cannot seek back leave these as sizes: all ones (FFmpeg), about 2 GiB (SoX), 0.
_STREAMED_FROM = 0x7FFFF000


def is_cut(data: bytes, container: str) -> bool:
    """True if `data` ends before the end that its container announces. False where nothing is announced."""
    check = _CHECKS.get(container)
    return check is not None and check(data)


def _wav_cut(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return 0 < size < _STREAMED_FROM and at + 8 + size > len(data)
        at += 8 + size + size % 2
    return True  # a WAV with no data chunk lost it


def _webp_cut(data: bytes) -> bool:
    return len(data) < 12 or 8 + int.from_bytes(data[4:8], "little") > len(data)


def _iso_cut(data: bytes) -> bool:
    at, seen_moov = 0, False
    while at < len(data):
        if at + 8 > len(data):
            return True
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        seen_moov |= kind == b"moov"
        if size == 0:
            return not seen_moov  # "to the end of the file"
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return False  # not a box: the decoder shall say what is wrong
        at += size
    return at > len(data) or not seen_moov


def _ogg_cut(data: bytes) -> bool:
    """An Ogg stream ends with a complete page that carries the end-of-stream flag (RFC 3533)."""
    at, last_flags = 0, 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            return False  # a damaged page: the decoder shall say so
        if at + 27 > len(data):
            return True
        last_flags, segments = data[at + 5], data[at + 26]
        body = data[at + 27 : at + 27 + segments]
        at += 27 + segments + sum(body)
        if len(body) < segments or at > len(data):
            return True
    return last_flags & 4 == 0


def _png_cut(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 12 + size
        if kind == b"IEND":
            return at > len(data)
    return True


def _ebml_cut(data: bytes) -> bool:
    """Matroska: the EBML header, then one Segment whose size is announced unless it is all ones."""
    header = _ebml_size(data, 4)
    if header is None:
        return True
    at = header[1] + header[0]
    segment = _ebml_size(data, at + 4)
    if data[at : at + 4] != b"\x18\x53\x80\x67" or segment is None:
        return len(data) < at + 12
    size, body, unknown = segment[0], segment[1], segment[2]
    return not unknown and body + size > len(data)


def _ebml_size(data: bytes, at: int) -> tuple[int, int, bool] | None:
    """Size at `at`, where its body starts, and whether it says "unknown"; None beyond the data."""
    if at >= len(data) or data[at] == 0:
        return None
    width = 9 - data[at].bit_length()
    if at + width > len(data):
        return None
    bits = 7 * width
    value = int.from_bytes(data[at : at + width], "big") & ((1 << bits) - 1)
    return value, at + width, value == (1 << bits) - 1


def _adts_cut(data: bytes) -> bool:
    at = id3_bytes(data)
    while at + 7 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size < 7:
            return False
        at += size
    return at != len(data) and (at > len(data) or data[at] == 0xFF)


def _mp3_cut(data: bytes) -> bool:
    """Walk the frames; the last must be whole. Tags and junk after the last frame end the walk."""
    at = id3_bytes(data)
    if at >= len(data):
        return True
    while (size := frame_bytes(data[at : at + 4])) is not None:
        at += size
    return at > len(data)


def _jpeg_cut(data: bytes) -> bool:
    # The marker may be followed by padding or a second picture; without one, the scan never ended.
    return b"\xff\xd9" not in data[2:]


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "wav": _wav_cut,
    "mp4": _iso_cut,
    "ogg": _ogg_cut,
    "matroska": _ebml_cut,
    "aac": _adts_cut,
    "mp3": _mp3_cut,
    "png": _png_cut,
    "webp": _webp_cut,
    "jpeg": _jpeg_cut,
}
