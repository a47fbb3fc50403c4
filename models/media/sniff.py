"""What a payload is, told by its bytes: text, a picture or a recording, and in which container.

A name or a declared media type is a claim by a stranger; only the content picks a decoder. Pure, reads at
most `HEAD_BYTES` except for text, whose every byte must be UTF-8. Knows nothing of how formats are decoded.
"""

from dataclasses import dataclass
from typing import Literal

from models.errors import BadInput
from models.media.mp3 import frame_bytes, id3_bytes

Family = Literal["text", "image", "audio"]

HEAD_BYTES = 4096
_FAMILIES: tuple[Family, ...] = ("text", "image", "audio")
_EXPECTED: dict[Family, str] = {"text": "a text", "image": "a picture", "audio": "a recording"}
_TEXT_CONTROLS = frozenset(b"\t\n\r\f")

# ISO base media brands that are still pictures; any other brand may hold sound.
_PICTURE_BRANDS = {b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"avif": "avif", b"avis": "avif"}

_PREFIXES: tuple[tuple[bytes, Family, str], ...] = (
    (b"\xff\xd8\xff", "image", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image", "png"),
    (b"GIF87a", "image", "gif"),
    (b"GIF89a", "image", "gif"),
    (b"II*\x00", "image", "tiff"),
    (b"MM\x00*", "image", "tiff"),
    (b"BM", "image", "bmp"),
    (b"\x00\x00\x01\x00", "image", "ico"),
    (b"\x00\x00\x00\x0cJXL ", "image", "jxl"),
    (b"fLaC", "audio", "flac"),
    (b"OggS", "audio", "ogg"),
    (b"\x1aE\xdf\xa3", "audio", "matroska"),
    (b"FORM", "audio", "aiff"),
    (b".snd", "audio", "au"),
    (b"caff", "audio", "caf"),
    (b"#!AMR", "audio", "amr"),
    (b"0&\xb2u\x8ef\xcf\x11", "audio", "asf"),
)


# What is told apart only to say what came in the place of a picture or a recording.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"{\\rtf", "an RTF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"SQLite format 3\x00", "a database"),
)


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The family a payload belongs to and its container (`jpeg`, `ogg`, ...; `utf-8` for text)."""

    family: Family
    container: str


def sniff(data: bytes) -> Sniffed | None:
    """What `data` is, or None when it is nothing that is known here. Never raises."""
    head = data[:HEAD_BYTES]
    if len(head) < 4:
        return Sniffed("text", "utf-8") if _is_text(data) else None
    found = _riff(head) or _iso_media(head) or _by_prefix(head) or _mpeg_audio(data)
    if found is None and _is_text(data):
        return Sniffed("text", "utf-8")
    return found


def require(data: bytes, declared: str, family: Family) -> str:
    """The container of `data`, which must be of `family`, as its declared media type must be.

    Raises BadInput: `empty`, `mislabelled` (content and declaration are of different families, or the content is a
    document, an archive or a program) or `undecodable` (the bytes are nothing known). An undeclared or generic media
    type makes no claim.
    """
    if not data:
        raise BadInput("empty", "the payload has no bytes")
    if family != "text" and (
        foreign := next((name for head, name in _FOREIGN if data.startswith(head)), None)
    ):
        raise BadInput("mislabelled", f"{_EXPECTED[family]} is expected, but the content is {foreign}")
    found = sniff(data)
    claimed = declared_family(declared)
    if found is None:
        raise BadInput("undecodable", f"the bytes are no known {family} format")
    if found.family != family:
        raise BadInput(
            "mislabelled", f"{_EXPECTED[family]} is expected, but the content is {found.container}"
        )
    if claimed is not None and claimed != found.family:
        raise BadInput("mislabelled", f"declared {_clean(declared)}, but the content is {found.container}")
    return found.container


def declared_family(media_type: str) -> Family | None:
    """The family that a media type claims; None for none, `application/octet-stream` or a foreign one."""
    claimed = media_type.partition("/")[0].strip().lower()
    # A video container may carry sound alone, and recorders label it so.
    if claimed == "video":
        return "audio"
    return next((family for family in _FAMILIES if family == claimed), None)


def _clean(media_type: str) -> str:
    """A stranger's media type, made safe for a message."""
    return "".join(c for c in media_type[:64] if c.isprintable()) or "nothing"


def _riff(head: bytes) -> Sniffed | None:
    if head[:4] not in (b"RIFF", b"RF64", b"RIFX"):
        return None
    if head[8:12] == b"WAVE":
        return Sniffed("audio", "wav" if head[:4] != b"RIFX" else "rifx")
    if head[8:12] == b"WEBP":
        return Sniffed("image", "webp")
    return Sniffed("audio", "avi") if head[8:12] == b"AVI " else None


def _iso_media(head: bytes) -> Sniffed | None:
    if head[4:8] != b"ftyp":
        return None
    picture = _PICTURE_BRANDS.get(head[8:12])
    return Sniffed("image", picture) if picture else Sniffed("audio", "mp4")


def _by_prefix(head: bytes) -> Sniffed | None:
    for prefix, family, container in _PREFIXES:
        if head.startswith(prefix):
            # "BM" and "FORM" also begin words.
            if prefix in (b"BM", b"FORM") and _is_text(head):
                return None
            return Sniffed(family, container)
    return None


def _mpeg_audio(data: bytes) -> Sniffed | None:
    """MP3 or AAC in ADTS, after an optional ID3v2 tag (which FLAC writers add as well)."""
    start = id3_bytes(data)
    head = data[start : start + 7]
    if head.startswith(b"fLaC"):
        return Sniffed("audio", "flac")
    if len(head) == 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Sniffed("audio", "aac")
    size = frame_bytes(head)
    if size is None:
        # A tag alone still says what the rest was meant to be; padding may follow it.
        return Sniffed("audio", "mp3") if start else None
    # Two bytes of sync are common in noise: ask for a second frame unless the data ends before it.
    after = data[start + size : start + size + 4]
    if start or len(after) < 4 or frame_bytes(after) is not None:
        return Sniffed("audio", "mp3")
    return None


def _is_text(data: bytes) -> bool:
    if any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in data[:HEAD_BYTES]):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # A cut through a character at the very end (a head of a longer text) is still text.
        return error.end == len(data) and error.reason == "unexpected end of data"
    return True
