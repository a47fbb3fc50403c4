"""The embedded picture networks in bfloat16 beside float32, and each picture alone beside its batch."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.registry import task_class
from models.types import LoadOptions, Payload, Task

pytestmark = pytest.mark.models
PICTURES = Path(__file__).parents[3] / "golden" / "pictures"


def crops() -> list[Payload]:
    """Parts of the two photographs, of many sizes."""
    random = np.random.default_rng(2)
    made = []
    for name in ("chelsea.jpg", "coffee.jpg"):
        image = Image.open(PICTURES / name).convert("RGB")
        for _ in range(4):
            width, height = (int(side * random.uniform(0.5, 1.0)) for side in image.size)
            left, top = (
                random.integers(0, image.width - width + 1),
                random.integers(0, image.height - height + 1),
            )
            out = io.BytesIO()
            image.crop((left, top, left + width, top + height)).save(out, "JPEG", quality=90)
            made.append(Payload("image/jpeg", out.getvalue()))
    return made


@pytest.mark.parametrize("name", ["tag", "safety"])
def test_number_formats_and_batches_agree(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.getbasetemp() / "weights"
    outputs: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
    for dtype in ("float32", "bfloat16"):
        task: Task = task_class(name).load(LoadOptions(cache=cache, dtype=dtype))
        units = [task.prepare(payload).units[0] for payload in crops()]
        together = np.array(task.forward(units))
        alone = np.concatenate([np.array(task.forward([unit])) for unit in units])
        tolerance = 1e-5 if dtype == "float32" else 0.03
        assert np.abs(together - alone).max() < tolerance
        assert (labels(together) == labels(alone)).all()
        outputs[dtype] = together
    assert np.abs(outputs["float32"] - outputs["bfloat16"]).max() < 0.05
    assert (labels(outputs["float32"]) == labels(outputs["bfloat16"])).all()
    assert np.ptp(outputs["float32"], axis=0).max() > 1e-4, "outputs that are all one prove nothing"


def labels(outputs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The likeliest class, or what `safety` makes of a score."""
    return outputs.argmax(1) if outputs.ndim > 1 else np.digitize(outputs, (0.4, 0.8))
