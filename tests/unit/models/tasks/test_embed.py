"""Vectors of texts: by the embedded encoder, and by small ones as users bring them."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from models.errors import WeightsMismatch
from models.tasks import embed
from models.tasks.embed import Embed, SentenceEncoder, vectors
from models.types import LoadOptions, Payload

pytestmark = pytest.mark.models


def test_vectors_are_units_in_order_whatever_stands_beside_them() -> None:
    rng = random.Random(1)
    words = [
        "river",
        "council",
        "budget",
        "goal",
        "striker",
        "opera",
        "singer",
        "rain",
        "forecast",
        "bank",
        "rates",
        "vote",
    ]
    texts = [" ".join(rng.choices(words, k=rng.choice([1, 4, 30, 300]))) for _ in range(25)]
    texts.insert(3, "")
    texts.insert(9, " \n\t")

    together = vectors(texts)

    assert together.shape == (27, 384) and together.dtype == np.float32
    assert not together[[3, 9]].any()
    lengths = np.linalg.norm(np.delete(together, [3, 9], axis=0), axis=1)
    assert lengths == pytest.approx(np.ones(25), abs=1e-5)
    for at in (0, 1, 14, 26):
        assert vectors([texts[at]])[0] == pytest.approx(together[at], abs=2e-6)
    assert vectors([]).shape == (0, 384)


def test_near_in_meaning_is_near_in_the_space() -> None:
    goal, match, rates = vectors(
        [
            "The striker scored twice in the final.",
            "Two late goals decided the cup match.",
            "The central bank raised interest rates.",
        ]
    )
    assert goal @ match > 0.4 > 0.2 > goal @ rates


def test_the_task_gives_the_same_vector_and_names_its_revision(tmp_path: Path) -> None:
    task = Embed.load(LoadOptions(cache=tmp_path))
    prepared = task.prepare(Payload("text/plain", b"The striker scored twice in the final."))
    finding = task.finish(prepared, task.forward(prepared.units)).findings[0]
    expected = vectors(["The striker scored twice in the final."])[0]
    assert finding.value == pytest.approx(expected.tolist(), abs=2e-6)
    assert task.model.revision == embed.REVISION


def test_bf16_keeps_directions(tmp_path: Path) -> None:
    low = SentenceEncoder.load(LoadOptions(cache=tmp_path, dtype="bfloat16"))
    texts = ["The striker scored twice.", "Rain until Thursday, then sun.", "good", "word " * 400]
    assert (low.vectors(texts) * vectors(texts)).sum(1).min() >= 0.999


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny encoder in the layout of sentence-transformers."""
    path = tmp_path / "encoder"
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(path)
    names = {word: n for n, word in enumerate(("[PAD]", "[UNK]", "river", "rain", "vote"))}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


def test_a_users_encoder_pools_as_its_folder_says(folder: Path, tmp_path: Path) -> None:
    options = LoadOptions(cache=tmp_path, folder=folder)
    mean = SentenceEncoder.load(options)
    pooling(folder, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    first = SentenceEncoder.load(options)

    with torch.inference_mode():
        ids = torch.tensor([[2, 3, 4]])
        hidden = first.network(input_ids=ids).last_hidden_state[0].numpy()

    for encoder, pooled in ((mean, hidden.mean(0)), (first, hidden[0])):
        expected = pooled / np.linalg.norm(pooled)
        assert encoder.vectors(["river rain vote"])[0] == pytest.approx(expected, abs=1e-5)
    assert mean.model.sha256 == first.model.sha256
    assert mean.model.revision != first.model.revision


def test_another_pooling_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    pooling(folder, pooling_mode_max_tokens=True)
    with pytest.raises(WeightsMismatch, match=r"1_Pooling.config\.json asks for .*max"):
        SentenceEncoder.load(LoadOptions(cache=tmp_path, folder=folder))
