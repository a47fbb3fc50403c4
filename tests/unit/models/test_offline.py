"""Local labelling: every payload once, whatever happens to it, and read no faster than it is labelled."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from models.errors import BadInput, ModelError
from models.inference.offline import label_all, warm_up
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit


class Words:
    """A unit a word, its length the word's; upper-cases them. Odd payloads fail in each step."""

    name = "words"
    model = ModelInfo("words", "1", "", "float32")
    batch_cost = 40
    max_units = 5

    @classmethod
    def load(cls, options: LoadOptions) -> "Words":
        return cls()

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        return True

    def prepare(self, payload: Payload) -> Prepared:
        if payload.data == b"undecodable":
            raise BadInput("undecodable", "on purpose")
        if payload.data == b"surprise":
            raise ZeroDivisionError
        return Prepared(tuple(Unit(len(word), word) for word in payload.data.split()))

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        assert max(unit.length for unit in units) * len(units) <= self.batch_cost or len(units) == 1
        if any(unit.data == b"poison" for unit in units):
            raise ValueError
        return [unit.data.upper() for unit in units]

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        return Outcome((Finding(self.name, b" ".join(outputs).decode()),))

    def examples(self) -> Sequence[Payload]:
        return [Payload("text/plain", b"a fine day"), Payload("text/plain", b"")]


def told(result: Outcome | ModelError) -> Any:
    return result.findings[0].value if isinstance(result, Outcome) else getattr(result, "reason", None)


def test_each_payload_comes_back_once_with_its_own_answer() -> None:
    texts = ["one two", "", "undecodable", "surprise", "this is poison", "x" * 100, "last of all these words"]
    results = list(label_all(Words(), [Payload("text/plain", text.encode()) for text in texts]))
    assert sorted(index for index, _ in results) == list(range(len(texts)))
    assert [told(result) for _, result in sorted(results, key=lambda pair: pair[0])] == [
        "ONE TWO",
        "",
        "undecodable",
        "poison",
        "poison",
        "X" * 100,
        "LAST OF ALL THESE WORDS",
    ]


def test_many_payloads_are_read_as_they_are_needed() -> None:
    read = 0

    def endless() -> Iterator[Payload]:
        nonlocal read
        while True:
            read += 1
            yield Payload("text/plain", b"some words here")

    results = label_all(Words(), endless())
    for _ in range(1000):
        next(results)
    assert read <= 1000 + 512


def test_nothing_gives_nothing() -> None:
    assert list(label_all(Words(), [])) == []


def test_the_warm_up_gives_a_unit_that_works() -> None:
    assert warm_up(Words()) == Unit(1, b"a")


def test_a_task_that_fails_on_its_examples_does_not_start() -> None:
    class Broken(Words):
        def examples(self) -> Sequence[Payload]:
            return [Payload("text/plain", b"fine"), Payload("text/plain", b"poison")]

    with pytest.raises(BadInput, match="forward failed"):
        warm_up(Broken())
