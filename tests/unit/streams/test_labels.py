"""Labels: all that made them is in them, and their ids depend on nothing else than event, step and revision."""

import msgspec
import pytest

from models.inference.chains import Step
from models.types import Finding, ModelInfo, Payload
from streams.events import Because, Label, Media
from streams.inference.labels import LabelRecord, labels_of

EVENT = Media("event-1", "asset-1", 0, "image/png", b"png")
MODEL = ModelInfo("net", "7", "ab" * 32, "bfloat16")
TIMING = {"wait_s": 0.1, "device_s": 0.2}


def made(
    step: Step, *findings: Finding, model: ModelInfo = MODEL, offset: int = 5, at_ms: int = 9
) -> list[LabelRecord]:
    return labels_of(EVENT, step, findings, model, Because("uploads", 3, offset), at_ms, TIMING)


def read(record: LabelRecord) -> Label:
    return msgspec.json.decode(record.value, type=Label)


def step(task: str = "tag", path: tuple[str, ...] = (), number: int = 0) -> Step:
    return Step(task, Payload("image/png", b"png"), path, number)


def test_a_label_says_what_made_it() -> None:
    (record,) = made(step(), Finding("tag", "cat", 0.9, {"cat": 0.9, "dog": 0.1}, detail={"pixels": 4}))
    label = read(record)
    assert (label.model.name, label.model.revision, label.model.dtype, label.model.sha256) == (
        *("net", "7", "bfloat16"),
        "ab" * 32,
    )
    assert (label.value, label.score, label.scores) == ("cat", 0.9, {"cat": 0.9, "dog": 0.1})
    assert label.because == Because("uploads", 3, 5)
    assert (label.timing, label.detail, label.via, label.at) == (TIMING, {"pixels": 4}, [], 9)
    assert (record.key, record.task) == (b"asset-1", "tag")
    assert dict(record.headers)["ce_id"] == label.id.encode()


def test_a_replay_gives_the_same_id_and_another_revision_another() -> None:
    (first,), (again,) = (
        made(step(), Finding("tag", "cat")),
        made(step(), Finding("tag", "dog"), offset=99, at_ms=1),
    )
    assert read(first).id == read(again).id
    (other,) = made(step(), Finding("tag", "cat"), model=ModelInfo("net", "8", "", "float32"))
    assert read(other).id != read(first).id


def test_a_finding_may_name_its_own_model() -> None:
    chinese = ModelInfo("zh", "2", "cd" * 32, "float32")
    (record,) = made(step(), Finding("tag", "cat", model=chinese))
    assert read(record).model.name == "zh"
    (same,) = made(step(), Finding("tag", "cat"), model=chinese)
    assert read(same).id == read(record).id


@pytest.mark.parametrize(
    "others",
    [
        (step("sentiment"), step("sentiment", ("ocr",))),
        (step("sentiment", ("ocr",)), step("sentiment", ("ocr",), 1)),
        (step("sentiment", ("ocr",)), step("sentiment", ("transcribe",))),
        (step("sentiment"), step("tag")),
    ],
)
def test_every_step_has_an_id_of_its_own(others: tuple[Step, Step]) -> None:
    ids = [read(made(one, Finding(one.task, "x"))[0]).id for one in others]
    assert len(set(ids)) == 2


def test_several_findings_of_one_step_have_ids_of_their_own() -> None:
    records = made(step("ocr"), *(Finding("ocr", f"line {n}") for n in range(3)), Finding("faces", "two"))
    assert len({read(record).id for record in records}) == 4
    assert [record.task for record in records] == ["ocr"] * 3 + ["faces"]


def test_the_id_of_a_plain_label_is_as_in_the_first_version() -> None:
    """Labels that are stored already must not be made a second time by an update of the worker."""
    (record,) = made(step(), Finding("tag", "cat"))
    import uuid

    space = uuid.UUID("6b1f7c1e-6f0a-5c0e-9d2a-6b6561647261")
    assert read(record).id == str(uuid.uuid5(space, "event-1\0tag\0" + "7"))


def test_a_chained_label_says_by_way_of_what() -> None:
    (record,) = made(step("sentiment", ("ocr",)), Finding("sentiment", "positive"))
    assert read(record).via == ["ocr"]
