"""Image classifiers from folders, each family beside transformers' own preprocessor and network, at tiny sizes."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from models.errors import WeightsMismatch
from models.media.fitting import fitting_of, less_slender
from models.media.image import Picture
from models.tasks.tag import Tag
from models.tasks.tag_folder import CheckpointTagger
from models.types import LoadOptions, Payload

NAMES = {0: "cat", 1: "dog", 2: "bird", 3: "fish"}
CLASSES: dict[str, Any] = {"id2label": NAMES, "label2id": {name: n for n, name in NAMES.items()}}
ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
SQUARE = {"height": 32, "width": 32}


def vit() -> tuple[Any, Any]:
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**ENCODER, **CLASSES))
    return network, transformers.ViTImageProcessorPil(size=SQUARE)


def deit() -> tuple[Any, Any]:
    network = transformers.DeiTForImageClassificationWithTeacher(
        transformers.DeiTConfig(**ENCODER, **CLASSES)
    )
    return network, transformers.DeiTImageProcessorPil(size={"height": 40, "width": 40}, crop_size=SQUARE)


def beit() -> tuple[Any, Any]:
    network = transformers.BeitForImageClassification(transformers.BeitConfig(**ENCODER, **CLASSES))
    return network, transformers.BeitImageProcessorPil(size=SQUARE, image_mean=[0.4, 0.5, 0.6])


def convnext() -> tuple[Any, Any]:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], **CLASSES)
    return transformers.ConvNextForImageClassification(config), transformers.ConvNextImageProcessorPil(
        size={"shortest_edge": 64}, crop_pct=0.8
    )


def efficientnet() -> tuple[Any, Any]:
    config = transformers.EfficientNetConfig(
        image_size=48, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320, **CLASSES
    )
    return transformers.EfficientNetForImageClassification(
        config
    ), transformers.EfficientNetImageProcessorPil(size={"height": 48, "width": 48}, rescale_offset=True)


def levit() -> tuple[Any, Any]:
    """Its preprocessor is no `Fitting`: the library's own is run."""
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], **CLASSES)
    return transformers.ConvNextForImageClassification(config), transformers.LevitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "vit": vit,
    "deit": deit,
    "beit": beit,
    "convnext": convnext,
    "efficientnet": efficientnet,
    "levit": levit,
}


def saved(family: str, folder: Path) -> Path:
    """Random, with scores far enough apart that a wrong pixel shows."""
    torch.manual_seed(3)
    network, processor = FAMILIES[family]()
    for name, tensor in network.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.3, 0.5)
        elif tensor.ndim == 1 and name.endswith("weight"):
            tensor.fill_(1.0)
        elif tensor.ndim > 1:
            tensor.normal_(0, 1 / np.sqrt(tensor[0].numel()))
        elif "running_mean" in name or name.endswith("bias"):
            tensor.normal_(0, 0.1)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def pictures() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    random = np.random.default_rng(4)
    made = []
    for width, height in ((90, 61), (48, 130), (33, 33)):
        rough = Image.fromarray(random.integers(0, 256, (9, 9, 3)).astype(np.uint8))
        made.append(np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC)))
    return made


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_gives_what_transformers_gives(family: str, tmp_path: Path) -> None:
    folder = saved(family, tmp_path / family)
    tagger = CheckpointTagger(LoadOptions(tmp_path), folder, 16)
    assert tagger.classes == list(NAMES.values())
    _, processor = FAMILIES[family]()
    oracle = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    images = pictures()
    with torch.inference_mode():
        expected = torch.cat(
            [
                oracle(**processor(images=Image.fromarray(image), return_tensors="pt")).logits
                for image in images
            ]
        ).log_softmax(1)
        fitted = [tagger.fit(Picture(image, 0, 0, "png")) for image in images]
        found = tagger.scores(np.stack(fitted)).log()
    assert np.ptp(expected.numpy(), axis=0).max() > 0.02, "pictures that all look alike prove nothing"
    assert torch.allclose(found, expected, atol=1e-4)
    assert fitted[0].dtype == (np.float32 if family == "levit" else np.uint8)


