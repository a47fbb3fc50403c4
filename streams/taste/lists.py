"""Lists on the wire: what `models.taste.lists.rank` found, with names, reasons and ids. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.taste.lists.rank import LAYERS
from models.taste.lists.reasons import Lists
from streams.effects import Header
from streams.events import RECOMMENDATION, SOURCE, Because, Reason, Recommendation, Recommended
from streams.topology.topics import CLICKS

MODEL = "taste-v1"
SMALLEST_SHARE = 0.0005  # of a score; smaller ones are left out


class Touched(msgspec.Struct):
    """The small output of `taste.output = "touched"`: who moved, and by which click."""

    id: str
    user: str
    at: int
    because: Because


def touched(user: str, partition: int, offset: int, at_ms: int) -> bytes:
    """A reader moved."""
    return _encode(Touched(f"{CLICKS}-{partition}-{offset}", user, at_ms, Because(CLICKS, partition, offset)))


def listed_by(revision: str | None) -> str:
    """What a list names as its model; `revision` is that of a sequence model which spoke for it."""
    return f"{MODEL}+{revision}" if revision else MODEL


def recommendation(
    user: str,
    partition: int,
    offset: int,
    at_ms: int,
    items: list[Recommended],
    experiment: str | None = None,
    arm: str | None = None,
    model: str = MODEL,
) -> tuple[bytes, list[Header]]:
    """A list's value and headers. The id names the click that caused it: a replay writes the same one."""
    name = f"{CLICKS}-{partition}-{offset}"
    value = _encode(
        Recommendation(
            id=name,
            user=user,
            at=at_ms,
            model=model,
            items=items,
            because=Because(CLICKS, partition, offset),
            experiment=experiment,
            arm=arm,
        )
    )
    return value, [*_HEADERS, ("ce_id", name.encode())]


def named(lists: Lists, names: Sequence[str | None]) -> list[list[Recommended]]:
    """B lists with names and reasons. The shares of an item add up to 1 (-1 where the score is below 0), to rounding:
    the strongest past item, the rest of the history, the taste vectors, popularity, further sources by name,
    exploration. A share below 0 spoke against the item."""
    scores = np.abs(lists.scores)
    scores[scores == 0] = 1
    shares = lists.layers / scores[:, :, None]
    because = lists.past[np.arange(len(scores))[:, None], lists.because]
    because[lists.because < 0] = -1
    # float64 first: a rounded float32 becomes a long decimal again
    parts = np.empty((4, *scores.shape), np.float64)
    parts[0] = lists.because_share
    parts[1] = shares[..., 0] - lists.because_share  # of the layers, the first is counts
    parts[2], parts[3] = shares[..., 1], shares[..., 2]
    columns = (lists.items, lists.scores.astype(np.float64).round(6), because, *parts.round(4))
    found = [_list(names, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    if lists.sources:
        _add_sources(found, lists.sources, shares[..., len(LAYERS) :])
    explored = lists.propensity > 0
    for reader, nth in np.argwhere(explored).tolist() if np.count_nonzero(explored) else ():
        one = found[reader][nth]
        chance = float(f"{lists.propensity[reader, nth]:.6g}")
        found[reader][nth] = Recommended(one.item, one.score, [Reason("exploration", 1.0)], chance)
    return found


def _add_sources(
    found: list[list[Recommended]], sources: Sequence[str], shares: NDArray[np.floating]
) -> None:
    """Reasons from further sources, by their shares (B, k, S)."""
    rounded = np.round(shares.astype(np.float64), 4).tolist()
    for reader, nth, which in np.argwhere(np.abs(shares) >= SMALLEST_SHARE).tolist():
        found[reader][nth].reasons.append(Reason(sources[which], rounded[reader][nth][which]))


def _list(
    names: Sequence[str | None],
    items: Sequence[int],
    scores: Sequence[float],
    pasts: Sequence[int],
    shares: Sequence[float],
    histories: Sequence[float],
    tastes: Sequence[float],
    popularities: Sequence[float],
) -> list[Recommended]:
    """One list. Plain loop: it runs 20 times a list, and calls and generators here cost as much as ranking."""
    found: list[Recommended] = []
    for item, score, past, after, history, taste, popularity in zip(
        items, scores, pasts, shares, histories, tastes, popularities, strict=True
    ):
        if item < 0:
            break
        reasons = [Reason("after", after, names[past])] if past >= 0 else []
        if history >= SMALLEST_SHARE:
            reasons.append(Reason("history", history))
        if taste >= SMALLEST_SHARE or taste <= -SMALLEST_SHARE:
            reasons.append(Reason("taste", taste))
        if popularity >= SMALLEST_SHARE:
            reasons.append(Reason("popularity", popularity))
        found.append(Recommended(names[item] or "", score, reasons))
    return found


_encode = msgspec.json.Encoder().encode
_HEADERS: list[Header] = [
    ("ce_type", RECOMMENDATION.encode()),
    ("ce_source", SOURCE.encode()),
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
]
