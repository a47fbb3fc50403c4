"""Content decides: the family of a payload, whatever it is called."""

import pytest

from models.errors import BadInput
from models.media.mp3 import frame_bytes
from models.media.sniff import declared_family, require, sniff

CASES = [
    (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio", "wav"),
    (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image", "webp"),
    (b"\x00\x00\x00\x1cftypM4A \x00\x00\x00\x00", "audio", "mp4"),
    (b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00", "image", "heic"),
    (b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64", "audio", "mp3"),
    (b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64", "audio", "mp3"),
    (b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(20), "audio", "aac"),
    (b"OggS\x00\x02" + bytes(22), "audio", "ogg"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image", "jpeg"),
    ("BM beginnt auch ein Satz über Öl".encode(), "text", "utf-8"),
    (b"FORM follows function", "text", "utf-8"),
    (b"ok", "text", "utf-8"),
]


@pytest.mark.parametrize(("data", "family", "container"), CASES)
def test_known_content(data: bytes, family: str, container: str) -> None:
    found = sniff(data)
    assert found is not None and (found.family, found.container) == (family, container)


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x02\x03\x04", b"\xff\xfb\x90\x64" + bytes(600), b"abc\x00def"]
)
def test_unknown_content(data: bytes) -> None:
    assert data == b"" or sniff(data) is None


def test_a_declaration_that_contradicts_the_content_is_mislabelled() -> None:
    with pytest.raises(BadInput) as caught:
        require(b"plain words", "image/png", "image")
    assert caught.value.reason == "mislabelled"
    with pytest.raises(BadInput) as caught:
        require(b"fLaC0000", "text/plain", "audio")
    assert caught.value.reason == "mislabelled"
    assert require(b"fLaC0000", "application/octet-stream", "audio") == "flac"
    assert require(b"fLaC0000", "", "audio") == "flac"


def test_the_message_says_what_was_expected_where_the_declaration_is_right() -> None:
    with pytest.raises(BadInput, match="a recording is expected, but the content is utf-8"):
        require(b"plain words", "text/plain", "audio")


def test_the_message_holds_no_control_characters_of_the_declaration() -> None:
    with pytest.raises(BadInput) as caught:
        require(b"plain words", "image/\x1b[31mred\n", "image")
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_families() -> None:
    assert declared_family("Audio/MPEG; codecs=x") == "audio"
    assert declared_family("video/mp4") == "audio"
    assert declared_family("application/json") is None


def test_mpeg_frame_lengths_of_the_standard() -> None:
    assert frame_bytes(b"\xff\xfb\x90\x64") == 417  # MPEG-1 layer 3, 128 kbit/s, 44.1 kHz
    assert frame_bytes(b"\xff\xfb\x92\x64") == 418  # the same with padding
    assert frame_bytes(b"\xff\xf3\x40\x00") == 104  # MPEG-2 layer 3, 32 kbit/s, 22.05 kHz
    assert frame_bytes(b"\x00\x00\x00\x00") is None
