"""A checkpoint's preprocessor as a size, a crop and one multiplication a channel: bytes in, bytes out.

The library's own preprocessors give floats, four bytes for one, and take twice as long as resizing does. A
`Fitting` is read off one of them and used only if it gives the same numbers on probes that would show a difference
(`fitting_of`), so no class of preprocessor needs to be known here. Knows nothing of networks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

# ConvNeXt's preprocessor crops below this size and warps from it on (transformers, image_processing_convnext).
_CROPPED_BELOW_PX = 384
_SAME = 1e-5  # of numbers around 1; a level of brightness is 4e-3
_PROBES_PX = ((97, 211), (301, 128), (40, 40))  # height, width
# A strip of 1 x 30,000 pixels, its short side made 224, would take 4 GB.
_MOST_SLENDER = 20


@dataclass(frozen=True, slots=True)
class Fitting:
    """`size`: (height, width) to warp to, or the short side to shrink to, or None; `crop`: height, width of the middle.

    The network's numbers are `pixels * scale + shift`, both (3,), in fp32.
    """

    size: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: Image.Resampling
    scale: F32
    shift: F32

    def pixels(self, picture: U8) -> U8:
        """(H, W, 3) -> (h, w, 3). Thread-safe. A picture smaller than the crop stands on black."""
        image = Image.fromarray(picture if isinstance(self.size, tuple) else less_slender(picture))
        if self.size is not None:
            image = image.resize(_fitted(self.size, image.width, image.height), self.resample)
        if self.crop is not None:
            height, width = self.crop
            left, top = _edge(image.width, width), _edge(image.height, height)
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image)


def less_slender(picture: U8) -> U8:
    """The middle of a picture that is over 20 times as long as wide, or as wide as long; any other as it is."""
    height, width = picture.shape[:2]
    longest = _MOST_SLENDER * min(height, width)
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return picture[top : top + longest, left : left + longest]


def fitting_of(processor: Any) -> Fitting | None:
    """The fitting that gives what `processor` (one of transformers', its Pillow form) gives; None if none does."""
    try:
        size, crop = _size(processor), _crop(processor)
        black, white = (_constant(processor, value) for value in (0, 255))
        scale = ((white - black) / 255).astype(np.float32)
        fitting = Fitting(size, crop, Image.Resampling(int(processor.resample)), scale, black)
        noise = np.random.default_rng(0)
        for height, width in _PROBES_PX:
            probe = noise.integers(0, 256, (height, width, 3)).astype(np.uint8)
            ours = fitting.pixels(probe) * fitting.scale + fitting.shift
            given = _numbers(processor, probe)
            if ours.shape != given.shape or np.abs(ours - given).max() > _SAME:
                return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # a preprocessor of another kind
    return fitting


def _size(processor: Any) -> tuple[int, int] | int | None:
    if not processor.do_resize:
        return None
    said = processor.size
    if said.height and said.width:
        return int(said.height), int(said.width)
    short = int(said.shortest_edge)
    cropped = getattr(processor, "crop_pct", None)
    if cropped is None:
        return short
    return int(short / cropped) if short < _CROPPED_BELOW_PX else (short, short)


def _crop(processor: Any) -> tuple[int, int] | None:
    if getattr(processor, "do_center_crop", None):
        return int(processor.crop_size.height), int(processor.crop_size.width)
    if getattr(processor, "crop_pct", None) is not None and processor.size.shortest_edge < _CROPPED_BELOW_PX:
        return int(processor.size.shortest_edge), int(processor.size.shortest_edge)
    return None


def _fitted(size: tuple[int, int] | int, width: int, height: int) -> tuple[int, int]:
    """Width and height after the resize; the long side is rounded down, as everywhere."""
    if isinstance(size, tuple):
        return size[1], size[0]
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _edge(whole: int, part: int) -> int:
    """Where the middle begins; below 0 where the whole is smaller. Rounded as transformers' `center_crop` does."""
    return (whole - part) // 2 if whole >= part else -((part - whole + 1) // 2)


def _constant(processor: Any, value: int) -> F32:
    """What a picture of one colour becomes (3,): no resize or crop changes it. Raises ValueError if more than that."""
    found = _numbers(processor, np.full((512, 512, 3), value, np.uint8))
    if np.ptp(found, axis=(0, 1)).max() > _SAME:
        raise ValueError("its numbers depend on the place")
    first: F32 = found[0, 0]
    return first


def _numbers(processor: Any, pixels: U8) -> F32:
    """(h, w, 3)"""
    done = processor(images=Image.fromarray(pixels), return_tensors="np")
    return np.asarray(done["pixel_values"][0], np.float32).transpose(1, 2, 0)
