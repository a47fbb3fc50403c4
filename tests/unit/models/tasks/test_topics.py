"""Topics by sentences, by a newsroom's own ones, and by a probe that the command line trains."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.errors import BadInput, ModelError, WeightsMismatch
from models.inference.offline import label_all
from models.tasks.topics import LABELS, Topics
from models.train.topics import train_topics
from models.types import Finding, LoadOptions, Outcome, Payload
from streams.cli.context import Given
from streams.cli.train import app

pytestmark = pytest.mark.models

NEWS = {
    "Two late goals decided the cup match in front of 40,000 fans.": "sport",
    "The central bank raised interest rates and shares of lenders fell.": "business",
    "Parliament passed the budget after the prime minister won the vote.": "politics",
    "Doctors report that the new vaccine protects most patients.": "health",
    "Police arrested a man after a robbery at a jeweller's shop.": "crime",
    "The orchestra opens its season with a concert by a young pianist.": "culture",
    "The rover sent pictures of rocks from the surface of Mars.": "science",
    "A flaw in the browser lets attackers read passwords; update the software now.": "technology",
    "Troops crossed the border and diplomats left the capital.": "world",
    "Emissions of coal plants fell as wind farms grew.": "climate",
}
DESK = {
    "food": ("bread", "soup", "cheese", "noodles", "salad", "curry"),
    "gardens": ("roses", "a lawn", "hedges", "compost", "tomato plants", "a greenhouse"),
    "trains": ("a locomotive", "the railway", "a night train", "the tram", "a platform", "the timetable"),
}


def loaded(tmp_path: Path, **options: object) -> Topics:
    return Topics.load(LoadOptions(cache=tmp_path, options=dict(options)))  # type: ignore[arg-type]


def findings(task: Topics, *texts: str) -> list[Finding]:
    results: dict[int, Outcome | ModelError] = dict(
        label_all(task, [Payload("text/plain", text.encode()) for text in texts])
    )
    found = []
    for index in range(len(texts)):
        outcome = results[index]
        assert isinstance(outcome, Outcome), outcome
        found.append(outcome.findings[0])
    return found


def test_news_finds_its_desk_and_what_is_near_no_label_finds_none(tmp_path: Path) -> None:
    task = loaded(tmp_path)
    found = findings(task, *NEWS)
    assert [one.value for one in found] == [*NEWS.values()]
    assert {one.value for one in findings(loaded(tmp_path, least=0.8), *NEWS)} == {"none"}
    assert set(found[0].scores) == {*LABELS, "none"} and sum(found[0].scores.values()) == pytest.approx(1)


def test_a_newsroom_names_its_own_topics_and_the_revision_follows(tmp_path: Path) -> None:
    labels = {
        "trains": "A railway, a train or a tram",
        "food": ["Cooking and recipes", "A meal in a restaurant"],
    }
    task = loaded(tmp_path, labels=labels)
    texts = ("The night train to Vienna runs again.", "Simmer the soup for an hour with two onions.")
    assert [one.value for one in findings(task, *texts)] == ["trains", "food"]
    assert task.model.sha256 == loaded(tmp_path).model.sha256
    others = [loaded(tmp_path, labels=labels, least=0.2), loaded(tmp_path, labels={**labels, "x": "y"})]
    assert len({task.model.revision, *(other.model.revision for other in others)}) == 3


@pytest.mark.parametrize(
    "labels",
    [
        {"a": "one"},
        {"a": "one", "b": ""},
        {"a": "one", "b": []},
        {"a": "one", "none": "two"},
        ["a", "b"],
        {"a": "1", "b": 2},
    ],
)
def test_labels_that_say_nothing_are_refused(tmp_path: Path, labels: object) -> None:
    with pytest.raises(ValueError, match="topics: label"):
        loaded(tmp_path, labels=labels)


def test_what_it_cannot_read_has_no_topic(tmp_path: Path) -> None:
    (found,) = findings(loaded(tmp_path), "Der Stadtrat stimmt am Dienstag über den Haushalt ab.")
    assert (found.value, found.score, found.detail["language"]) == ("unsupported_language", None, "de")


def examples() -> list[tuple[str, str]]:
    frames = ("All about {}.", "Why we love {}", "What to know of {} this spring", "Five questions on {}")
    return [
        (frame.format(thing), topic) for topic, things in DESK.items() for thing in things for frame in frames
    ]


def test_a_probe_is_trained_from_the_command_line_and_served(tmp_path: Path) -> None:
    listed, out = tmp_path / "examples.jsonl", tmp_path / "desk"
    listed.write_text(
        "".join(json.dumps({"text": text, "label": topic}) + "\n" for text, topic in examples())
    )
    ran = CliRunner().invoke(app, ["topics", str(listed), "--out", str(out), "--json"], obj=Given())
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said["topics"] == ["food", "gardens", "trains"] and said["texts"] == [60, 12]
    assert said["test_accuracy"] >= 0.9
    task = loaded(tmp_path, probe=str(out))
    assert [one.value for one in findings(task, "She baked a cake.", "The train was late.")] == [
        "food",
        "trains",
    ]
    assert (task.model.name, task.model.revision, task.model.sha256) == (
        "topics-desk",
        "own-1",
        said["sha256"],
    )


def test_the_same_seed_gives_the_same_probe(tmp_path: Path) -> None:
    made = [
        train_topics(given, tmp_path / out, name="t", revision="1").manifest.sha256
        for out, given in (("a", examples()), ("b", examples()[::-1]))
    ]
    assert made[0] == made[1]


def test_examples_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    for given, reason in (
        ([("one", "a")] * 9, "two topics"),
        ([(f"text {n}", "ab"[n % 2]) for n in range(7)], "b: fewer than 4"),
        ([(f"text {n}", ("a", "none")[n % 2]) for n in range(20)], "none"),
    ):
        with pytest.raises(BadInput, match=reason):
            train_topics(given, tmp_path / "out", name="t", revision="1")


def test_another_folder_is_no_probe(tmp_path: Path) -> None:
    from models.tasks.sentiment import CHINESE_WEIGHTS

    with pytest.raises(WeightsMismatch, match="no probe of topics"):
        loaded(tmp_path, probe=str(CHINESE_WEIGHTS))
