"""Every task on texts: odd and hostile ones beside good ones in a batch, and folders that must not be loaded."""

from pathlib import Path

import pytest
import torch

from models.errors import BadInput, ModelError, WeightsMismatch
from models.inference.offline import label_all
from models.registry import TASKS, task_class
from models.types import LoadOptions, Outcome, Payload, Task

pytestmark = pytest.mark.models

GOOD = "The council of Leeds voted for the new bridge, and the music was wonderful."
ODD = {
    "only emoji": "👍👍❤️".encode(),
    "mixed scripts": "The мэр said 你好 to मेहमान and left. שלום".encode(),
    "right to left": "كان الفيلم رائعا والموسيقى جميلة".encode(),
    "one word": b"ok",
    "zalgo": ("h" + "\u0301" * 400 + "ello world").encode(),
    "zero width": "w\u200bo\u200bn\u200bderful film".encode(),
    "200 KB": b"a wonderful film " * 12_000,
    "one long word": b"x" * 200_000,
    "control characters": b"a\x00wonderful\x1b[31m film\x07",
}
BAD = {
    "empty": b"",
    "only blanks": b" \n\t\x00",
    "not UTF-8": b"good \xff\xfe film",
    "1 MB": b"word " * 210_000,
}


@pytest.fixture(
    scope="module", params=[name for name in sorted(TASKS) if task_class(name).accepts("text/plain")]
)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    cache = tmp_path_factory.getbasetemp() / "weights"
    return task_class(request.param).load(LoadOptions(cache=cache))


def test_odd_texts_are_answered_and_bad_ones_refused_beside_good_ones(task: Task) -> None:
    texts = [GOOD.encode(), *ODD.values(), *BAD.values(), GOOD.encode()]
    found: dict[int, Outcome | ModelError] = dict(
        label_all(task, [Payload("text/plain", data) for data in texts])
    )

    first, last = found[0], found[len(texts) - 1]
    assert isinstance(first, Outcome) and isinstance(last, Outcome)
    assert first.findings[0].value == last.findings[0].value != "unsupported_language"
    for at, name in enumerate(ODD, 1):
        assert isinstance(found[at], Outcome), (name, found[at])
    for at, name in enumerate(BAD, 1 + len(ODD)):
        refused = found[at]
        assert isinstance(refused, BadInput), (name, refused)
        assert refused.reason in ("empty", "undecodable", "too_large")


def test_what_has_no_language_has_no_score_where_a_language_is_read(task: Task) -> None:
    prepared = task.prepare(Payload("text/plain", ODD["only emoji"]))
    if task.name in ("entities", "sentiment", "topics"):
        assert prepared.units == ()
        assert task.finish(prepared, []).findings[0].value == "unsupported_language"


@pytest.mark.parametrize("name", ["entities", "sentiment", "topics", "embed"])
def test_a_folder_with_a_pickle_or_without_weights_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    options = LoadOptions(cache=tmp_path, folder=folder)
    with pytest.raises(WeightsMismatch, match="mine is not a folder"):
        task_class(name).load(options)
    folder.mkdir()
    with pytest.raises(WeightsMismatch, match=r"mine.config\.json is missing"):
        task_class(name).load(options)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match=r"only pytorch_model\.bin, which can run code"):
        task_class(name).load(options)
