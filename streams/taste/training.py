"""New revisions of the sequence model, trained beside a worker on what its own readers did last.

After every `taste.sequence.train_every` positive events the rings of the newest readers are copied, a few hundred at a
time, into a file of clicks, and `headrace train sequence --split all` makes a model of them: in a process of its own,
at low priority, for at most `train_minutes`. It puts the model where `streams.taste.revisions` looks, which takes it
into use like any other. The loop waits for none of it, and nothing is trained twice at a time.

The file holds readers' numbers in place of their names, of readers without a profile nothing, can be read by this
user alone and goes when the training ends, whatever its result; a worker that is killed meanwhile (SIGKILL) leaves it
in the folder for temporary files. A training that fails is said and counted, and the model
before goes on serving.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.readers.past import Past, pasts_of
from models.taste.readers.users import UserRows
from streams.sections import taste as sections
from streams.taste.learning import Anonymous

log = logging.getLogger(__name__)

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

MOST_EVENTS = 500_000  # that are trained on, about: those of the readers who came last
READERS_AT_ONCE = 256
NICE = 15
_GRACE_S = 60.0  # beyond its minutes: to start, to read and to write
_LAST_WORDS = 500  # characters of what a training that failed said


class Training:
    """Of one worker."""

    def __init__(
        self,
        settings: sections.Sequence,
        users: UserRows,
        without_profile: Anonymous,
        observe: Callable[[str], None],
    ) -> None:
        """`observe` is told `done`, `failed` or `late` for each training."""
        self._settings, self._users = settings, users
        self._without_profile, self._observe = without_profile, observe
        self._since = 0  # positive events since the last training began

    @property
    def goes_on(self) -> bool:
        """Whether `run` has something to do."""
        return self._settings.train_every > 0

    def follow(self, kinds: I8, applied: Bools) -> None:
        """Events (n,) that were just folded."""
        if self.goes_on:
            self._since += int(np.count_nonzero(applied & actions.is_positive(kinds)))

    async def run(self) -> None:
        """Train whenever there are enough events, for ever."""
        while self.goes_on:
            await asyncio.sleep(self._settings.check_s)
            if self._since >= self._settings.train_every:
                self._since = 0
                await self.train()

    async def train(self) -> None:
        """Once, to its end."""
        assert self._settings.folder is not None  # the settings say so
        try:
            with TemporaryDirectory(prefix="headrace-train-") as folder:  # for this user alone
                clicks = Path(folder) / "clicks.jsonl"
                await self._record(clicks)
                result, words = await _process(self._arguments(clicks), 60 * self._settings.train_minutes)
        except OSError as error:
            result, words = "failed", str(error)
        self._observe(result)
        if result != "done":
            log.warning("the sequence model was not trained anew (%s): %s", result, words)

    def _arguments(self, clicks: Path) -> list[str]:
        settings = self._settings
        options = {
            "format": "jsonl",
            "split": "all",
            "out": settings.folder,
            "minutes": settings.train_minutes,
            "shuffle": settings.train_shuffle,
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        return [
            sys.executable,
            "-m",
            "streams",
            "--set=media.threads=1",
            "train",
            "sequence",
            str(clicks),
            *given,
        ]

    async def _record(self, path: Path) -> None:
        """The rings of the readers who came last, as clicks."""
        users, left = self._users, MOST_EVENTS
        held = np.flatnonzero(users.partition_of >= 0).astype(np.int32)
        held = held[np.argsort(-users.newest_at_ms[held], kind="stable")]
        with path.open("wb") as file:
            for start in range(0, len(held), READERS_AT_ONCE):
                rows = held[start : start + READERS_AT_ONCE]
                rows = rows[users.partition_of[rows] >= 0]  # without those who have left meanwhile
                pasts = pasts_of(users, rows, self._anonymous(rows))
                left -= sum(len(past.items) for past in pasts)
                await asyncio.to_thread(_write, file, pasts, users.items.names)
                if left <= 0:
                    break

    def _anonymous(self, rows: I32) -> Bools:
        names = [self._users.names[row] for row in rows.tolist()]
        wished = self._without_profile(self._users.partition_of[rows], names)
        return np.broadcast_to(wished, len(rows))


def _write(file: BinaryIO, pasts: Sequence[Past], names: Sequence[str | None]) -> None:
    """What was chosen, as clicks of readers by number. `names` may grow meanwhile."""
    clicks = (
        {"user": str(past.reader), "item": names[item], "kind": "click", "at": at_ms}
        for past in pasts
        for item, at_ms in zip(past.items.tolist(), past.times_ms.tolist(), strict=True)
    )
    file.write(msgspec.json.Encoder().encode_lines(list(clicks)))


async def _process(arguments: Sequence[str], for_s: float) -> tuple[str, str]:
    """Run it to its end or for so long: `done`, `failed` or `late`, and its last words."""
    process = await asyncio.create_subprocess_exec(*arguments, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        async with asyncio.timeout(for_s + _GRACE_S):
            _, words = await process.communicate()
    except TimeoutError:
        return "late", f"it was ended after {for_s + _GRACE_S:.0f} s"
    finally:
        if process.returncode is None:  # the worker ends, or it took too long
            process.kill()
            await process.wait()
    return "done" if process.returncode == 0 else "failed", words.decode(errors="replace")[
        -_LAST_WORDS:
    ].strip()
