"""The sequence model of `taste.sequence.folder`, and every later revision that is put there, without a restart.

The folder is looked at every `check_s`; what changed is read and checked in a thread and then taken into use at once,
between two groups. A revision that is refused is said and counted, and the one before goes on serving. Where the worker
trains its own (`streams.taste.training`), the folder may be empty at first: there is no such source until one is there.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from models.errors import WeightsMismatch
from models.sequence.folder import MANIFEST, Loaded, read
from models.sequence.source import Newest
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows
from streams.errors import EnvironmentProblem
from streams.sections.taste import Sequence

log = logging.getLogger(__name__)

_MOST_FILES = 1_000

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, inode, nanoseconds of the last change and size of each file; nothing where there is no manifest (yet)."""


class Revisions:
    """`further` is what lists take: nothing where no folder is set."""

    def __init__(self, settings: Sequence, users: UserRows, observe: Callable[[str], None]) -> None:
        """`observe` is told `loaded` or `refused` for each revision."""
        self._settings, self._observe = settings, observe
        self._newest = Newest(users, settings.weight)
        self._looked: Signature = ()

    @property
    def further(self) -> tuple[Weighted, ...]:
        return self._newest.further

    @property
    def goes_on(self) -> bool:
        """Whether `run` has something to do."""
        return self._settings.folder is not None

    @property
    def name(self) -> str | None:
        """The revision in use."""
        return self._newest.source.revision if self._newest.source else None

    def bytes_used(self) -> int:
        """Of readers' states under the model."""
        return self._newest.source.states.bytes_used() if self._newest.source else 0

    async def start(self) -> None:
        """Read the first model. Raises EnvironmentProblem if there is none that is whole, and none will be trained."""
        folder = self._settings.folder
        if folder is None:
            return
        self._looked = await asyncio.to_thread(_signature, folder)
        if self._settings.train_every and not self._looked:
            return
        try:
            loaded = await asyncio.to_thread(read, folder)
        except WeightsMismatch as error:
            raise EnvironmentProblem(f"taste.sequence.folder: {error}") from None
        self._use(loaded)

    async def run(self) -> None:
        """Look for new revisions, for ever; at once over where there is no folder."""
        while self._settings.folder is not None:
            await asyncio.sleep(self._settings.check_s)
            await self._look(self._settings.folder)

    async def _look(self, folder: Path) -> None:
        signature = await asyncio.to_thread(_signature, folder)
        if signature == self._looked:
            return
        try:
            loaded = await asyncio.to_thread(read, folder)
        except WeightsMismatch as error:
            if (
                await asyncio.to_thread(_signature, folder) == signature
            ):  # else it is being written: look again
                self._looked = signature
                self._observe("refused")
                log.warning("%s; %s goes on serving", error, self.name or "no model")
            return
        self._looked = signature
        if self._newest.source is None or loaded.id != self._newest.source.loaded.id:
            self._use(loaded)

    def _use(self, loaded: Loaded) -> None:
        self._newest.use(loaded)
        self._observe("loaded")
        log.info("sequence model %s: %d items", loaded.manifest.revision, loaded.manifest.items)


def _signature(folder: Path) -> Signature:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_MOST_FILES), strict=False):
                stat = entry.stat(follow_symlinks=True)
                found.append((entry.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    except OSError:  # not there, or a file that went away meanwhile: reading it says which
        return ()
    return tuple(sorted(found)) if any(name == MANIFEST for name, *_ in found) else ()
