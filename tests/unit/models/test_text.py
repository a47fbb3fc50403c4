"""Bytes to text: what is refused, and with which word."""

import pytest

from models.errors import BadInput
from models.media.text import MAX_TEXT_BYTES, decode_text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("  two\n\nlines\t\u00a0and\x00zero ".encode(), "two lines and zero"),
        ("e\u0301".encode(), "\u00e9"),
        ("👩\u200d🚀".encode(), "👩\u200d🚀"),
        ("日本語".encode(), "日本語"),
    ],
)
def test_text_is_normalised(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\x00", "empty"),
        ("\u200b\ufeff\u00a0".encode(), "empty"),
        (b"\xff\xfeh\x00i\x00", "undecodable"),
        ("café".encode("latin-1"), "undecodable"),
        (b"\xed\xa0\x80", "undecodable"),  # a lone surrogate
        (b"\xc0\xaf", "undecodable"),  # an overlong slash
        (b"cut \xe2\x82", "undecodable"),
        (b"a" * (MAX_TEXT_BYTES + 1), "too_large"),
        (b"\xff" * (MAX_TEXT_BYTES + 1), "too_large"),  # before anything is decoded
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        decode_text(data)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 100  # no payload in the message


def test_the_limit_itself_is_let_in() -> None:
    assert len(decode_text(b"a" * MAX_TEXT_BYTES)) == MAX_TEXT_BYTES
