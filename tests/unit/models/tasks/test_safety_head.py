"""A head of safety that is trained on examples; all of them are made up here, by patterns."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput, WeightsMismatch
from models.inference.offline import label_all
from models.tasks.safety import Safety
from models.types import Finding, LoadOptions, Outcome, Payload
from streams.cli.run import run

pytestmark = pytest.mark.models

PEOPLE = ("the mayor", "this singer", "that goalkeeper", "the author", "my neighbour")
PATTERNS = {
    "ok": ("{} gave a fine talk about the new bridge.", "I met {} at the concert and we spoke of music."),
    "toxicity": (
        "{} deserves contempt, what a waste of skin.",
        "Somebody should make {} suffer, I hate them.",
    ),
    "spam": (
        "{} uses our pills to lose weight fast, order now.",
        "Cheap watches as worn by {}, visit our shop.",
    ),
}
EXAMPLES = [
    (pattern.format(person), label)
    for label, patterns in PATTERNS.items()
    for pattern, person in product(patterns, PEOPLE)
]
UNSEEN = {
    "Our pills help actors lose weight fast, ask for one and save.": "spam",
    "What a waste of skin that referee is, I hate them.": "toxicity",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head")
    lines = [json.dumps({"text": text, "label": label}) for text, label in EXAMPLES]
    (path / "examples.jsonl").write_text("\n".join(lines))
    assert run(["train", "safety", str(path / "examples.jsonl"), "--out", str(path / "mine"), "--json"]) == 0
    return path / "mine"


@pytest.fixture(scope="module")
def tasks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Safety, Safety]:
    """By rules alone, and with the head."""
    cache = tmp_path_factory.getbasetemp() / "weights"
    rules, both = ({"head": False}, {"head": str(folder)})
    return tuple(Safety.load(LoadOptions(cache=cache, options=options)) for options in (rules, both))


def found(task: Safety, *payloads: Payload) -> list[Finding]:
    by_place = dict(label_all(task, payloads))
    outcomes = [by_place[at] for at in range(len(payloads))]
    return [one.findings[0] for one in outcomes if isinstance(one, Outcome)]


def text(said: str) -> Payload:
    return Payload("text/plain", said.encode())


def test_a_head_finds_what_the_rules_do_not_know_and_says_so(tasks: tuple[Safety, Safety]) -> None:
    rules, both = tasks
    assert {one.value for one in found(rules, *map(text, UNSEEN))} == {"allow"}
    for one, kind in zip(found(both, *map(text, UNSEEN)), UNSEEN.values(), strict=True):
        assert one.value in ("review", "block") and one.scores[kind] == max(one.scores.values())
        assert one.detail["reasons"] == [f"learnt: {kind}"]
        assert one.model is not None and one.model.revision == "own-1-rules-1"
    (fine,) = found(both, text("The council gave a fine talk about music at the new bridge."))
    assert fine.value == "allow" and fine.detail["reasons"] == []


def test_rules_go_on_beside_the_head_and_in_other_languages(tasks: tuple[Safety, Safety]) -> None:
    rules, both = tasks
    threat, chinese = found(both, text("I will kill you"), text("今天的音乐会很好,大家都很高兴,谢谢市长。"))
    assert threat.value == "block" and "threat" in threat.detail["reasons"]  # type: ignore[operator]
    assert threat.scores["toxicity"] >= found(rules, text("I will kill you"))[0].scores["toxicity"]
    assert chinese.value == "allow" and chinese.model is not None and chinese.model.name == "safety-rules"


def test_pictures_and_texts_share_a_batch(tasks: tuple[Safety, Safety]) -> None:
    _, both = tasks
    picture = both.examples()[0]
    said = [text(one) for one in UNSEEN]
    mixed = found(both, said[0], picture, said[1])
    assert [one.value for one in mixed] == [one.value for one in found(both, said[0], picture, said[1])]
    assert set(mixed[1].scores) == {"nsfw"} and "spam" in mixed[0].scores
    prepared = [both.prepare(one) for one in (said[0], picture, said[1])]
    together = both.forward([one.units[0] for one in prepared])
    for one, output in zip(prepared, together, strict=True):
        np.testing.assert_allclose(both.forward(one.units)[0], output, atol=1e-4)
    with pytest.raises(BadInput, match="not finite"):
        both.finish(prepared[0], [np.full(3, np.nan, np.float32)])


def test_examples_without_ok_and_other_folders_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "bad.tsv"
    listed.write_text("".join(f"{said}\t{label}\n" for said, label in EXAMPLES if label != "ok"))
    assert run(["train", "safety", str(listed), "--out", str(tmp_path / "no")]) == 2
    assert "no example that is ok" in capsys.readouterr().err
    with pytest.raises(WeightsMismatch, match="missing"):
        Safety.load(LoadOptions(cache=tmp_path, options={"head": str(tmp_path / "none")}))
