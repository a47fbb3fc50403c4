"""Pictures -> the text in them, Chinese and English, by PP-OCRv4 (Apache-2.0) in the package rapidocr-onnxruntime.

Finds lines, turns them upright, reads them. Its ONNX files are pinned by hash. Needs the extra `ocr`. A picture is
one unit; the package reads one at a time, seconds each on a CPU core, so batches are small.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import BadInput, WeightsMismatch
from models.inference.weights import check_hash, inside
from models.media.image import decode_image
from models.media.language import detect
from models.tasks.texts import known_options
from models.types import Finding, Json, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Span, Unit

NAME, REVISION = "pp-ocr-v4-zh-en", "1"
_PACKAGE = "rapidocr_onnxruntime"
_MODELS = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}
_LONGEST_PX = 1600  # larger pictures are shrunk: small print is lost, seconds are won
_MAX_UNITS = 4
# The finder brings the short side to 736 px: of 1 x 200 px it would make 100 megapixels, gigabytes and minutes.
_MOST_SLENDER = 4
_SHORTEST_PX = 32


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of text: where it stands (left, top, right, bottom in pixels of the unit), and how sure it is, 0..1."""

    text: str
    box: tuple[float, float, float, float]
    score: float


class Ocr:
    """The task; see `models.types.Task`. A unit is a picture (H, W, 3) uint8, its output a list of `Line`."""

    name = "ocr"
    max_units = _MAX_UNITS
    batch_cost = _MAX_UNITS * _LONGEST_PX * _LONGEST_PX

    def __init__(self, reader: Any) -> None:
        combined = hashlib.sha256("".join(_MODELS.values()).encode()).hexdigest()
        self.model = ModelInfo(NAME, REVISION, combined, "float32")
        self._reader = reader

    @classmethod
    def load(cls, options: LoadOptions) -> "Ocr":
        """Runs on the CPU whatever `options.device` is. Raises WeightsMismatch without the extra `ocr`."""
        known_options(cls.name, options)
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise WeightsMismatch("text in pictures needs more packages; install headrace[ocr]")
        folder = Path(spec.origin).parent / "models"
        for name, sha256 in _MODELS.items():
            check_hash(inside(folder, name), sha256)
        from rapidocr_onnxruntime import RapidOCR

        return cls(RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any picture, except drawings in XML."""
        kind = media_type.partition(";")[0].strip().lower()
        return kind.startswith("image/") and not kind.endswith("+xml")

    def prepare(self, payload: Payload) -> Prepared:
        """Raises BadInput as `decode_image` does."""
        picture = decode_image(payload.data, payload.media_type, at_least_px=_LONGEST_PX)
        image = Image.fromarray(picture.pixels)
        image.thumbnail((_LONGEST_PX, _LONGEST_PX), Image.Resampling.LANCZOS)
        pixels = _broad(np.asarray(image))
        return Prepared((Unit(pixels.shape[0] * pixels.shape[1], pixels),))

    def forward(self, units: Sequence[Unit]) -> list[list[Line]]:
        """The lines of each picture, as they are read."""
        return [_in_order(self._read(unit.data)) for unit in units]

    def finish(self, prepared: Prepared, outputs: Sequence[list[Line]]) -> Outcome:
        """One finding: all text, empty if there is none; a span of characters a piece. Raises BadInput `not_finite`."""
        lines = outputs[0]
        text = ""
        spans = []
        for at, line in enumerate(lines):
            if not np.isfinite(line.score):
                raise BadInput("not_finite", f"{self.model.name} gave a score that is not finite")
            if at:
                text += " " if _same_row(lines[at - 1], line) else "\n"
            spans.append(Span(len(text), len(text) + len(line.text), line.text, min(line.score, 1.0)))
            text += line.text
        detail: dict[str, Json] = {"language": detect(text).code if text else None, "pieces": len(lines)}
        score = min(float(np.mean([line.score for line in lines])), 1.0) if lines else None
        return Outcome((Finding(self.name, text, score, spans=tuple(spans), detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """A blank picture: the network that looks for lines runs, the one that reads them loads with it."""
        out = io.BytesIO()
        Image.fromarray(np.full((64, 320, 3), 255, np.uint8)).save(out, "PNG")
        return [Payload("image/png", out.getvalue())]

    def _read(self, pixels: NDArray[np.uint8]) -> list[Line]:
        found, _ = self._reader(np.ascontiguousarray(pixels[:, :, ::-1]))  # it takes BGR
        lines = []
        for corners, text, score in found or ():
            x, y = [corner[0] for corner in corners], [corner[1] for corner in corners]
            if text.strip():
                lines.append(Line(text.strip(), (min(x), min(y), max(x), max(y)), float(score)))
        return lines


def _broad(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A slender or tiny picture in the middle of one that is not, on its own most frequent kind of colour."""
    height, width = pixels.shape[:2]
    least = max(_SHORTEST_PX, -(-max(height, width) // _MOST_SLENDER))
    if min(height, width) >= least:
        return pixels
    colour = np.median(pixels.reshape(-1, 3), axis=0).astype(np.uint8)
    whole = np.broadcast_to(colour, (max(height, least), max(width, least), 3)).copy()
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    whole[top : top + height, left : left + width] = pixels
    return whole


def _same_row(one: Line, other: Line) -> bool:
    """Whether two pieces stand beside each other: the middle of each is within the other's height."""
    middles = [(line.box[1] + line.box[3]) / 2 for line in (one, other)]
    return one.box[1] <= middles[1] <= one.box[3] and other.box[1] <= middles[0] <= other.box[3]


def _in_order(lines: list[Line]) -> list[Line]:
    """Row by row from the top, each from the left."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box[1]):
        if rows and _same_row(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box[0])]
