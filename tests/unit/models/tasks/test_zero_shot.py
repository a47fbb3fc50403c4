"""Tags by a newsroom's own words: CLIP and SigLIP folders beside transformers' whole models, at tiny sizes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from models.errors import WeightsMismatch
from models.media.image import Picture
from models.tasks import zero_shot
from models.tasks.tag import Tag
from models.tasks.zero_shot import ZeroShotTagger, label_texts
from models.types import LoadOptions

LABELS = ["a goal", "Protest!", "court room", "flood"]
TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WORDS = ["this", "is", "a", "photo", "of", "an", "goal", "protest", "court", "room", "flood", "."]
LOOK = {"image_size": 32, "patch_size": 8}


def clip(folder: Path) -> Path:
    """Its tokenizer falls apart into letters, as a byte-level one does that has no merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: n for n, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    text = TOWER | {"vocab_size": len(vocab), "eos_token_id": len(vocab) - 1, "max_position_embeddings": 40}
    torch.manual_seed(1)
    network = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=TOWER | LOOK, projection_dim=8)
    )
    return _saved(network, transformers.CLIPImageProcessorPil(size=32, crop_size=32), folder)


def siglip(folder: Path) -> Path:
    """As SigLIP 2's folders: padding is the tokenizer's 0, where the configuration says 1."""
    vocab = {token: n for n, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "GemmaTokenizer", "pad_token": {"content": "<pad>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    text = TOWER | {"vocab_size": len(vocab), "max_position_embeddings": 12}
    torch.manual_seed(1)
    network = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=TOWER | LOOK)
    )
    return _saved(network, transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}), folder)


def _saved(network: Any, processor: Any, folder: Path) -> Path:
    for name, tensor in network.state_dict().items():
        if name == "logit_scale":
            tensor.fill_(2.5)
        elif name == "logit_bias":
            tensor.fill_(-3.0)
        elif tensor.ndim > 1:
            tensor.normal_(0, 1 / np.sqrt(tensor[0].numel()))
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("two-towers")
    return {"clip": clip(base / "clip"), "siglip": siglip(base / "siglip")}


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(5)
    rough = [Image.fromarray(random.integers(0, 256, (7, 7, 3)).astype(np.uint8)) for _ in range(3)]
    return [
        one.resize(size, Image.Resampling.BICUBIC)
        for one, size in zip(rough, ((90, 50), (40, 77), (32, 32)), strict=True)
    ]


def seen(tagger: ZeroShotTagger) -> np.ndarray[Any, Any]:
    return np.stack([tagger.fit(Picture(np.asarray(image), 0, 0, "png")) for image in pictures()])


def test_clip_gives_what_transformers_gives(folders: dict[str, Path], tmp_path: Path) -> None:
    folder, template = folders["clip"], "a photo of {}."
    options = LoadOptions(tmp_path, folder, options={"labels": LABELS, "template": template})
    tagger = ZeroShotTagger(options, folder, 16)
    words = transformers.AutoTokenizer.from_pretrained(folder)(
        [template.replace("{}", label) for label in LABELS], padding=True, return_tensors="pt"
    )
    images = transformers.CLIPImageProcessorPil(size=32, crop_size=32)(images=pictures(), return_tensors="pt")
    with torch.inference_mode():
        expected = transformers.CLIPModel.from_pretrained(folder).eval()(**words, **images).logits_per_image
        found, scores = tagger.logits(seen(tagger)), tagger.scores(seen(tagger))
    assert np.ptp(expected.numpy(), axis=0).max() > 0.1, "pictures that all look alike prove nothing"
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(scores, expected.softmax(1), atol=1e-5)


