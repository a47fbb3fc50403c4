"""Pictures as bytes -> RGB uint8 arrays, upright, checked before a pixel is decoded.

The format is told by content and its Pillow plug-in is called by name: no other plug-in sees the bytes, and
Pillow's process-wide state (its limits, the warnings filter) is neither relied on nor changed.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.errors import BadInput
from models.media.containers import is_cut
from models.media.sniff import require

U8 = NDArray[np.uint8]

_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
}
# What Pillow's parsers raise on hostile bytes, found by mutating files; wider than its documentation.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_SHRINKABLE = ("L", "LA", "RGB", "RGBA", "CMYK")
_ORIENTATION_TAG = 0x0112
# EXIF 2.3, tag 274: how the stored picture must be turned to stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may be at most. Of an animation only the first frame is decoded."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_side_px: int = 30_000
    max_frames: int = 2_000
    max_scans: int = (
        200  # of a JPEG; writers make about ten. One of 75 bytes costs 30 ms of a 50-megapixel picture
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """`pixels` (H, W, 3) RGB, upright; `width`, `height` as announced, upright, before any reduction."""

    pixels: U8
    width: int
    height: int
    container: str


def decode_image(
    data: bytes, media_type: str = "", limits: ImageLimits | None = None, at_least_px: int | None = None
) -> Picture:
    """Decode the first frame. Transparency is laid on white; 16-bit grey keeps its upper 8 bits. Thread-safe.

    `at_least_px`: the caller needs no side below this, so a JPEG may be decoded at 1/2, 1/4 or 1/8 (several
    times faster on photographs), and whatever comes larger is shrunk by a whole number before it is converted.
    Colour profiles are not applied: networks were trained on pictures read without them.
    Raises BadInput: `empty` (no bytes or no pixels), `mislabelled`, `undecodable`, `truncated`, `too_large`
    (bytes, pixels, sides, frames, scans) or `unsupported`.
    """
    limits = limits or ImageLimits()
    if len(data) > limits.max_bytes:
        raise BadInput("too_large", f"{len(data)} bytes of picture, at most {limits.max_bytes} are accepted")
    container = require(data, media_type, "image")
    if container not in _PLUGINS:
        raise BadInput("unsupported", f"pictures in {container} are not accepted")
    # A marker that begins a scan is never among the pixels of one; what metadata hold of it by chance is far below.
    if container == "jpeg" and data.count(b"\xff\xda") > limits.max_scans:
        raise BadInput("too_large", f"over {limits.max_scans} scans in one picture")
    if is_cut(data, container):
        raise BadInput("truncated", f"the {container} data end before the end they announce")
    try:
        with _PLUGINS[container](io.BytesIO(data)) as image:
            _check_header(image, limits)
            width, height = image.size
            if at_least_px is not None and container == "jpeg":
                image.draft("RGB", (at_least_px, at_least_px))
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _rgb(_shrunk(image, at_least_px))
    except BadInput:
        raise
    except _PILLOW_ERRORS as error:
        reason = "truncated" if "truncated" in str(error) else "undecodable"
        raise BadInput(reason, f"the {container} data cannot be decoded") from error
    if turn is not None:
        rgb = rgb.transpose(turn)
        if turn in (_UPRIGHT[5], _UPRIGHT[6], _UPRIGHT[7], _UPRIGHT[8]):
            width, height = height, width
    return Picture(np.asarray(rgb), width, height, container)


def _check_header(image: ImageFile, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise BadInput("empty", f"a picture of {width} x {height} pixels")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise BadInput("too_large", f"{width} x {height} pixels, at most {limits.max_pixels} in all")
    # GIF counts its frames by reading them all, so it is not asked.
    frames = 1 if isinstance(image, GifImageFile) else getattr(image, "n_frames", 1)
    if frames > limits.max_frames:
        raise BadInput("too_large", f"{frames} frames, at most {limits.max_frames}")


def _orientation(image: ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _PILLOW_ERRORS:
        return 1  # a damaged EXIF block costs the turn, not the picture


def _shrunk(image: Image.Image, at_least_px: int | None) -> Image.Image:
    """By the largest whole number that leaves both sides at `at_least_px` or above."""
    times = min(image.size) // at_least_px if at_least_px else 1
    if times < 2:
        return image
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if "transparency" in image.info or image.mode not in _SHRINKABLE:
        return image  # one colour is transparent, which means would blur
    return image.reduce(times)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip, not scale
        wide = np.asarray(image)
        grey = (wide >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[wide == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")