def test_batches_and_number_formats_agree_with_each_alone(tmp_path: Path) -> None:
    for family in ("vit", "convnext", "efficientnet"):
        folder = saved(family, tmp_path / family)
        given = [Image.fromarray(image) for image in pictures()]
        payloads = []
        for image in given:
            out = io.BytesIO()
            image.save(out, "PNG")
            payloads.append(Payload("image/png", out.getvalue()))
        answers = []
        for dtype in ("float32", "bfloat16"):
            task = Tag.load(LoadOptions(tmp_path, folder=folder, dtype=dtype))
            units = [task.prepare(payload).units[0] for payload in payloads]
            together = np.stack(task.forward(units))
            alone = np.stack([task.forward([unit])[0] for unit in units])
            assert np.array_equal(together.argmax(1), alone.argmax(1))
            assert np.allclose(together, alone, atol=1e-5 if dtype == "float32" else 2e-2)
            answers.append(together)
        assert np.allclose(*answers, atol=5e-2), family
        assert np.array_equal(answers[0].argmax(1), answers[1].argmax(1)), family


def test_classes_that_do_not_exclude_each_other_are_scored_apart(tmp_path: Path) -> None:
    folder = saved("vit", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "problem_type": "multi_label_classification",
        "id2label": {"0": "cat", "1": "cat", "2": "x", "3": "y"},
    }
    (folder / "config.json").write_text(json.dumps(config | {"label2id": {"cat": 0, "x": 2, "y": 3}}))
    task = Tag.load(LoadOptions(tmp_path, folder=folder, options={"top": 3, "least": 0.2}))
    prepared = task.prepare(task.examples()[0])
    (each,) = task.forward(prepared.units)
    oracle = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    assert task.finish(prepared, [each]).findings[0].scores["cat"] == pytest.approx(max(each[:2]))
    with torch.inference_mode():
        given = oracle(
            pixel_values=torch.from_numpy(prepared.units[0].data / np.float32(127.5) - 1).permute(2, 0, 1)[
                None
            ]
        )
    assert each == pytest.approx(given.logits.sigmoid()[0].numpy(), abs=1e-4)
    few = task.finish(prepared, [np.array([0.1, 0.3, 0.19, 0.9], np.float32)]).findings[0]
    assert list(few.scores) == ["y", "cat"]
    none = task.finish(prepared, [np.zeros(4, np.float32)]).findings[0]
    assert (none.value, none.score, none.scores) == ([], None, {})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("CLIP", {"size": 224, "crop_size": 224}),
        ("ConvNext", {"size": 384}),
        ("ConvNext", {"size": 224, "crop_pct": 0.95}),
        ("ViT", {"resample": 3, "size": {"height": 60, "width": 90}}),
        ("EfficientNet", {"do_center_crop": True, "include_top": False}),
        ("DeiT", {"size": 256, "crop_size": 224, "do_normalize": False}),
        ("Siglip", {"do_rescale": False}),
    ],
)
def test_settings_of_preprocessors_are_read_off(kind: str, options: dict[str, Any]) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**options)
    fitting = fitting_of(processor)
    assert fitting is not None
    for image in pictures():
        given = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0]
        ours = fitting.pixels(image) * fitting.scale + fitting.shift
        assert np.allclose(ours.transpose(2, 0, 1), given, atol=1e-5, rtol=1e-5)


def test_a_strip_is_not_blown_up_to_gigabytes() -> None:
    fitting = fitting_of(transformers.CLIPImageProcessorPil())
    assert fitting is not None
    for shape in ((1, 30_000, 3), (30_000, 1, 3)):
        strip = np.full(shape, 200, np.uint8)
        assert max(less_slender(strip).shape) == 20
        assert fitting.pixels(strip).shape == (224, 224, 3)


def test_a_preprocessor_that_gives_no_fixed_size_is_refused(tmp_path: Path) -> None:
    folder = saved("vit", tmp_path / "vit")
    for said, why in (
        ({"do_resize": False}, "no fixed size"),
        ({"size": {"side": 3}}, "cannot be used"),
        ({"image_processor_type": "OwnImageProcessor"}, "no Pillow form"),
    ):
        other = shutil.copytree(folder, tmp_path / why.replace(" ", "-"))
        config = json.loads((other / "preprocessor_config.json").read_text()) | said
        (other / "preprocessor_config.json").write_text(json.dumps(config))
        with pytest.raises(WeightsMismatch, match=why):
            Tag.load(LoadOptions(tmp_path, folder=other))