def test_siglip_gives_what_transformers_gives(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["siglip"]
    tagger = ZeroShotTagger(LoadOptions(tmp_path, folder, options={"labels": LABELS}), folder, 16)
    vocab = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    ids = torch.zeros((4, 12), dtype=torch.long)
    for row, label in enumerate(("a goal .", "protest ! .", "court room .", "flood .")):
        found = [vocab.get(word, 2) for word in f"this is a photo of {label}".replace("! .", "!.").split()]
        ids[row, : len(found) + 1] = torch.tensor([*found, 1])
    images = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})(
        images=pictures(), return_tensors="pt"
    )
    with torch.inference_mode():
        oracle = transformers.SiglipModel.from_pretrained(folder).eval()
        expected = oracle(input_ids=ids, **images).logits_per_image
        found, scores = tagger.logits(seen(tagger)), tagger.scores(seen(tagger))
    assert np.ptp(expected.numpy(), axis=0).max() > 0.1, "pictures that all look alike prove nothing"
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(scores, expected.sigmoid(), atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_task_tells_the_newsrooms_tags(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    options: dict[str, Any] = {
        "labels": {"goal": ["a goal", "the goal"], "flood": "flood", "court": "court room"}
    }
    task = Tag.load(LoadOptions(tmp_path, folders[family], options=options | {"top": 2}))
    prepared = task.prepare(task.examples()[0])
    (finding,) = task.finish(prepared, task.forward(prepared.units)).findings
    assert len(finding.scores) == 2 and finding.scores.keys() <= {"goal", "flood", "court"}
    assert finding.score == max(finding.scores.values())
    bf16 = Tag.load(LoadOptions(tmp_path, folders[family], dtype="bfloat16", options=options | {"top": 2}))
    (other,) = bf16.finish(prepared, bf16.forward(prepared.units)).findings
    assert other.scores == pytest.approx(finding.scores, abs=0.05)
    assert bf16.model.dtype == "bfloat16" and bf16.model.revision == task.model.revision


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_texts_are_embedded_once_and_again_when_anything_changes(
    folders: dict[str, Path], tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = []
    really = zero_shot._embed

    def counted(*given: Any) -> torch.Tensor:
        embedded.append(given)
        return really(*given)

    monkeypatch.setattr(zero_shot, "_embed", counted)
    changes: list[dict[str, Any]] = [
        {"labels": LABELS},
        {"labels": LABELS},
        {"labels": LABELS[::-1]},
        {"labels": LABELS, "template": "a {}"},
    ]
    tasks = [Tag.load(LoadOptions(tmp_path, folders[family], options=options)) for options in changes]
    assert len(embedded) == 3
    assert tasks[0].model == tasks[1].model
    assert len({task.model.revision for task in tasks}) == 3
    other = shutil.copytree(folders[family], tmp_path / "other")
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": [0.1, 0.2, 0.3]}))
    assert Tag.load(LoadOptions(tmp_path, other, options=changes[0])).model != tasks[0].model
    assert len(embedded) == 4


def test_several_texts_of_a_label_are_averaged(folders: dict[str, Path]) -> None:
    texts = label_texts(
        {"labels": {"goal": ["a goal", "the goal"], "x": "flood"}, "template": ["{}", "photo of {}"]}
    )
    assert texts.texts == (
        ("a goal", "photo of a goal", "the goal", "photo of the goal"),
        ("flood", "photo of flood"),
    )
    found = zero_shot._embed(folders["clip"], "clip", texts)
    single = [
        zero_shot._embed(folders["clip"], "clip", zero_shot.LabelTexts(("n",), ((text,),)))[0]
        for text in texts.texts[0]
    ]
    mean = torch.stack(single).mean(0)
    assert torch.allclose(found[0], mean / mean.norm(), atol=1e-5)


def test_the_first_siglip_was_trained_without_punctuation() -> None:
    assert zero_shot._as_trained("A  photo of Rock'n'Roll.", "SiglipTokenizer") == "a photo of rocknroll"
    assert zero_shot._as_trained("A photo of Rock'n'Roll.", "GemmaTokenizer") == "a photo of rock'n'roll."


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": ["one"]},
        {"labels": ["same", "same"]},
        {"labels": ["a", 5]},
        {"labels": ["a", " "]},
        {"labels": {"a": "x", "b": []}},
        {"labels": {"a": "x", "b": "y" * 301}},
        {"labels": [f"l{n}" for n in range(2_001)]},
        {"labels": ["a", "b"], "template": "a photo"},
        {"labels": ["a", "b"], "template": "{} {}"},
        {"labels": ["a", "b"], "template": 7},
        {"labels": ["a", "b"], "template": []},
        {"labels": ["a", "b " * 60]},
    ],
)
def test_labels_that_make_no_sense_stop_the_start(
    folders: dict[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    for folder in folders.values():
        with pytest.raises(ValueError, match="tag: "):
            Tag.load(LoadOptions(tmp_path, folder, options=options))


def test_labels_for_a_network_with_classes_of_its_own_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels is for a folder that holds CLIP or SigLIP"):
        Tag.load(LoadOptions(tmp_path, options={"labels": LABELS}))


@pytest.mark.parametrize("lost", ["tokenizer.json", "logit_scale", "text_model"])
def test_a_folder_that_lacks_something_is_refused_by_name(
    folders: dict[str, Path], tmp_path: Path, lost: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["clip"], tmp_path / "broken")
    if lost.endswith(".json"):
        (folder / lost).unlink()
    else:
        tensors = load_file(folder / "model.safetensors")
        save_file({k: v for k, v in tensors.items() if not k.startswith(lost)}, folder / "model.safetensors")
    with pytest.raises(WeightsMismatch, match=lost):
        Tag.load(LoadOptions(tmp_path, folder, options={"labels": LABELS}))
