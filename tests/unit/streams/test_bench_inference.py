"""The parts of the inference benchmark: its feed, its yardsticks, and the engine beside them on a task that is free."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.inference.shapes import write_text_classifier
from models.registry import task_class
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit
from streams.bench.child import Job
from streams.bench.decode import FORMATS, MEDIA_TYPES, decode_job
from streams.bench.engine import by_arrival, by_engine, overhead_job, payloads, serving, sorted_by_length
from streams.bench.inference import Plan, _ratios, run
from streams.bench.kernels import kernels_job
from streams.bench.kinds import by_headrace, by_transformers, kinds_job
from streams.bench.texts import KINDS, NAMES, mixed_feed
from streams.errors import UserMistake


class Counting:
    """As long as its words; remembers what ran."""

    name = "count"
    model = ModelInfo("count", "1", "", "float32")
    batch_cost = 2048
    max_units = 256

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def prepare(self, payload: Payload) -> Prepared:
        return Prepared((Unit(len(payload.data.split()) + 2, None),))

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        self.batches.append([unit.length for unit in units])
        return [0.5] * len(units)

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        return Outcome((Finding("count", prepared.units[0].length),))

    def examples(self) -> Sequence[Payload]:
        return [Payload("text/plain", b"x")]


def test_the_feed_is_a_function_of_its_seed_and_no_text_comes_twice() -> None:
    feed = mixed_feed(2000, seed=1)
    assert feed == mixed_feed(2000, seed=1) != mixed_feed(2000, seed=2)
    assert len(set(feed)) == 2000


def test_the_feed_is_mixed_as_declared() -> None:
    words = np.array([len(text.split()) for text in mixed_feed(4000, seed=1)])
    for share, least, most in KINDS:
        found = ((words >= least) & (words <= most)).mean()
        assert abs(found - share) < 0.03
    assert words.max() + 2 <= 512


def test_the_yardsticks_run_every_text_once_and_pad_as_told() -> None:
    feed = payloads(256, seed=1)
    lengths = sorted(len(payload.data.split()) + 2 for payload in feed)
    arrival, sorted_ = Counting(), Counting()
    padding = by_arrival(arrival, feed, 32)["padding"]  # type: ignore[arg-type]
    assert [len(batch) for batch in arrival.batches] == [32] * 8
    assert padding > 0.7
    least = sorted_by_length(sorted_, feed)["padding"]  # type: ignore[arg-type]
    assert least < 0.15
    assert all(max(batch) * len(batch) <= 2048 for batch in sorted_.batches)
    for task in (arrival, sorted_):
        assert sorted(length for batch in task.batches for length in batch) == lengths


def test_the_engine_pads_little_on_the_same_feed() -> None:
    async def main() -> None:
        task = Counting()
        async with serving("count", task, 1) as service:
            figures = await by_engine(service, "count", payloads(1024, seed=1))
        assert sum(map(len, task.batches)) == 1024 + 2  # and the example, alone and in its batch
        assert figures["padding"] <= 0.15

    asyncio.run(main())


def test_the_engines_own_cost_is_measured_on_a_task_that_is_free() -> None:
    figures = asyncio.run(overhead_job(Job("", "", 2000)))
    assert figures["items"] == 2000
    assert 0 < figures["cpu_us_per_item"] < 500  # 8 to 20 on an idle core; this machine may be busy


def test_a_gpus_targets_run_on_a_cpu_at_a_size_that_says_nothing() -> None:
    options = {"device": "cpu", "dtype": "float32", "threads": 1, "seconds": 0}
    rows = asyncio.run(kernels_job(Job("", "", 0, options=options)))["rows"]
    found = {row["case"]: row for row in rows}
    assert list(found) == [
        "whisper-small",
        "vit-small_pictures",
        "distilbert-small_texts",
        "distilbert-small_eight_texts",
        "distilbert-small_eight_texts_eager",
    ]
    assert found["whisper-small"]["times_real_time"] > 0
    assert sum(found["whisper-small"][f"{part}_share"] for part in ("copy", "encode", "decode")) > 0.5
    others = rows[1:]
    assert all(row["items_per_s"] > 0 and row["captures_after_warm_up"] == 0 for row in others)
    assert found["distilbert-small_eight_texts"]["rows"] == 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "no-such-device"])
def test_a_device_that_is_not_there_is_refused_before_anything_runs(device: str) -> None:
    with pytest.raises(UserMistake, match=device):
        run(None, Plan(device=device), print)  # type: ignore[arg-type]


def test_every_format_is_decoded() -> None:
    rows = asyncio.run(decode_job(Job("", "", 2)))["rows"]
    assert [row["case"] for row in rows] == [f"decode_{name}" for name in FORMATS]
    assert all(abs(row["seconds_of_sound"] - 2) < 0.2 and row["times_real_time"] > 0 for row in rows)
    assert MEDIA_TYPES.keys() <= FORMATS.keys()


def test_the_ratios_are_those_of_the_contract() -> None:
    rows = [
        {"case": "arrival_batches_fp32", "texts_per_s": 20.0, "cpu_ms_per_text": 50.0},
        {"case": "engine_fp32", "texts_per_s": 90.0, "cpu_ms_per_text": 10.0, "padding": 0.1},
        {"case": "agents", "texts_per_s": 95.0, "cpu_ms_per_text": 11.0},
        {"case": "offline_beside_agents", "texts_per_s": 100.0, "cpu_ms_per_text": 10.0},
        {"case": "plain_faust", "texts_per_s": 19.0, "cpu_ms_per_text": 55.0},
        {"case": "plain_faust_published", "texts_per_s": 10.0, "cpu_ms_per_text": 99.0},
        {"case": "comments_published", "cpu_ms_per_text": 14.0},
        {"case": "comments_one_at_a_time_bf16", "cpu_ms_per_text": 7.0},
        {"case": "comments_engine_bf16", "cpu_ms_per_text": 2.0},
        {"case": "decode_wav", "times_real_time": 900},
        {"case": "decode_mp3", "times_real_time": 400},
    ]
    ratios = _ratios(rows)
    assert (ratios["vs_arrival_fp32"], ratios["vs_arrival_bf16"]) == (4.5, None)
    assert (ratios["padding"], ratios["agents_vs_offline"]) == (0.1, 0.95)
    assert (ratios["agents_vs_plain_faust"], ratios["agents_vs_plain_faust_by_cpu"]) == (5.0, 5.0)
    assert (ratios["agents_vs_plain_faust_published"], ratios["agents_vs_plain_faust_published_by_cpu"]) == (
        9.5,
        9.0,
    )
    assert ratios["comments_bf16_vs_published_by_cpu"] == 7.0
    assert ratios["comments_bf16_vs_one_at_a_time_by_cpu"] == 3.5
    assert ratios["articles_fp32_vs_published_by_cpu"] is None
    assert ratios["decode_least_times_real_time"] == 400


def test_each_kind_is_run_in_three_ways_that_give_the_same_label(tmp_path: Path) -> None:
    folder = write_text_classifier(tmp_path, "distilbert-small")
    options = {"task": "sentiment", "folder": str(folder), "device": "cpu", "threads": 1, "rounds": 1}
    rows = asyncio.run(kinds_job(Job("", "", 3, options=options | {"dtypes": ["float32"]})))["rows"]
    ways = ("published", "one_at_a_time_fp32", "engine_fp32")
    assert [row["case"] for row in rows] == [
        *(f"{kind}_{way}" for kind in NAMES for way in ways),
        "cost_of_a_call_fp32",
    ]
    assert all(row["cpu_ms_per_text"] > 0 for row in rows[:-1]) and rows[-1]["b_ms_per_call"] > 0
    task = task_class("sentiment").load(LoadOptions(tmp_path, folder))
    published, ours = by_transformers(folder, "cpu"), by_headrace(task)
    for payload in payloads(20, seed=3):
        (value, score), (other, its) = published(payload), ours(payload)
        assert value == other and score == pytest.approx(its, abs=1e-5)
