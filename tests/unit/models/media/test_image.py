"""Pictures made here with Pillow, then decoded, turned, cut, mislabelled and made too large."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from models.errors import BadInput
from models.media.image import ImageLimits, decode_image

FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Red on the left, blue on the right, with enough detail that no format ends early."""
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    noise[:, : width // 2, 0] += 180
    noise[:, width // 2 :, 2] += 180
    return Image.fromarray(noise.astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def reason(data: bytes, media_type: str = "", limits: ImageLimits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        decode_image(data, media_type, limits)
    return caught.value.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_rgb(kind: str) -> None:
    found = decode_image(encode(picture(), kind), f"image/{kind.lower()}")
    assert found.pixels.shape == (64, 96, 3) and found.pixels.dtype == np.uint8
    assert (found.width, found.height, found.container) == (96, 64, kind.lower())
    left, right = found.pixels[:, :40].mean((0, 1)), found.pixels[:, 56:].mean((0, 1))
    assert left[0] > 150 > left[2] and right[2] > 150 > right[0]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_gives_rgb(mode: str) -> None:
    if mode == "I;16":
        grey = np.asarray(picture().convert("L")).astype(np.uint16) << 8
        image = Image.fromarray(grey)
    else:
        image = picture().convert(mode)
    data = encode(image, "JPEG" if mode == "CMYK" else "PNG")
    pixels = decode_image(data).pixels
    assert pixels.shape == (64, 96, 3)
    assert 20 < pixels.mean() < 235


def test_transparent_pixels_are_white() -> None:
    assert decode_image(encode(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG")).pixels.min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), "JPEG", exif=exif, quality=95)
    found = decode_image(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(found.pixels, expected)
    assert (found.height, found.width) == expected.shape[:2]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_cut_file_is_truncated(kind: str, kept: float) -> None:
    data = encode(picture(), kind)
    assert reason(data[: int(len(data) * kept)]) == "truncated"


def test_a_progressive_jpeg_that_lost_its_end_is_truncated() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    assert reason(data[:-20]) == "truncated"


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(10))
    parts = [chunk, idat, b"IEND"]
    body = b"".join(struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_bomb_is_refused_from_its_header_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(png_header(60_000, 60_000)) == "too_large"
        assert reason(png_header(9_000, 10_000)) == "too_large"  # Pillow alone would only warn


def test_bytes_pixels_sides_and_frames_are_bounded() -> None:
    data = encode(picture(), "PNG")
    assert reason(data, limits=ImageLimits(max_bytes=100)) == "too_large"
    assert reason(data, limits=ImageLimits(max_pixels=96 * 64 - 1)) == "too_large"
    assert reason(data, limits=ImageLimits(max_side_px=95)) == "too_large"
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(0, 250, 50)]
    for kind in ("PNG", "WEBP"):
        animated = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert reason(animated, limits=ImageLimits(max_frames=4)) == "too_large"


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(decode_image(data).pixels[0, 0]) == (255, 0, 0)


def test_no_pixels_no_bytes_and_nonsense() -> None:
    assert reason(b"") == "empty"
    assert reason(png_header(0, 5)) in ("empty", "undecodable")
    assert reason(b"\xff\xd8\xff\xe0" + bytes(50) + b"\xff\xd9") == "undecodable"
    assert reason(b"\x07\x01" * 50) == "undecodable"


def test_known_formats_that_are_not_accepted() -> None:
    for kind in ("TIFF", "BMP"):
        assert reason(encode(picture(), kind), f"image/{kind.lower()}") == "unsupported"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7\n%\xe2\xe3 /Encrypt 5 0 R" + bytes(300), "a PDF document"),
        (b"%PDF-1.4\n1 0 obj << >> endobj\ntrailer << /Encrypt 2 0 R >>", "a PDF document"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"\x1f\x8b\x08" + bytes(100), "a gzip archive"),
        (b"\x7fELF" + bytes(100), "a program"),
        (b"<!doctype html><title>404</title>", "utf-8"),
    ],
)
def test_documents_archives_and_pages_are_named_for_what_they_are(data: bytes, what: str) -> None:
    with pytest.raises(BadInput, match=f"the content is {what}") as caught:
        decode_image(data, "image/png")
    assert caught.value.reason == "mislabelled"


def made_png(depth: int, color: int, row: bytes, width: int, *extra: bytes) -> bytes:
    """One row, written by hand: what a writer of pictures would round or lose is in it as it is."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    parts = [head, *extra, b"IDAT" + zlib.compress(b"\0" + row), b"IEND"]
    body = b"".join(struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def test_deep_and_transparent_pictures_have_the_right_pixels() -> None:
    deep = struct.pack(">6H", 0x1234, 0xABCD, 0xFFFF, 0x0000, 0x80FF, 0x7F00)
    assert decode_image(made_png(16, 2, deep, 2)).pixels.tolist() == [[[0x12, 0xAB, 0xFF], [0, 0x80, 0x7F]]]
    grey = struct.pack(">3H", 0x1234, 0xABCD, 0x1235)
    shades = decode_image(made_png(16, 0, grey, 3)).pixels[0, :, 0].tolist()
    assert shades == [0x12, 0xAB, 0x12]
    clear = decode_image(made_png(16, 0, grey, 3, b"tRNS" + struct.pack(">H", 0x1234))).pixels
    assert clear[0, :, 0].tolist() == [255, 0xAB, 0x12]  # that very shade, not those that look like it
    with_alpha = struct.pack(">8H", 0xFFFF, 0, 0, 0, 0xFFFF, 0, 0, 0xFFFF)
    assert decode_image(made_png(16, 6, with_alpha, 2)).pixels.tolist() == [[[255, 255, 255], [255, 0, 0]]]
    palette = b"PLTE" + bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = decode_image(made_png(8, 3, bytes([0, 1, 2]), 3, palette, b"tRNS" + bytes([0, 255]))).pixels
    assert found.tolist() == [[[255, 255, 255], [0, 255, 0], [0, 0, 255]]]
    keyed = decode_image(
        made_png(8, 2, bytes([9, 8, 7, 1, 2, 3]), 2, b"tRNS" + struct.pack(">3H", 9, 8, 7))
    ).pixels
    assert keyed.tolist() == [[[255, 255, 255], [1, 2, 3]]]


def test_the_colours_of_print_come_back_and_profiles_change_nothing() -> None:
    from PIL import ImageCms

    flat = Image.new("RGB", (64, 64), (200, 60, 30))
    for data in (
        encode(flat.convert("CMYK"), "JPEG", quality=95),
        encode(flat, "JPEG", progressive=True, quality=95),
        encode(flat, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        encode(flat, "JPEG", icc_profile=b"no profile" * 20_000, quality=95),
        encode(flat, "WEBP", icc_profile=b"none", lossless=True),
    ):
        assert np.abs(decode_image(data).pixels.astype(int) - (200, 60, 30)).max() <= 4


def test_a_picture_is_shrunk_before_it_is_converted_where_less_will_do() -> None:
    for mode in ("RGB", "RGBA", "L", "CMYK", "P"):
        image = picture(700, 500).convert(mode)
        data = encode(image, "JPEG" if mode == "CMYK" else "PNG")
        whole, less = decode_image(data), decode_image(data, at_least_px=100)
        assert min(less.pixels.shape[:2]) >= 100 and less.pixels.shape[0] < 250, mode
        assert (less.width, less.height) == (whole.width, whole.height) == (700, 500)
        averaged = np.asarray(
            Image.fromarray(whole.pixels).resize(less.pixels.shape[1::-1], Image.Resampling.BOX)
        )
        assert np.abs(averaged.astype(int) - less.pixels).mean() < 3, mode
    keyed = Image.new("RGB", (400, 400), (9, 8, 7))
    data = encode(keyed, "PNG", transparency=(9, 8, 7))
    assert decode_image(data, at_least_px=100).pixels.min() == 255


def test_a_jpeg_of_endless_scans_is_refused_before_they_are_read() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data[:-2] + last * 100 + b"\xff\xd9").pixels.shape == (64, 96, 3)
    assert reason(data[:-2] + last * 200 + b"\xff\xd9") == "too_large"


def test_metadata_that_unpack_to_megabytes_cost_neither_memory_nor_time() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    for kind in (b"zTXt", b"iCCP"):
        assert reason(made_png(8, 2, bytes(3), 1, kind + b"a\0\0" + bomb)) == "undecodable"
    rows = made_png(8, 2, bytes(20_000_000), 1)  # more rows than the header says
    assert decode_image(rows).pixels.tolist() == [[[0, 0, 0]]]


def test_text_and_sound_declared_as_pictures_are_mislabelled() -> None:
    assert reason(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml") == "mislabelled"
    assert reason(b"fLaC" + bytes(100), "image/png") == "mislabelled"
    assert reason(encode(picture(), "PNG"), "text/plain") == "mislabelled"


def test_a_photograph_may_be_decoded_smaller() -> None:
    found = decode_image(encode(picture(960, 640), "JPEG"), at_least_px=224)
    assert min(found.pixels.shape[:2]) >= 224 and found.pixels.shape[0] < 640
    assert (found.width, found.height) == (960, 640)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on damaged EXIF
def test_damage_never_raises_anything_else() -> None:
    random = np.random.default_rng(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [encode(picture(), kind, **({"exif": exif} if kind != "GIF" else {})) for kind in FORMATS]
    for data in files:
        for _ in range(150):
            broken = bytearray(data)
            for at in random.integers(4, len(data), int(random.integers(1, 12))):
                broken[at if random.random() < 0.5 else at % 200] = random.integers(256)
            try:
                assert decode_image(bytes(broken)).pixels.ndim == 3
            except BadInput as error:
                assert error.reason
