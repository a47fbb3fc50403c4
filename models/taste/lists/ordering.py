"""A list's candidates ordered anew by all that this worker learnt from what readers choose. NumPy alone.

    candidates   the M best by the plain score, the best of each part of `models.taste.learnt.knowledge`, and the
                 reader's own where they may be listed again: all of them after every filter
    base(i)      = sum over parts p, forms f of w_pf x_f(s_p(i) / max s_p) + sum over places o of w_o [i at o]
                 weights as in `models.taste.learnt.blend`, by how much the reader had; none below 0
    order(i)     = what a small network (`models.taste.learnt.reranker`) adds to the best of them by `base`, less the
                   least that it adds; nothing to others
    score(i)     = base(i) + order(i)

So scores and shares lie at 0 or above and add up exactly: those of the parts, and the network's adjustment as one of
its own, `order`, since a network has no shares. Parts are told apart as few sources (`SOURCES`).

Weights and network learn from choices, test first, in bounded steps, with what was known when the list was made. A
function of lists and choices in their order and of the seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste.learnt.blend import FORMS, Blend, spread
from models.taste.learnt.calibrated import Candidates
from models.taste.learnt.contexts import NAMES as CONTEXTS
from models.taste.learnt.following import OF_ITEM
from models.taste.learnt.knowledge import NAMES, Knowledge
from models.taste.learnt.reranker import Reranker, RerankSettings
from models.taste.learnt.situations import GAP_S, SITUATIONS, situations
from models.taste.lists.barred import Barred
from models.taste.lists.sources import Parts
from models.taste.readers.past import Past, pasts_of
from models.taste.readers.users import UserRows

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

GIVEN = ("counts", "taste", "popularity", "walk", "content", "sequence", "nearest")
PARTS = (*GIVEN, *NAMES)
START = {
    "counts": 1.0,
    "taste": 0.1,
    "popularity": 0.1,
    "walk": 0.1,
    "content": 0.1,
    "sequence": 0.1,
    "nearest": 0.1,
}
OWN = 9  # what is said of a reader's own items
LEADS = 2.0  # of own items that lead, before anything is learnt: the last one's weight
OF_READER = ("gap", "had", "like")
_GAP_SCALE = 8
SOURCES = {
    "steps": (
        "steps",
        "wide",
        "follows",
        "beside",
        "together",
        "together-walk",
        "steps-walk",
        "ridge",
        *CONTEXTS,
    ),
    "readers": ("readers", "alongside", "alike", "fresh", "after"),
    "now": ("now-50", "now", "now-2000", "place", "minutes", "hours", "days"),
    "own": (),
    "order": (),
}
"""Name in reasons -> the parts that it stands for."""
PROPOSE = ("steps", "steps-walk", "readers", "after", "pair", "now-50", "ridge")
"""Parts of which the best are candidates."""
PROPOSING = ("sequence",)
"""Further sources of the plain score of which they are, too."""
RATE = 0.15
_NO_PARTS = Parts()


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """How much is looked at and kept."""

    proposed: int = 30  # best items of each of PROPOSE
    own: int = 10  # a reader's latest items, where they may be listed again
    own_first: bool = False  # these lead until something else is learnt
    rate: float = RATE
    network: RerankSettings = field(
        default_factory=lambda: RerankSettings(
            candidates=120, hidden=32, group=16, again=8, kept=4_000, average=0.98
        )
    )


@dataclass(frozen=True, slots=True)
class Proposed:
    """Candidates of B readers and what is known of them."""

    items: I32  # (B, N), -1 padded
    known: F32  # (B, len(NAMES), N)
    further: F32  # (B, N, OWN + len(OF_ITEM) + len(OF_READER))


class Ordering:
    """Not thread-safe."""

    def __init__(self, settings: OrderSettings, seed: int = 0) -> None:
        self._how = settings
        self.known = Knowledge()
        start = np.zeros((len(PARTS), FORMS))
        start[:, 0] = [START.get(name, 0.0) for name in PARTS]
        own = np.zeros(OWN)
        if settings.own_first:
            own[:6] = LEADS - 0.1 * np.arange(6)
        self._blend = Blend(np.append(start.reshape(-1), own), settings.rate, SITUATIONS)
        width = len(PARTS) + OWN + len(OF_ITEM) + len(OF_READER)
        self._network = Reranker(width, settings.network, seed)

    @property
    def choices(self) -> int:
        """How many were learnt from."""
        return self._blend.choices

    def propose(
        self,
        users: UserRows,
        rows: I32,
        items: I32,
        barred: Barred,
        anonymous: Bools | None = None,
        sources: Parts = _NO_PARTS,
        asked_ms: I64 | None = None,
    ) -> Proposed:
        """For readers by row (B,) with these best items (B, M), -1 padded. Of `anonymous` ones nothing is looked at.
        `sources` are the further ones of the plain score; `asked_ms` (B,) tells how long ago a reader's last choice
        was, where a list is not made for that choice."""
        size = len(users.items)
        everywhere = barred.mask(size)
        pairs = barred.all_pairs(size)
        own = self._how.own
        given = [
            scores for name, scores in zip(sources.names, sources.scores, strict=True) if name in PROPOSING
        ]
        wide = items.shape[1] + own + (len(PROPOSE) + len(given)) * self._how.proposed
        found = Proposed(
            np.full((len(rows), wide), -1, np.int32),
            np.zeros((len(rows), len(NAMES), wide), np.float32),
            np.zeros((len(rows), wide, OWN + len(OF_ITEM) + len(OF_READER)), np.float32),
        )
        for nth, past in enumerate(pasts_of(users, rows, anonymous)):
            best = items[nth][items[nth] >= 0]
            if not len(past.items):
                found.items[nth, : len(best)] = best
                continue
            allowed = ~everywhere
            allowed[pairs[pairs[:, 0] == nth, 1]] = False
            known = self.known.scores(past, size)
            distinct = np.fromiter(dict.fromkeys(past.items[::-1].tolist()), np.int32)
            lines = [*(known[NAMES.index(name)] for name in PROPOSE), *(scores[nth] for scores in given)]
            more = [_best(line, allowed, self._how.proposed) for line in lines]
            every = np.concatenate([best, distinct[:own][allowed[distinct[:own]]], *more])
            _, first = np.unique(every, return_index=True)
            chosen = every[np.sort(first)].astype(np.int64)
            count = len(chosen)
            found.items[nth, :count] = chosen
            at = known[:, chosen]
            largest = known.max(axis=1, keepdims=True)
            np.divide(at, largest, out=found.known[nth, :, :count], where=largest > 0)
            self._describe(past, known, chosen, found.further[nth, :count])
            if asked_ms is not None:
                gap_s = max(int(asked_ms[nth]) - past.at_ms, 0) / 1000
                found.further[nth, :count, -3] = np.float16(np.log1p(gap_s) / _GAP_SCALE)
        return found

    def weigh(
        self, rows: I32, proposed: Proposed, names: Sequence[str], parts: F32, personal: Bools
    ) -> tuple[F32, Candidates]:
        """What the parts (B, N, P) of the plain score, by these names, and everything else come to, (B, N, P + S) with
        the S SOURCES behind: they add up to the new scores. And what may be learnt from, of readers who are
        `personal` (B,)."""
        batch, count, width = parts.shape
        found = np.zeros((batch, count, width + len(SOURCES)), np.float32)
        looked = np.zeros((batch, count, len(PARTS) + proposed.further.shape[2]), np.float16)
        for nth in range(batch):
            held = int((proposed.items[nth] >= 0).sum())
            if not held:
                continue
            given = np.zeros((len(PARTS), held), np.float32)
            for place, name in enumerate(names):
                if name in GIVEN:
                    given[GIVEN.index(name)] = parts[nth, :held, place]
            given[len(GIVEN) :] = proposed.known[nth, :, :held]
            further = proposed.further[nth, :held]
            features, x, where = _features(given, further)
            looked[nth, :held, : len(PARTS)] = features[: len(PARTS) * FORMS : FORMS].T
            looked[nth, :held, len(PARTS) :] = further
            weighed = self._weights(where)[:, None] * features
            base = weighed.sum(axis=0)
            seen = self._best_by(base)
            adjusted = np.zeros(held, np.float32)
            adjusted[seen] = self._network.scores(x[seen], base[seen]) - base[seen]
            adjusted[seen] -= adjusted[seen].min()
            by_part = weighed[: len(PARTS) * FORMS].reshape(len(PARTS), FORMS, held).sum(axis=1)
            for place, name in enumerate(names):
                if name in GIVEN:
                    found[nth, :held, place] = by_part[GIVEN.index(name)]
            for place, members in enumerate(_MEMBERS, width):
                found[nth, :held, place] = by_part[members].sum(axis=0)
            found[nth, :held, -2] = weighed[len(PARTS) * FORMS :].sum(axis=0)
            found[nth, :held, -1] = adjusted
        return found, Candidates(rows[personal], proposed.items[personal], looked[personal], (), self)

    def learn(self, names: Sequence[str], parts: F32, chosen: int, possible: Bools) -> None:
        """A reader took candidate `chosen` of those `possible` (N,), of which `weigh` had looked at `parts`."""
        held = int(possible.sum())
        looked = parts[:held].astype(np.float32)
        features, x, where = _features(looked[:, : len(PARTS)].T, looked[:, len(PARTS) :])
        base = self._weights(where) @ features
        self._blend.learn(features, chosen, possible[:held], where)
        shared = self._blend.weights[: self._blend.features]
        np.maximum(shared, 0, out=shared)  # so that what is learnt is what serves
        kept = self._best_by(base)
        place = np.flatnonzero(kept == chosen)
        if len(place):  # what the network would not have looked at says nothing of what it orders
            self._network.learn(x[kept], base[kept], int(place[0]))

    def bytes_used(self) -> int:
        """Of the choices that the network draws again, and of what is known."""
        return self._network.bytes_used() + self.known.bytes_used()

    def encode(self) -> bytes:
        """What was learnt of weights: not the knowledge, which follows from readers' rings."""
        blend = self._blend.encode()
        return len(blend).to_bytes(4, "little") + blend + self._network.encode()

    def load(self, value: bytes) -> None:
        """Take an encoded state. Raises BadInput("blend_layout" or "reranker_layout"); it is then unchanged."""
        stop = 4 + int.from_bytes(value[:4], "little")
        before = self._blend.encode()
        self._blend.load(value[4:stop])
        try:
            self._network.load(value[stop:])
        except BadInput:
            self._blend.load(before)
            raise

    def _weights(self, where: tuple[int, ...]) -> F32:
        table = self._blend.weights.reshape(-1, self._blend.features)
        found: F64 = table[0] + table[[1 + one for one in where]].sum(axis=0)
        return np.maximum(found, 0).astype(np.float32)

    def _best_by(self, base: F32) -> I64:
        """The candidates that the network looks at, of those with these scores (N,): as many best ones as it learns
        from. Of others it knows nothing: no choice ever told it that they are no good."""
        most = self._how.network.candidates
        if len(base) <= most:
            return np.arange(len(base))
        return np.sort(np.argpartition(-base, most - 1)[:most])

    def _describe(self, past: Past, known: F32, chosen: I64, into: F32) -> None:
        """Write what is said of own items, of items and of the reader into (N, ...)."""
        newest = past.items[::-1]
        distinct, first, times = np.unique(newest, return_index=True, return_counts=True)
        order = np.argsort(np.argsort(first))
        at = np.minimum(np.searchsorted(distinct, chosen), len(distinct) - 1)
        rows = np.flatnonzero(distinct[at] == chosen)
        at = at[rows]
        into[rows, np.minimum(order[at], 5)] = 1
        into[rows, 6] = np.log(times[at])
        into[rows, 7] = (order[at] == 0) & (len(newest) > 1 and newest[0] == newest[min(1, len(newest) - 1)])
        into[rows, 8] = 1 / (1 + order[at])
        into[:, OWN : OWN + len(OF_ITEM)] = self.known.of_items(chosen, past.at_ms)
        into[:, -2] = len(past.items)
        into[:, -1] = np.sqrt(known[NAMES.index("alike")].max(initial=0))


_MEMBERS = [
    np.array([PARTS.index(name) for name in members], np.int64)
    for source, members in SOURCES.items()
    if source not in ("own", "order")
]


def _features(given: F32, further: F32) -> tuple[F32, F32, tuple[int, ...]]:
    """Of parts (P, N) and the rest (N, R): what the blend weighs (F, N), what the network sees (N, X), and the
    situation."""
    forms = spread(given)
    features = np.concatenate([forms, further[:, :OWN].T])
    x = np.concatenate([forms[FORMS - 1 :: FORMS].T, further], axis=1)
    had = float(further[0, -2])
    x[:, -2] = np.log1p(had) / 3
    gap_s = math.expm1(_GAP_SCALE * float(further[0, -3]))
    if not had:
        return features, x, ()
    of_had, of_gap = situations(int(had), gap_s)
    return features, x, (of_had, of_gap) if gap_s >= GAP_S[0] else (of_had,)


def _best(scores: F32, allowed: Bools, most: int) -> I32:
    """Up to `most` items that score above 0."""
    some = np.flatnonzero((scores > 0) & allowed[: len(scores)])
    if len(some) > most:
        some = some[np.argpartition(-scores[some], most - 1)[:most]]
    return some.astype(np.int32)
