"""Chains of tasks: who looks at what another has found, in which order, and where it ends."""

import itertools
from typing import Any

from models.inference.chains import MOST_STEPS, Step, next_steps
from models.types import Finding, FollowUp, Outcome, Payload

PICTURE = Step("ocr", Payload("image/png", b"png"))
AFTER = {"ocr": {}, "sentiment": {"ocr": "value", "transcribe": "value"}, "topics": {"ocr": "caption"}}


def found(task: str, value: Any, **detail: Any) -> Outcome:
    return Outcome((Finding(task, value, detail=detail),))


def text(words: str) -> Payload:
    return Payload("text/plain", words.encode())


def test_a_task_reads_the_field_it_named_in_the_language_that_was_found() -> None:
    steps = next_steps(PICTURE, found("ocr", "Breaking news", caption="a sign", language="en"), AFTER)
    assert [(step.name, step.payload.data, step.payload.language) for step in steps] == [
        ("ocr>sentiment", b"Breaking news", "en"),
        ("ocr>topics", b"a sign", "en"),
    ]
    assert {step.path for step in steps} == {("ocr",)}


def test_where_there_is_no_text_nothing_follows() -> None:
    for value in ("", "  \n", None, 7, ["a"]):
        assert next_steps(PICTURE, found("ocr", value), AFTER) == []


def test_a_task_may_ask_for_others_and_several_of_one_kind_have_numbers() -> None:
    asked = tuple(FollowUp("sentiment", text(words)) for words in ("first", "second"))
    steps = next_steps(PICTURE, Outcome((), asked), AFTER)
    assert [(step.name, step.payload.data) for step in steps] == [
        ("ocr>sentiment", b"first"),
        ("ocr>sentiment#1", b"second"),
    ]
    (deeper,) = next_steps(steps[1], Outcome((), (FollowUp("topics", text("x")),)), AFTER)
    assert (deeper.name, deeper.path) == ("ocr>sentiment#1>topics", ("ocr", "sentiment#1"))


def test_a_task_that_does_not_run_is_left_out() -> None:
    assert next_steps(PICTURE, Outcome((), (FollowUp("translate", text("x")),)), AFTER) == []


def test_chains_end() -> None:
    after = {"a": {"b": "value", "a": "value"}, "b": {"a": "value"}}
    (step,) = next_steps(Step("a", text("x")), found("a", "x"), after)
    assert step.name == "a>b"
    assert next_steps(step, found("b", "x"), after) == []  # a was there before
    names = [f"t{n}" for n in range(10)]
    line = {name: {before: "value"} for before, name in itertools.pairwise(names)} | {"t0": {}}
    steps, longest = [Step("t0", text("x"))], 0
    while steps:
        longest += 1
        steps = next_steps(steps[0], found(steps[0].task, "x"), line)
    assert longest == MOST_STEPS
