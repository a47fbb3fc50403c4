"""Tags of real pictures, and a user's own classifier from a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput, WeightsMismatch
from models.tasks.ocr import Ocr
from models.tasks.safety import Safety
from models.tasks.tag import Tag
from models.types import LoadOptions, Payload, Prepared

PICTURES = Path(__file__).parents[3] / "golden" / "pictures"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "weights"


@pytest.fixture(scope="module")
def tag(cache: Path) -> Tag:
    return Tag.load(LoadOptions(cache=cache))


def tags(task: Tag, path: Path) -> list[str]:
    prepared = task.prepare(Payload("image/jpeg", path.read_bytes()))
    (finding,) = task.finish(prepared, task.forward(prepared.units)).findings
    assert finding.score == max(finding.scores.values())
    return list(finding.scores)


@pytest.mark.models
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pictures_get_the_tags_they_show(cache: Path, dtype: str) -> None:
    task = Tag.load(LoadOptions(cache=cache, dtype=dtype))
    assert task.model.dtype == dtype
    assert tags(task, PICTURES / "chelsea.jpg")[0] in ("tabby cat", "tiger cat", "Egyptian Mau")
    assert tags(task, PICTURES / "coffee.jpg")[0] in ("espresso", "cup", "coffee mug")


@pytest.mark.models
def test_the_finding_tells_size_and_five_tags(tag: Tag) -> None:
    prepared = tag.prepare(Payload("image/jpeg", (PICTURES / "coffee.jpg").read_bytes()))
    (finding,) = tag.finish(prepared, tag.forward(prepared.units)).findings
    assert finding.detail == {"width": 600, "height": 400}
    assert isinstance(finding.value, list) and len(finding.value) == 5
    assert finding.value[0] == {"tag": next(iter(finding.scores)), "score": finding.score}


@pytest.mark.models
def test_scores_that_are_not_finite_are_an_error(tag: Tag) -> None:
    with pytest.raises(BadInput) as caught:
        tag.finish(Prepared((), {}), [np.full(1000, np.nan, np.float32)])
    assert caught.value.reason == "not_finite"


@pytest.mark.models
def test_damaged_weights_in_the_cache_are_refused(cache: Path, tag: Tag, tmp_path: Path) -> None:
    shutil.copytree(next(cache.glob("efficientnet-lite0-*")), tmp_path / "efficientnet-lite0-1")
    weights = tmp_path / "efficientnet-lite0-1" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WeightsMismatch, match="sha256"):
        Tag.load(LoadOptions(cache=tmp_path))


@pytest.mark.parametrize("top", [0, 101, "five", True, 2.5])
def test_a_bad_option_stops_the_start(tmp_path: Path, top: object) -> None:
    with pytest.raises(ValueError, match="top"):
        Tag.load(LoadOptions(cache=tmp_path, options={"top": top}))  # type: ignore[dict-item]


def test_a_misspelt_option_stops_the_start(tmp_path: Path) -> None:
    for name, task in (("leest", Tag), ("blok", Safety), ("top", Ocr)):
        with pytest.raises(ValueError, match=f"{name} is no option"):
            task.load(LoadOptions(cache=tmp_path, options={name: 1}))


def test_only_pictures_are_accepted() -> None:
    assert Tag.accepts("image/png") and Tag.accepts("IMAGE/JPEG; q=1")
    assert not Tag.accepts("image/svg+xml") and not Tag.accepts("audio/wav")


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "bird"},
        label2id={"cat": 0, "dog": 1, "bird": 2},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_users_folder_gives_its_own_classes(vit_folder: Path, tmp_path: Path) -> None:
    task = Tag.load(LoadOptions(cache=tmp_path, folder=vit_folder))
    assert set(tags(task, PICTURES / "coffee.jpg")) == {"cat", "dog", "bird"}
    assert task.model.name == vit_folder.name
    assert task.prepare(Payload("", (PICTURES / "coffee.jpg").read_bytes())).units[0].length == 32 * 32


def test_a_folder_that_would_get_random_weights_is_refused(vit_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(vit_folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "classifier" not in k}, broken / "model.safetensors")
    with pytest.raises(WeightsMismatch, match="lacks"):
        Tag.load(LoadOptions(cache=tmp_path, folder=broken))


def test_a_folder_with_pickles_only_is_refused(vit_folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(vit_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match="safetensors"):
        Tag.load(LoadOptions(cache=tmp_path, folder=pickled))
