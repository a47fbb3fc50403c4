"""Text in pictures, as pictures of the words have it; none in a picture without."""

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from models.errors import WeightsMismatch
from models.inference.chains import Step, next_steps
from models.registry import task_class
from models.tasks.ocr import Line, Ocr, _in_order
from models.types import Finding, LoadOptions, Payload
from streams.events import Because, Label, Media
from streams.inference.labels import labels_of

PICTURES = Path(__file__).parents[3] / "golden" / "pictures"
LINES = ("The council voted", "for 24 new bridges")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Ocr:
    return Ocr.load(LoadOptions(cache=tmp_path_factory.mktemp("cache")))


def read(task: Ocr, image: Image.Image) -> Finding:
    out = io.BytesIO()
    image.save(out, "PNG")
    prepared = task.prepare(Payload("image/png", out.getvalue()))
    return task.finish(prepared, task.forward(prepared.units)).findings[0]


def card(*lines: str) -> Image.Image:
    image = Image.new("RGB", (500, 30 + 70 * len(lines)), "white")
    for at, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 20 + 70 * at), line, fill="black", font=ImageFont.load_default(36))
    return image


@pytest.mark.models
def test_a_card_is_read_line_by_line_with_spans_of_its_characters(task: Ocr) -> None:
    found = read(task, card(*LINES))
    assert found.value == "\n".join(LINES)
    assert found.score is not None and 0.9 < found.score <= 1.0
    for span in found.spans:
        assert str(found.value)[int(span.start) : int(span.end)] == span.value
    assert found.detail["language"] == "en"


@pytest.mark.models
def test_a_sign_in_chinese_and_english_is_read(task: Ocr) -> None:
    prepared = task.prepare(Payload("image/png", (PICTURES / "sign-zh-en.png").read_bytes()))
    (found,) = task.finish(prepared, task.forward(prepared.units)).findings
    assert found.value == "前方道路封闭\nRoad closed ahead"
    assert [span.value for span in found.spans] == ["前方道路封闭", "Road closed ahead"]
    assert found.detail == {"language": "zh", "pieces": 2}


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "line", "value"),
    [("sentiment", "A wonderful film", "positive"), ("safety", "I will kill you", "block")],
)
def test_what_stands_in_a_picture_is_judged_with_an_id_for_each_step(
    task: Ocr, tmp_path_factory: pytest.TempPathFactory, name: str, line: str, value: str
) -> None:
    judge = task_class(name).load(LoadOptions(cache=tmp_path_factory.getbasetemp() / "weights"))
    out = io.BytesIO()
    card(line).save(out, "PNG")
    first = Step("ocr", Payload("image/png", out.getvalue()))
    after = {one: getattr(task_class(one), "after", {}) for one in ("ocr", name)}
    labels: list[Label] = []
    steps, tasks = [first], {"ocr": task, name: judge}
    while steps:
        step = steps.pop()
        prepared = tasks[step.task].prepare(step.payload)
        units = prepared.units
        outcome = tasks[step.task].finish(prepared, tasks[step.task].forward(units) if units else [])
        event, because = Media("m", "a", 0, "image/png"), Because("uploads", 0, 0)
        made = labels_of(event, step, outcome.findings, tasks[step.task].model, because, 0, {})
        labels += [msgspec.json.decode(one.value, type=Label) for one in made]
        steps += next_steps(step, outcome, after)
    assert [(one.task, one.value, one.via) for one in labels] == [("ocr", line, []), (name, value, ["ocr"])]
    assert len({one.id for one in labels}) == 2


@pytest.mark.models
def test_a_picture_without_text_gives_none(task: Ocr) -> None:
    found = read(task, Image.new("RGB", (300, 200), "white"))
    assert (found.value, found.score, found.spans) == ("", None, ())


@pytest.mark.models
def test_a_large_picture_is_shrunk_first(task: Ocr) -> None:
    out = io.BytesIO()
    Image.new("RGB", (5000, 2500), "white").save(out, "PNG")
    (unit,) = task.prepare(Payload("image/png", out.getvalue())).units
    assert unit.data.shape == (800, 1600, 3) and unit.length <= task.batch_cost


@pytest.mark.models
@pytest.mark.parametrize("size", [(1, 1), (1, 3_000), (3_000, 1), (40, 2_000)])
def test_a_slender_picture_costs_no_more_than_another(task: Ocr, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(out, "PNG")
    (unit,) = task.prepare(Payload("image/png", out.getvalue())).units
    height, width = unit.data.shape[:2]
    assert max(height, width) <= 4 * min(height, width) and min(height, width) >= 32
    assert (unit.data == (200, 10, 10)).all()


@pytest.mark.models
def test_a_line_of_text_alone_is_read(task: Ocr) -> None:
    assert read(task, card(LINES[0]).crop((10, 16, 490, 64))).value == LINES[0]


def test_pieces_are_ordered_by_row_then_from_the_left() -> None:
    def piece(text: str, left: float, top: float) -> Line:
        return Line(text, (left, top, left + 50, top + 20), 1.0)

    given = [piece("d", 60, 41), piece("b", 70, 3), piece("c", 5, 44), piece("a", 0, 0)]
    for order in np.random.default_rng(1).permuted(np.tile(np.arange(4), (10, 1)), axis=1):
        assert [line.text for line in _in_order([given[at] for at in order])] == ["a", "b", "c", "d"]


def test_a_missing_extra_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.tasks.ocr.find_spec", lambda name: None)
    with pytest.raises(WeightsMismatch, match=r"install headrace\[ocr\]"):
        Ocr.load(LoadOptions(cache=tmp_path))
