"""Taggers from a user's folder in Hugging Face layout: image classifiers of any family the library knows (ViT, DeiT,
BEiT, ConvNeXt, EfficientNet, Swin, ...), and how pictures are fitted to such networks. Nothing is fetched.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForImageClassification

from models.errors import WeightsMismatch
from models.inference.configuration import read_json
from models.inference.devices import upload_to
from models.inference.pretrained import load_network
from models.inference.weights import inside, user_model_info
from models.media.fitting import fitting_of, less_slender
from models.media.image import Picture
from models.networks.precision import dtype_name, torch_dtype
from models.types import LoadOptions


class Pictures:
    """How pictures reach a checkpoint's network: as its preprocessor_config.json says, as bytes where that can be."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        """Raises WeightsMismatch if the folder's preprocessor cannot be used, or gives no fixed size."""
        self._upload, self._dtype = upload_to(device), dtype
        try:
            self._processor = _pil_processor(folder).from_pretrained(folder, local_files_only=True)
            self._fitting = fitting_of(self._processor)
            wide, high = (self.fit(Picture(np.full(shape, 127, np.uint8), 0, 0, "")) for shape in _SHAPES)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsMismatch(f"{folder}/preprocessor_config.json cannot be used ({error})") from error
        if wide.shape != high.shape or wide.ndim != 3:
            raise WeightsMismatch(
                f"{folder}/preprocessor_config.json gives no fixed size; set a crop or a size"
            )
        sides = wide.shape[:2] if self._fitting else wide.shape[1:]
        self.side_px, self.pixels = max(sides), int(np.prod(sides))
        if self._fitting:
            self._scale, self._shift = (
                torch.from_numpy(each).to(device)[:, None, None]
                for each in (self._fitting.scale, self._fitting.shift)
            )

    def fit(self, picture: Picture) -> NDArray[Any]:
        """(H, W, 3) uint8 where the preprocessor is a `Fitting`, else its numbers (3, H, W) fp32. Thread-safe."""
        if self._fitting:
            return self._fitting.pixels(picture.pixels)
        image = Image.fromarray(less_slender(picture.pixels))
        return np.asarray(self._processor(images=image, return_tensors="np")["pixel_values"][0], np.float32)

    def to_device(self, batch: NDArray[Any]) -> torch.Tensor:
        """(B, ...) as `fit` gives them -> (B, 3, H, W) in the network's number format, channels last of bytes."""
        pixels = self._upload(batch)
        if self._fitting:
            pixels = pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift
        return pixels.to(self._dtype)


class CheckpointTagger:
    """An image classifier: config.json, preprocessor_config.json, model.safetensors."""

    def __init__(self, options: LoadOptions, folder: Path, max_units: int) -> None:
        dtype = torch_dtype(options.dtype, options.device)
        network: Any = load_network(AutoModelForImageClassification, folder)
        self._pictures = Pictures(folder, options.device, dtype)
        self.fit, self.side_px, self.pixels = (
            self._pictures.fit,
            self._pictures.side_px,
            self._pictures.pixels,
        )
        self._network = network.to(options.device, dtype, memory_format=torch.channels_last)
        self.max_units = max_units
        # Classes that do not exclude each other were trained with one sigmoid each.
        self.exclusive = network.config.problem_type != "multi_label_classification"
        labels: Mapping[int, str] = network.config.id2label
        self.classes = [labels[n] for n in range(len(labels))]
        self.info = user_model_info(folder, dtype_name(dtype))

    def scores(self, batch: NDArray[Any]) -> torch.Tensor:
        """(B, ...) as `fit` gives them -> (B, classes)."""
        logits: torch.Tensor = self._network(pixel_values=self._pictures.to_device(batch)).logits.float()
        return logits.softmax(-1) if self.exclusive else logits.sigmoid()


_SHAPES = ((64, 96, 3), (96, 64, 3))


def _pil_processor(folder: Path) -> Any:
    """The Pillow class of the checkpoint's preprocessor.

    Named outright: the Auto class takes torchvision's where that is installed and fails where it is not, and
    the two resize differently. Raises WeightsMismatch for a preprocessor that has no such class.
    """
    said = read_json(inside(folder, "preprocessor_config.json"))
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type"))
    name = re.sub("(FeatureExtractor|ImageProcessor(Fast|Pil)?)$", "ImageProcessorPil", kind)
    if not re.fullmatch("[A-Za-z0-9]+ImageProcessorPil", name) or not hasattr(transformers, name):
        raise WeightsMismatch(f"{folder} needs the preprocessor {kind}, which has no Pillow form here")
    return getattr(transformers, name)
