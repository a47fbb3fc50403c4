"""What speaks for items in a list, and what of a reader it is made from: counts, taste and popularity. Compiled.

    L0(i)   = sum over the last W positive items j_k
              of lambda**(k-1) * C[j_k, i] / ((1 + row[j_k])**b * (1 + col[i])**a)
    L1(i)   = sum over half-lives h of beta_h * cos(bank_h, sketch_i)
    score   = L0 + m * (beta * L1 + p * popularity / max popularity),  m = the user's largest L0, 1 if that is 0

A second step along the counts (`walk`) finds what goes with what goes with the reader's items; weight q, at the scale
of m like the rest. Further sources (`models.taste.lists.sources`) add their scores at the scale of m, too. A user
without history gets popular items. Every term is a sum over known parts, so shares and reasons are exact. What happens
between scores and reasons is in `models.taste.lists.pipeline`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.taste import actions
from models.taste.items.table import ItemTable
from models.taste.lists.sources import Parts
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LAYERS = ("counts", "taste", "popularity")
_POSITIVE = actions.is_positive(np.arange(len(actions.KINDS), dtype=np.int8))


@dataclass(frozen=True, slots=True)
class RankSettings:
    """How layers are weighed; symbols as in the formulas above. A starting point: `taste` is not tuned yet."""

    window: int = 10  # W, recent items that count
    order_decay: float = 0.85  # lambda: the k-th most recent item counts lambda**(k-1)
    popularity_power: float = 0.35  # a: how far an item's own popularity is divided out
    row_power: float = 0.5  # b: the same for the items had
    popularity: float = 0.1  # p; 0 switches the layer off, except for users of whom nothing is known
    counts: bool = True  # L0
    taste: float = 0.1  # beta; 0 switches L1 off
    half_lives: tuple[float, ...] | None = None  # beta_h; None weighs them equally, sum 1
    walk: float = 0.0  # q; 0: no second step
    repeat: bool = False  # may an item of the user's ring be listed again


@dataclass(frozen=True, slots=True)
class Readers:
    """B readers. What taste and popularity weigh is at a scale of 1 until `scaled_by` or a search brings it to that of
    the reader's counts."""

    past: I32  # (B, W) last items, most recent first, -1 where none or not positive
    kinds: I8  # (B, W)
    at_ms: I64  # (B, W)
    heads: F32  # (B, W) what each counts: all of an item at its newest place
    wanted: F32  # (B, D) taste: its dot product with a sketch is the layer
    weight: F32  # (B,) of popularity
    scaled: bool  # whether popularity goes by the scale

    def scaled_by(self, scale: F32) -> None:
        """To this scale (B,)."""
        self.wanted[:] *= scale[:, None]
        if self.scaled:
            self.weight[:] *= scale


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scores of a batch are made of."""

    readers: Readers
    parts: Parts = field(default_factory=Parts)  # of further sources


def readers_of(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    anonymous: Bools | None = None,
) -> Readers:
    """Readers by row (B,). Of those who are `anonymous` (B,) nothing is looked at. `table.cover()` comes first."""
    batch, window, banks = len(rows), settings.window, users.bank.shape[1]
    found = _empty(batch, window, table.items.dim, settings)
    factor = table.prepared(now_ms, settings.popularity_power).factor
    shares = np.array(settings.half_lives or (1 / banks,) * banks) * settings.taste
    places = np.zeros(window)
    if settings.counts:
        places += settings.order_decay ** np.arange(window)
    hidden = np.zeros(batch, np.bool_) if anonymous is None else anonymous
    _read(
        np.ascontiguousarray(rows, np.int32), hidden, users.ring_items, users.ring_kinds, users.ring_at_ms,
        users.pushed, users.bank, _POSITIVE, table.out, table.total, table.symmetry, factor, settings.row_power,
        places, shares, settings.popularity,
        found.past, found.kinds, found.at_ms, found.heads, found.wanted, found.weight,
    )  # fmt: skip
    return found


def strangers(table: ItemTable, batch: int, settings: RankSettings) -> Readers:
    """Readers of whom nothing is known or looked at, at their scale."""
    found = _empty(batch, settings.window, table.items.dim, settings)
    for column in (found.kinds, found.at_ms, found.heads, found.wanted):
        column[:] = 0
    found.past[:] = -1
    found.weight[:] = settings.popularity or 1
    return found


def _empty(batch: int, window: int, dim: int, settings: RankSettings) -> Readers:
    return Readers(
        np.empty((batch, window), np.int32),
        np.empty((batch, window), np.int8),
        np.empty((batch, window), np.int64),
        np.empty((batch, window), np.float32),
        np.empty((batch, dim), np.float32),
        np.empty(batch, np.float32),
        bool(settings.popularity),
    )


@compiled(
    "void(int32[::1], boolean[::1], int32[:, ::1], int8[:, ::1], int64[:, ::1], int64[::1], float32[:, :, ::1], "
    "boolean[::1], float64[::1], float32[::1], float64, float64, float64, float64[::1], float64[::1], float64, "
    "int32[:, ::1], int8[:, ::1], int64[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1])"
)
def _read(
    rows: I32, hidden: Bools, ring_items: I32, ring_kinds: I8, ring_at_ms: I64, pushed: I64, bank: F32,
    positive: Bools, out: F64, total: F32, symmetry: float, factor: float, power: float, places: F64, shares: F64,
    popularity: float,
    past: I32, kinds: I8, at_ms: I64, heads: F32, wanted: F32, weight: F32,
) -> None:  # fmt: skip
    batch, window = past.shape
    ring, dim = ring_items.shape[1], wanted.shape[1]
    for reader in range(batch):
        row, known = rows[reader], False
        for place in range(window):
            at = pushed[row] - 1 - place
            slot = at % ring
            kind, item = ring_kinds[row, slot], ring_items[row, slot]
            past[reader, place], kinds[reader, place], at_ms[reader, place] = -1, 0, 0
            heads[reader, place] = 0
            if at < 0 or place >= ring:
                continue
            kinds[reader, place], at_ms[reader, place] = kind, ring_at_ms[row, slot]
            if item <= 0 or hidden[reader] or not positive[kind]:
                continue
            past[reader, place], known = item, True
            newest = 0
            while past[reader, newest] != item:
                newest += 1
            follow = 1 + (out[item] + symmetry * total[item]) * factor
            heads[reader, newest] += places[place] / follow**power
        weight[reader] = popularity
        if popularity == 0 and not known:
            weight[reader] = 1
        wanted[reader] = 0
        if hidden[reader]:
            continue
        for half_life in range(len(shares)):
            length = 0.0
            for place in range(dim):
                length += float(bank[row, half_life, place]) * float(bank[row, half_life, place])
            if length > 0:
                share = np.float32(shares[half_life] / math.sqrt(length))
                for place in range(dim):
                    wanted[reader, place] += share * bank[row, half_life, place]
