"""A reader as the page shows one: vectors, last events, the list with its reasons, and how each event moved it.

Looked at for as long as a page asks for that reader, on this worker or, over HTTP, on the one that owns the partition.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from streams.errors import Retry
from streams.events import Item, Recommended
from streams.query.api import QueryApi
from streams.query.readers import Shelf, explanation, reader_list, reader_vector

MOVES_KEPT = 20
WATCHED_MOST = 32  # readers that are looked at, at once
RECENT = 12
RECENT_EVERY = 5
TITLES_KEPT = 20_000
TITLE_CHARS = 120
REMOTE_BYTES = 1 << 20
REMOTE_S = 2.0


class Titles:
    """Titles of the newest items, for people. Bounded; what has none is shown by its id."""

    def __init__(self) -> None:
        self._titles: OrderedDict[str, str] = OrderedDict()
        self._decode = msgspec.json.Decoder(Item).decode

    def add(self, value: bytes | None) -> None:
        """Take one record of the topic `items`; what is not an item is left."""
        if value is None:
            return
        try:
            item = self._decode(value)
        except msgspec.DecodeError:
            return
        if item.title:
            self._titles[item.item] = item.title[:TITLE_CHARS]
            self._titles.move_to_end(item.item)
            if len(self._titles) > TITLES_KEPT:
                self._titles.popitem(last=False)

    def of(self, items: Sequence[str | None]) -> dict[str, str]:
        """Titles of those that have one."""
        return {item: self._titles[item] for item in items if item is not None and item in self._titles}


@dataclass(slots=True)
class Watched:
    """What was seen of one reader."""

    fence: int = -2  # of the last picture
    order: list[str] | None = None  # of its list
    moves: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOVES_KEPT))


class Readers:
    """Pictures of readers. `token` is shown to the other workers."""

    def __init__(self, api: QueryApi, titles: Titles, token: str | None) -> None:
        self._api = api
        self._titles = titles
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._watched: dict[str, Watched] = {}
        self._session: aiohttp.ClientSession | None = None
        self._recent: list[str] = []
        self._calls = 0

    def local(self, user: str) -> bool:
        """Whether this worker owns the reader's partition."""
        return self._api.owns(self._api.partition(user))

    def keep(self, users: set[str]) -> list[str]:
        """Forget whom nobody looks at any more; whom to look at."""
        for user in self._watched.keys() - users:
            del self._watched[user]
        chosen = sorted(users)[:WATCHED_MOST]
        for user in chosen:
            self._watched.setdefault(user, Watched())
        return chosen

    def changed(self, user: str) -> dict[str, Any] | None:
        """The picture of a reader of this worker, if an event came since the last one."""
        watched = self._watched.setdefault(user, Watched())
        fence = self._api.about(user, _fence)
        if (-1 if fence is None else fence) == watched.fence:
            return None
        watched.fence = -1 if fence is None else fence
        return self.picture(user, watched)

    def picture(self, user: str, watched: Watched | None = None) -> dict[str, Any]:
        """All of one reader of this worker."""
        watched = watched or self._watched.get(user) or Watched()
        partition = self._api.partition(user)
        known = self._api.about(user, _all)
        if known is None:
            watched.order, watched.moves = None, deque(maxlen=MOVES_KEPT)
            return {"user": user, "partition": partition, "state": "unknown"}
        listed, vector, why = known
        if vector.events:
            _note(watched, vector.events[0], listed.items)
        names = [one.item for one in listed.items] + [event.item for event in vector.events]
        names += [cause.item for one in why.items for cause in one.causes]
        names += [item for move in watched.moves for item in (*move["came"], *move["left"], move["item"])]
        return {
            "user": user,
            "partition": partition,
            "state": "known",
            "list": msgspec.to_builtins(listed.items),
            "explain": msgspec.to_builtins(why.items),
            "bank": msgspec.to_builtins(vector.bank),
            "events": msgspec.to_builtins(vector.events[:12]),
            "fence": vector.fence,
            "at": vector.at,
            "staleness": msgspec.to_builtins(vector.staleness),
            "moves": list(reversed(watched.moves)),
            "titles": self._titles.of(names),
        }

    async def remote(self, user: str) -> dict[str, Any]:
        """The picture as the owner gives it, or why there is none. Never waits long."""
        partition = self._api.partition(user)
        missing = {"user": user, "partition": partition, "state": "elsewhere"}
        try:
            address = await self._api.owner(partition)
            if address is None:
                return missing
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REMOTE_S))
            url = f"{address}/page/readers/{quote(user, safe='')}"
            async with self._session.get(url, headers=self._headers, allow_redirects=False) as answer:
                body = await answer.content.read(REMOTE_BYTES)
                if answer.status != 200:
                    return missing
                found = msgspec.json.decode(body)
                return found if isinstance(found, dict) and found.get("user") == user else missing
        except (Retry, aiohttp.ClientError, asyncio.TimeoutError, msgspec.DecodeError):
            return missing

    def recent(self) -> list[str]:
        """A few readers of this worker, those with the newest events first, as of one of the last few calls: it takes
        a walk over all."""
        if self._calls % RECENT_EVERY == 0:
            self._recent = self._api.recent_readers(RECENT)
        self._calls += 1
        return self._recent

    async def stop(self) -> None:
        """Close the connections to other workers."""
        if self._session is not None:
            await self._session.close()


def _fence(shelf: Shelf, user: str, row: int, _: Any) -> int:
    return int(shelf.rows.fence[row])


def _all(shelf: Shelf, user: str, row: int, staleness: Any) -> Any:
    made: list[Callable[..., Any]] = [reader_list, reader_vector, explanation]
    return tuple(one(shelf, user, row, staleness) for one in made)


def _note(watched: Watched, event: Any, listed: Sequence[Recommended]) -> None:
    """Note how the list was moved by what came since the last picture; the newest event stands for it."""
    order = [one.item for one in listed]
    before, watched.order = watched.order, order
    if before is None:
        return
    watched.moves.append(
        {
            "item": event.item,
            "kind": event.kind,
            "at": event.at,
            "came": [item for item in order if item not in before],
            "left": [item for item in before if item not in order],
            "up": sum(item in before and order.index(item) < before.index(item) for item in order),
        }
    )
