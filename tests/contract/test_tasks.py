"""One suite for every registered task: what the engine, the agents and the command line rely on.

Needs the packages of the embedded models; inputs are made here.
"""

import io
import json
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from models.errors import BadInput
from models.inference.chains import Step
from models.registry import TASKS, task_class
from models.types import Finding, LoadOptions, Outcome, Payload, Task
from streams.events import Because, Label, Media
from streams.inference.labels import labels_of

pytestmark = pytest.mark.models

# The closed words of BadInput.reason: a metric label and a dead-letter header.
REASONS = {
    "empty",
    "mislabelled",
    "not_finite",
    "too_large",
    "too_long",
    "truncated",
    "undecodable",
    "unsupported",
}


def texts() -> list[Payload]:
    sentences = ("A wonderful film.", "Dull, long and badly acted. " * 6, "ok", "Nothing about it works.")
    return [Payload("text/plain", sentence.encode()) for sentence in sentences]


def pictures() -> list[Payload]:
    random = np.random.default_rng(0)
    payloads = []
    for width, height, kind in ((64, 48, "PNG"), (300, 500, "JPEG"), (640, 200, "WEBP"), (224, 224, "JPEG")):
        rough = Image.fromarray(random.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        out = io.BytesIO()
        rough.resize((width, height), Image.Resampling.BICUBIC).save(out, kind)
        payloads.append(Payload(f"image/{kind.lower()}", out.getvalue()))
    return payloads


def recordings() -> list[Payload]:
    """Silence, and bursts of harmonics of several lengths: what is heard matters less than that it is one."""
    payloads = []
    for seconds, pitch_hz in ((1.0, 0), (0.8, 110), (2.0, 150)):
        t = np.arange(int(seconds * 16_000)) / 16_000
        tone = sum(np.sin(2 * np.pi * pitch_hz * n * t) / n for n in range(1, 16))
        samples = 6000 * tone * (np.sin(2 * np.pi * 3 * t) > 0)
        out = io.BytesIO()
        with wave.open(out, "wb") as written:
            written.setnchannels(1)
            written.setsampwidth(2)
            written.setframerate(16_000)
            written.writeframes(samples.astype("<i2").tobytes())
        payloads.append(Payload("audio/wav", out.getvalue()))
    return payloads


FAMILIES: dict[str, Callable[[], list[Payload]]] = {
    "text/plain": texts,
    "image/jpeg": pictures,
    "audio/wav": recordings,
}


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    cache = tmp_path_factory.getbasetemp() / "weights"
    return task_class(request.param).load(LoadOptions(cache=cache))


def inputs(task: Task) -> tuple[str, list[Payload]]:
    found = [family for family in FAMILIES if task.accepts(family)]
    assert found, f"add payloads that {task.name} accepts to FAMILIES"
    return found[0], FAMILIES[found[0]]()


def outcomes(task: Task, payloads: Sequence[Payload]) -> list[Outcome]:
    """All units of all payloads in as few batches as the task allows, longest first."""
    prepared = [task.prepare(payload) for payload in payloads]
    units = [(n, unit) for n, one in enumerate(prepared) for unit in one.units]
    units.sort(key=lambda entry: -entry[1].length)
    outputs: list[list[object]] = [[] for _ in payloads]
    while units:
        fit = min(task.max_units, task.batch_cost // units[0][1].length)
        assert fit >= 1, "a single unit must fit into a batch"
        batch, units = units[:fit], units[fit:]
        found = task.forward([unit for _, unit in batch])
        assert len(found) == len(batch)
        for (n, _), output in zip(batch, found, strict=True):
            outputs[n].append(output)
    return [task.finish(one, output) for one, output in zip(prepared, outputs, strict=True)]


def label(finding: Finding) -> object:
    """What must not depend on a batch: words and order, not the last bits of scores."""
    if isinstance(finding.value, list):
        return [
            entry.get("tag", entry) if isinstance(entry, dict) else entry
            for entry in finding.value
            if not isinstance(entry, float)
        ]
    return finding.value


def numbers(finding: Finding) -> list[float]:
    """The numbers of a value that is a vector."""
    return (
        [entry for entry in finding.value if isinstance(entry, float)]
        if isinstance(finding.value, list)
        else []
    )


def assert_same(one: Outcome, other: Outcome) -> None:
    assert [label(finding) for finding in one.findings] == [label(finding) for finding in other.findings]
    for a, b in zip(one.findings, other.findings, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-3)
        assert numbers(a) == pytest.approx(numbers(b), abs=1e-4)
        assert [span.value for span in a.spans] == [span.value for span in b.spans]


def test_it_says_what_it_is(task: Task) -> None:
    assert TASKS[task.name].endswith(type(task).__name__)
    assert all((task.model.name, task.model.revision, task.model.dtype))
    assert len(task.model.sha256) == 64
    assert not task.accepts("application/x-unknown") and not task.accepts("")


def test_a_batch_equals_each_alone(task: Task) -> None:
    _, payloads = inputs(task)
    together = outcomes(task, payloads)
    for payload, in_batch in zip(payloads, together, strict=True):
        assert_same(outcomes(task, [payload])[0], in_batch)
    backwards = outcomes(task, payloads[::-1])[::-1]
    for one, other in zip(together, backwards, strict=True):
        assert_same(one, other)


def test_findings_are_json_with_scores_in_range(task: Task) -> None:
    _, payloads = inputs(task)
    for outcome in outcomes(task, payloads[:2]):
        assert outcome.findings
        for finding in outcome.findings:
            assert finding.task == task.name
            json.dumps(
                [finding.value, finding.detail, [span.value for span in finding.spans]], allow_nan=False
            )
            assert finding.score is None or 0.0 <= finding.score <= 1.0
            assert all(0.0 <= score <= 1.0 for score in finding.scores.values())
        event, because = Media("m", "a", 0, "text/plain"), Because("uploads", 0, 0)
        for record in labels_of(
            event, Step(task.name, payloads[0]), outcome.findings, task.model, because, 0, {}
        ):
            assert (
                msgspec.json.decode(record.value, type=Label).asset == "a"
            )  # what is published, its readers can read


def test_bad_input_has_a_closed_reason(task: Task) -> None:
    family, payloads = inputs(task)
    good = payloads[-1].data
    hostile = [b"", b"\x00\x01\x02" * 50, b"\xff" * 400]
    if family != "text/plain":
        hostile += [good[: len(good) // 2], b"just words", good[:16]]
    for data in hostile:
        with pytest.raises(BadInput) as caught:
            task.prepare(Payload(family, data))
        assert caught.value.reason in REASONS
    for other, make in FAMILIES.items():
        if other != family and other != "text/plain":
            with pytest.raises(BadInput) as caught:
                task.prepare(Payload(family, make()[1].data))
            assert caught.value.reason in REASONS


def test_prepare_and_finish_are_thread_safe(task: Task) -> None:
    _, payloads = inputs(task)
    alone = [task.prepare(payload) for payload in payloads]
    outputs = [task.forward(one.units) if one.units else [] for one in alone]
    expected = [task.finish(one, output) for one, output in zip(alone, outputs, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(task.prepare, payloads * 6))
        for n, prepared in enumerate(many):
            assert [unit.length for unit in prepared.units] == [u.length for u in alone[n % len(alone)].units]
        finished = list(pool.map(task.finish, many, outputs * 6))
    for n, outcome in enumerate(finished):
        assert_same(outcome, expected[n % len(expected)])


def test_the_examples_for_the_warm_up_run(task: Task) -> None:
    examples = task.examples()
    assert examples
    units = [unit for payload in examples for unit in task.prepare(payload).units]
    assert units, "examples without units warm nothing up"
    shortest, longest = min(units, key=lambda u: u.length), max(units, key=lambda u: u.length)
    assert task.forward([shortest]) and task.forward([longest])
    assert longest.length <= task.batch_cost


def test_a_second_load_reads_the_cache(task: Task, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache: Path = tmp_path_factory.getbasetemp() / "weights"
    before = sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*") if path.is_file())
    again = type(task).load(LoadOptions(cache=cache))
    assert again.model == task.model
    assert sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*") if path.is_file()) == before
