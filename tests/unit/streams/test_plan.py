"""The calculator of `headrace plan`, against sums done by hand and against the rows that the code writes."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from models.taste.index import ItemIndex
from models.taste.readers.users import UserRows
from streams.bench.scale import on_paper
from streams.cli.run import run
from streams.plan import GIB, Asked, Assumed, plan
from streams.settings import load


def test_a_hundred_million_readers_and_a_million_clicks_a_second_by_hand() -> None:
    found = plan(Asked(100_000_000, 1_000_000.0, 1_000_000), load(), Assumed(worker_clicks_per_s=20_000))

    assert found["workers"] == 50  # 1,000,000 / 20,000
    assert found["partitions"] == 108  # 2 * 50, up to a multiple of 12
    assert found["users_per_partition"] == 925_926
    row = found["state_row_bytes"]
    assert found["changelog_mib_per_s"] == round(1_000_000 * row / 2**20, 1)
    assert found["changelog_compacted_gib"] == round(100_000_000 * row / 2**30, 1)
    assert found["network_into_workers_mib_per_s"] == 190.7  # 200 MB/s
    assert found["network_out_of_workers_mib_per_s"] == round(1_000_000 * (row + 2_600 + 140) / 2**20, 1)
    assert found["clicks_kept_gib"] == round(200e6 * 7 * 86_400 * 3 / 2**30, 1)
    assert found["user_memory_per_worker_gib"] == pytest.approx(found["user_memory_gib"] / 50, abs=0.1)


def test_a_reader_costs_what_the_code_takes() -> None:
    found = plan(Asked(1000, 10.0), load())
    rows = UserRows(ItemIndex(dim=64))
    events = np.arange(100)
    rows.fold(
        ["ada"] * 100,
        rows.items.lookup([f"i{n}" for n in events.tolist()]),
        np.full(100, 2, np.int8),
        np.ones(100, np.float32),
        1_767_225_600_000 + events,
        events.astype(np.int64),
    )
    (value,) = rows.encode(rows.rows_of(["ada"]))
    assert len(value) == found["state_row_bytes"]  # a full ring
    assert found["memory_per_user_bytes"] < 3_000  # the promise of the design


def test_small_and_growing_loads() -> None:
    small = plan(Asked(1, 0.5), load())
    assert small["workers"] == 1 and small["partitions"] == 12
    before = small
    for clicks in (1e3, 1e4, 1e5, 1e6):
        found = plan(Asked(10_000_000, clicks), load())
        assert found["workers"] >= before["workers"] and found["partitions"] >= 2 * found["workers"]
        assert found["partitions"] % 12 == 0
        assert found["item_row_bytes"] >= before["item_row_bytes"]  # it has a mark a partition
        before = found
    assert GIB == 2**30


@pytest.mark.parametrize(
    "asked", [Asked(0, 1.0), Asked(1, 0.0), Asked(1, math.nan), Asked(1, math.inf), Asked(1, 1.0, 0)]
)
def test_no_load_is_none(asked: Asked) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        plan(asked, load())


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--users", "1000000", "--clicks-per-second", "50000"]
    assert run([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["plan"]["workers"] == 3 and said["asked"]["items"] == 1_000_000
    assert run(arguments) == 0 and "changelog_mib_per_s" in capsys.readouterr().out
    assert run(["plan", "--users", "0", "--clicks-per-second", "1"]) == 2


def test_the_page_about_a_large_load_has_these_figures() -> None:
    page = (Path(__file__).parents[3] / "docs/scale.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|", page, re.MULTILINE))
    found = plan(Asked(100_000_000, 1_000_000), load())
    assert told == {name: f"{value:,}" for name, value in found.items()}, "python deploy/render.py"
    measured = on_paper(10_000)
    assert measured["workers"] == 100 and measured["users"] == 100_000_000
