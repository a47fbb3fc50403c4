"""Models that are trained beside a worker on what its readers did last, in a process of its own, and taken into use."""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.readers.users import UserRows
from running import until
from streams.sections.taste import Sequence as Settings
from streams.taste import training as module
from streams.taste.revisions import Revisions
from streams.taste.training import Training

ITEMS = [f"i{n}" for n in range(12)]
CLICK, SKIP = actions.CODES["click"], actions.CODES["skip"]


def crowd(readers: int = 24, events: int = 12) -> UserRows:
    """Readers of two partitions who go round in a circle of items; each skips one in between."""
    users = UserRows(ItemIndex())
    items = users.items.lookup(ITEMS)
    for step in range(events + 1):
        rows = np.array([users.rows_of([f"Ruth {n}"], n % 2)[0] for n in range(readers)], np.int32)
        kinds = np.full(readers, SKIP if step == events // 2 else CLICK, np.int8)
        chosen = items[(np.arange(readers) + step - (step > events // 2)) % len(ITEMS)]
        at_ms, offsets = np.full(readers, 10**12 + 1_000 * step), np.full(readers, step)
        users.fold_rows(rows, chosen, kinds, np.ones(readers, np.float32), at_ms, offsets, 10)
    return users


def nobody(partitions: Any, names: Sequence[str]) -> bool:
    return False


def made(
    users: UserRows, folder: Path, anonymous: Any = nobody, **more: Any
) -> tuple[Training, Settings, list[str]]:
    told: list[str] = []
    settings = Settings(folder=folder, check_s=0.05, **more)
    return Training(settings, users, anonymous, told.append), settings, told


def test_a_model_is_trained_after_so_many_choices_and_taken_into_use(tmp_path: Path) -> None:
    """From an empty folder on. What comes next in the circle is what the model says."""
    users = crowd()
    training, settings, told = made(users, tmp_path / "model", train_every=100)
    seen: list[str] = []
    revisions = Revisions(settings, users, seen.append)

    async def main() -> None:
        await revisions.start()
        assert revisions.further == () and revisions.goes_on
        tasks = [asyncio.create_task(one.run()) for one in (training, revisions)]
        kinds = np.array([CLICK] * 99 + [SKIP], np.int8)
        training.follow(kinds, np.ones(100, np.bool_))
        training.follow(np.array([CLICK], np.int8), np.zeros(1, np.bool_))  # not applied
        await asyncio.sleep(0.3)
        assert told == [] and training._since == 99  # no training has begun
        training.follow(np.array([CLICK], np.int8), np.ones(1, np.bool_))
        await until(lambda: bool(seen and told), 300, "a model that is in use")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert told == ["done"] and seen == ["loaded"]
    (weighted,) = revisions.further
    rows = np.array([users.rows_of(["Ruth 4"], 0)[0], users.rows_of(["Ruth 7"], 1)[0]], np.int32)
    best = weighted.source.scores(users, rows, 0).argmax(axis=1)
    assert [users.items.names[item] for item in best.tolist()] == [
        "i4",
        "i7",
    ]  # all twelve, and from the start again
    about = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert about["data"]["events"] == {"train": 288, "validation": 0, "test": 0}


def test_the_file_names_no_reader_and_nothing_of_who_wishes_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = crowd()
    users.forget("Ruth 2", 0)
    kept: dict[str, Any] = {}

    def look(path: Path) -> None:
        kept.update(path=path, text=path.read_text(), mode=path.parent.stat().st_mode & 0o777)

    async def process(arguments: Sequence[str], for_s: float) -> tuple[str, str]:
        kept["shuffled"] = [one for one in arguments if one.startswith("--shuffle")]
        look(Path(next(one for one in arguments if one.endswith(".jsonl"))))
        return "failed", "on purpose"

    def some(partitions: np.ndarray, names: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
        assert partitions.tolist() == [int(name.split()[1]) % 2 for name in names]
        return np.array([name == "Ruth 3" for name in names], np.bool_)

    monkeypatch.setattr(module, "_process", process)
    monkeypatch.setattr(module, "READERS_AT_ONCE", 5)
    training, _, told = made(users, tmp_path / "model", some, train_every=1, train_shuffle=32)
    asyncio.run(training.train())
    assert kept["shuffled"] == ["--shuffle=32.0"]
    assert told == ["failed"] and not kept["path"].exists() and kept["mode"] == 0o700
    lines = [json.loads(line) for line in kept["text"].splitlines()]
    assert len(lines) == 22 * 12 and "Ruth" not in kept["text"]
    rows = {str(row) for row in range(24)} - {line["user"] for line in lines}
    assert rows == {str(users.rows_of(["Ruth 3"], 1)[0]), "2"}  # row 2 was that of who is forgotten
    assert [line["item"] for line in lines if line["user"] == "0"] == ITEMS
    monkeypatch.setattr(module, "MOST_EVENTS", 48)  # four readers, and one of whom nothing is taken
    asyncio.run(training.train())
    assert len(kept["text"].splitlines()) == 4 * 12


def test_what_fails_is_said_and_what_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training, _, told = made(UserRows(ItemIndex()), tmp_path / "model", train_every=1, train_minutes=0.0001)
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    fails = [sys.executable, "-c", "import sys; sys.exit('no room')"]
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(Training, "_arguments", lambda self, clicks: fails)
        asyncio.run(training.train())
        monkeypatch.setattr(Training, "_arguments", lambda self, clicks: ["/nowhere/python"])
        asyncio.run(training.train())
        monkeypatch.setattr(Training, "_arguments", lambda self, clicks: sleeps)
        monkeypatch.setattr(module, "_GRACE_S", 0.2)
        asyncio.run(training.train())
    assert told == ["failed", "failed", "late"]
    assert "no room" in caplog.text and "/nowhere/python" in caplog.text and "ended after" in caplog.text


def test_models_need_a_place() -> None:
    with pytest.raises(ValidationError, match="needs a folder"):
        Settings(train_every=1)
