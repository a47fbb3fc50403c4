"""Bytes to text: size checked before decoding, strict UTF-8, normalised. Knows nothing of tokens."""

import codecs
import unicodedata

from models.errors import BadInput

MAX_TEXT_BYTES = 256 * 1024  # a long article has 50 KB; what lies past a model's tokens is cut off anyway


def decode_text(data: bytes, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a payload: NFC, spaces and control characters folded to single spaces, trimmed.

    Raises BadInput: `too_large` (before anything is decoded), `undecodable` (not UTF-8), `empty` (nothing
    that could be read is left).
    """
    text = normalised(_decoded(data, limit_bytes))
    if not text:
        raise BadInput("empty", "the text holds no character that can be read")
    return text


def decode_in_place(data: bytes, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a payload with every character at its place (behind a byte order mark), so that a place in it is
    one in what was sent; control characters are spaces. Raises BadInput as `decode_text`.
    """
    text = _decoded(data, limit_bytes)
    if not normalised(text):
        raise BadInput("empty", "the text holds no character that can be read")
    return "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)


def _decoded(data: bytes, limit_bytes: int) -> str:
    if len(data) > limit_bytes:
        raise BadInput("too_large", f"the text has {len(data)} bytes; the limit is {limit_bytes}")
    try:
        # A byte order mark is a signature of the encoding, not text.
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise BadInput("undecodable", f"the text is not UTF-8 at byte {error.start}") from None


def normalised(text: str) -> str:
    """NFC, so that one look has one spelling; every run of blanks and control characters is one space.

    Format characters stay (joiners hold emoji and some scripts together) unless nothing else is there.
    """
    text = unicodedata.normalize("NFC", text)
    spaced = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    joined = " ".join(spaced.split())
    return joined if any(unicodedata.category(char) not in ("Cf", "Zs") for char in joined) else ""
