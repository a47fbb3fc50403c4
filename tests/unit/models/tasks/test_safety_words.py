"""The head of safety on words: the embedded one, and one's own. The examples of the latter are made up."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from models.errors import WeightsMismatch
from models.networks.ngrams import PLACES, word_places
from models.tasks.safety import Safety
from models.train.thresholds import flagged
from models.types import Finding, LoadOptions, Payload
from streams.cli.run import run

PEOPLE = ("the mayor", "this singer", "that goalkeeper", "the author", "my neighbour", "our teacher")
PLACES_TO_BE = ("on the bridge", "in Leeds", "at the concert", "after lunch", "today")
PATTERNS = {
    "ok": ("{} gave a fine talk {}.", "I met {} {} and we spoke of music."),
    "contempt": ("{} is a waste of skin {}.", "Somebody should make {} suffer {}."),
}
EXAMPLES = [
    (pattern.format(*where), label)
    for label, patterns in PATTERNS.items()
    for pattern, where in product(patterns, list(product(PEOPLE, PLACES_TO_BE)))
]


def judged(task: Safety, said: str, language: str | None = None) -> Finding:
    prepared = task.prepare(Payload("text/plain", said.encode(), language))
    assert prepared.units == ()  # nothing for the device
    return task.finish(prepared, []).findings[0]


def test_words_are_read_whole_in_pairs_and_in_runs_whatever_their_case_and_width() -> None:
    assert word_places("You IDIOT!").tolist() == word_places("you ｉｄｉｏｔ !").tolist()
    assert len(np.intersect1d(word_places("idiotic"), word_places("idiots"))) >= 3  # <id, idi, idio, ...
    assert word_places("you idiot").tolist() != word_places("idiot you").tolist()
    assert len(word_places("")) == 0 and word_places("x" * 10**6).max() < PLACES
    assert len(word_places("x" * 10**6)) <= 10  # a key held down is no more than its runs


def test_what_a_threshold_holds_back() -> None:
    scores, labels = np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 0, 1, 1])
    assert flagged(scores, labels, 0.4) == {
        "threshold": 0.4,
        "precision": 0.6667,
        "recall": 0.6667,
        "flagged": 0.75,
    }
    assert flagged(scores, labels, 0.95)["precision"] is None


@pytest.mark.models
def test_ones_own_words_judge_beside_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "examples.jsonl"
    listed.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in EXAMPLES))
    assert run(["train", "safety", str(listed), "--by", "words", "--out", str(tmp_path / "a"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kinds"] == ["contempt"] and told["test_accuracy"] > 0.9
    assert [one["threshold"] for one in told["test_by_threshold"]] == [0.4, 0.8]
    assert run(["train", "safety", str(listed), "--by", "words", "--out", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == told["sha256"]

    task = Safety.load(LoadOptions(cache=tmp_path, options={"head": str(tmp_path / "a")}))
    found = judged(task, "The referee is a waste of skin today.", "en")
    assert found.value in ("review", "block") and found.detail["reasons"] == ["learnt: contempt"]
    assert found.model is not None and (found.model.name, found.model.revision) == (
        "safety-a",
        "own-1-rules-1",
    )
    assert judged(task, "The referee gave a fine talk today.", "en").value == "allow"
    assert "threat" in str(judged(task, "I will kill you", "en").detail["reasons"])


def test_words_tell_one_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "examples.tsv"
    listed.write_text("".join(f"{text}\t{label}\n" for text, label in [*EXAMPLES, ("buy now", "spam")]))
    assert run(["train", "safety", str(listed), "--by", "words", "--out", str(tmp_path / "no")]) == 2
    assert "contempt, spam" in capsys.readouterr().err


@pytest.mark.models
def test_the_embedded_head_finds_insults_that_no_rule_names_and_leaves_people_alone(tmp_path: Path) -> None:
    task, rules = (
        Safety.load(LoadOptions(cache=tmp_path, options=options)) for options in ({}, {"head": False})
    )
    insults = (
        "shut up you dumb ugly cow",
        "nobody likes you, you stupid little liar",
    )  # alone no reason to block
    fine = (
        "I am a proud gay man.",
        "She is a Muslim woman and a doctor.",
        "Black people deserve the same rights.",
        "He was shot in the head, police said.",
        "Thanks, this was a great read.",
    )
    for said in insults:
        found = judged(task, said, "en")
        assert found.value == "review" and found.detail["reasons"] == ["learnt: toxicity"], said
        assert judged(rules, said, "en").value == "allow"
    assert judged(task, "you are an idiot, shut up", "en").value == "block"  # a rule says so, too
    assert {judged(task, said, "en").value for said in fine} == {"allow"}
    spanish = judged(task, "Esta noche hemos visto una película muy buena en el cine.")
    assert spanish.model is not None and spanish.model.name == "safety-rules"


@pytest.mark.models
def test_a_head_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="head is 3"):
        Safety.load(LoadOptions(cache=tmp_path, options={"head": 3}))
    with pytest.raises(WeightsMismatch, match="missing"):
        Safety.load(LoadOptions(cache=tmp_path, options={"head": str(tmp_path / "none")}))
