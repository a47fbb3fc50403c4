"""What every worker holds of all items, fed by item-table rows; lists are ranked against it. NumPy alone.

Item-table rows are columns of the counts C (who leads to i); lists need rows (whom j leads to). So each
applied row updates the follower lists of its predecessors in place: cost by changed pairs, never by the size
of the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import decay
from models.taste.best import BLOCK, STEPS
from models.taste.fences import standing
from models.taste.index import UNKNOWN, ItemIndex
from models.taste.items import bars
from models.taste.items.contents import Contents
from models.taste.items.itemrows import decode
from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

EVIDENCE = 10.0  # sum of predecessors at which an item is known half by these and half by its content
IN_SKETCH = 10  # items alike in it: signs of 64 places tell about so many apart, more would drown each other
_CHUNK = 256  # sketches made at once: 256 x N x D x 4 bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """Shared by the lists of one moment."""

    factor: float  # from stored weights to their value now; at most 1
    column: F32  # (I,) factor / (1 + column sum now)**a
    popularity: F32  # (I,) as a share of the most popular item's
    peaks: F32  # the most popular item of each BLOCK of these
    barred: Bools  # (I,) what may not be listed: no row here, so perhaps no name, or withheld


class ItemTable:
    """Columns by item index (the same `ItemIndex` as the users'), all weights in the frame of `ref`.

    present (I,) bool, withheld (I,) bool: a label bars it from lists, fence (I,) int64 of the row that stands or -1,
    popularity (I,) float32, total (I,) float32 sum of predecessors, impressions (I,) float32, out (I,) float64 sum of
    followers, newest_at_ms (I,) int64, followers TopLists, sketches (I, D) float32: unit vectors of two parts, sum of
    w * code(predecessor), so that a user's bank dotted with it is a long-memory version of the counts, and sum of
    cosine * code(item like it in content), which fades as predecessors come: EVIDENCE / (EVIDENCE + their sum).
    rough (I, D) int8 are the sketches in STEPS to 1.
    sums (I,) float32 and places (I,) int32 are 0: whoever works by item borrows them, and puts the zeros back.
    """

    def __init__(
        self,
        items: ItemIndex,
        half_life_s: float = 30 * 86400.0,
        followers: int = 200,
        predecessors: int = 100,
        symmetry: float = 0.5,
    ) -> None:
        """`symmetry` s adds s * C[i, j] to C[j, i]: 0 directed, 1 symmetric. `half_life_s` as of the item
        side.
        """
        self.items = items
        self.symmetry = symmetry
        (self._half_life_ms,) = decay.whole_ms([half_life_s])
        self.ref = -1
        self._version = 0
        self._prepared: tuple[tuple[int, int, int, float], Prepared] | None = None
        self.present: Bools = np.zeros(0, np.bool_)
        self.withheld: Bools = np.zeros(0, np.bool_)
        self.fence: I64 = np.zeros(0, np.int64)
        self.total: F32 = np.zeros(0, np.float32)
        self.impressions: F32 = np.zeros(0, np.float32)
        self.out: F64 = np.zeros(0, np.float64)
        self.newest_at_ms: I64 = np.zeros(0, np.int64)
        self.sketches: F32 = np.zeros((0, items.dim), np.float32)
        self.rough: NDArray[np.int8] = np.zeros((0, items.dim), np.int8)
        self.popularity: F32 = np.zeros(0, np.float32)
        self.sums: F32 = np.zeros(0, np.float32)
        self.places: I32 = np.zeros(0, np.int32)
        self.followers = TopLists(followers, 0)
        self.columns = TopLists(predecessors, 0)
        self.contents = Contents()
        self._reserve(1024)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.present))

    def apply(self, keys: Sequence[str], values: Sequence[bytes | None]) -> I64:
        """Take item-table rows in order. Of several of an item, the one in memory included, that with the highest
        fence stands: a late row of a worker that had lost the item's partition changes nothing. An empty value
        removes the item.

        Returns the changed items' indices. Raises BadInput("item_layout" | "content_layout"); nothing is then changed.
        """
        emptied = {key: n for n, (key, value) in enumerate(zip(keys, values, strict=True)) if not value}
        kept = [n for n, (key, value) in enumerate(zip(keys, values, strict=True)) if value]
        kept = [n for n in kept if n > emptied.get(keys[n], -1)]
        kept = self._inside(kept, keys)
        records = decode([values[n] or b"" for n in kept], self.items, self.columns.width, self._half_life_ms)
        owners = self.items.lookup([keys[n] for n in kept]).astype(np.int64)
        removed = self.items.lookup([keys[n] for n in self._inside(list(emptied.values()), keys)]).astype(
            np.int64
        )
        self.cover()
        before = self.fence[owners]
        before[np.isin(owners, removed)] = -1
        chosen, _ = standing(owners, records.fence, before)
        changed, gone = owners[chosen], np.setdiff1d(removed, owners[chosen])
        told = [bars.split(records.contents[place]) for place in chosen.tolist()]
        alike = self.contents.describe(
            [*changed.tolist(), *gone.tolist()], [*(vector for _, vector in told), *[b""] * len(gone)]
        )
        self.fence[removed] = -1
        self._version += 1
        self._advance(int(records.ref[chosen].max(initial=-1)))
        scale = decay.scale_of(self.ref - records.ref[chosen])
        self.present[changed] = True
        self.withheld[changed] = [bool(steps) for steps, _ in told]
        self.withheld[gone] = False
        self.fence[changed] = records.fence[chosen]
        self.popularity[changed] = records.popularity[chosen] * scale
        self.total[changed] = np.maximum(records.total[chosen], 0) * scale
        self.impressions[changed] = records.impressions[chosen] * scale
        self.newest_at_ms[changed] = records.newest_at_ms[chosen]
        self.present[gone] = False
        self.popularity[gone] = self.total[gone] = self.impressions[gone] = 0
        empty = np.full((len(gone), self.columns.width), -1, np.int32)
        keys_new = np.concatenate([records.predecessors[chosen], empty])
        weights_new = np.concatenate([records.weights[chosen] * scale[:, None], np.zeros(empty.shape)])
        touched = np.concatenate([changed, gone])
        self._set_columns(touched, keys_new, weights_new.astype(np.float32))
        self._sketch(np.setdiff1d(alike, touched))
        return touched

    def _inside(self, places: list[int], keys: Sequence[str]) -> list[int]:
        """Without items beyond the index's bound: they would all be one."""
        found = self.items.lookup([keys[n] for n in places]).tolist()
        return [n for n, item in zip(places, found, strict=True) if item != UNKNOWN]

    def cover(self) -> None:
        """Make room for every item of the index, known here or not."""
        self._reserve(len(self.items))

    def prepared(self, now_ms: int, popularity_power: float) -> "Prepared":
        """What all lists of a moment share; kept until the table or the moment changes.

        `now_ms` is event time; it is cut to 2**-16 of the half-life (40 s at 30 days), an error below 2e-5.
        """
        step = 0
        if self._half_life_ms and self.ref >= 0:
            step = max(0, (now_ms << 16) // self._half_life_ms - (self.ref << 16))
        key = (self._version, len(self.items), step, popularity_power)
        if self._prepared is None or self._prepared[0] != key:
            size, factor = len(self.items), float(2.0 ** (-step / 65536))
            column = factor / (1 + self.column_sums()[:size] * factor) ** popularity_power
            column[UNKNOWN] = 0
            popularity = self.popularity[:size] / max(float(self.popularity.max(initial=0)), 1e-30)
            barred = ~self.present[:size] | self.withheld[:size]
            found = Prepared(factor, column.astype(np.float32), popularity, _peaks(popularity), barred)
            self._prepared = (key, found)
        return self._prepared[1]

    def row_sums(self, items: I32) -> F64:
        """(N,) sum of what each of these items leads to, as `symmetry` says."""
        return self.out[items] + self.symmetry * self.total[items]

    def column_sums(self) -> F64:
        """(I,) sum of what leads to each item, as `symmetry` says."""
        return self.total + self.symmetry * self.out

    def bytes_used(self) -> int:
        """Bytes of the columns (the item index not included)."""
        sums = (
            self.sketches,
            self.rough,
            self.popularity,
            self.total,
            self.impressions,
            self.out,
            self.sums,
            self.places,
        )
        columns = (self.present, self.withheld, self.fence, *sums, self.newest_at_ms)
        lists = (self.followers.keys, self.followers.weights, self.columns.keys, self.columns.weights)
        return sum(column.nbytes for column in (*columns, *lists)) + self.contents.bytes_used()

    def _set_columns(self, items: I64, keys: I32, weights: F32) -> None:
        if not len(items):
            return
        # Predecessors beyond the index's bound, and those of which more was taken back than there was.
        keys = np.where((keys == 0) | (weights <= 0), np.int32(-1), keys)
        weights = np.where(keys >= 0, weights, np.float32(0))
        old, old_weights = _pairs(items, self.columns.keys[items], self.columns.weights[items])
        new, new_weights = _pairs(items, keys, weights)
        np.subtract.at(self.out, old >> 32, old_weights)
        np.add.at(self.out, new >> 32, new_weights)
        self.columns.keys[items] = keys
        self.columns.weights[items] = weights
        pairs = np.concatenate(
            [new[new_weights != _at(new, old, old_weights)], old[_at(old, new, new_weights) == 0]]
        )
        if self.symmetry:
            pairs = np.concatenate([pairs, (pairs & 0xFFFFFFFF) << 32 | pairs >> 32])
        pairs = np.sort(pairs)
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs
        source, target = pairs >> 32, pairs & 0xFFFFFFFF
        counts = self.columns.get(target, source.astype(np.int32))
        if self.symmetry:
            counts += np.float32(self.symmetry) * self.columns.get(source, target.astype(np.int32))
        some = counts > 0
        self.followers.remove(source[~some], target[~some].astype(np.int32))
        self.followers.put(source[some], target[some].astype(np.int32), counts[some])
        self._sketch(items)

    def _sketch(self, items: I64) -> None:
        codes = self.items.codes
        for cut in range(0, len(items), _CHUNK):
            part = items[cut : cut + _CHUNK]
            keys, weights = self.columns.keys[part], self.columns.weights[part]
            sums = np.matmul(weights[:, None, :], codes[np.maximum(keys, 0)])[:, 0]
            if len(self.contents):
                likes, cosines = self.contents.likes.heaviest(part, IN_SKETCH)
                by_content = np.matmul(cosines[:, None, :], codes[np.maximum(likes, 0)])[:, 0]
                share = np.where(likes >= 0, EVIDENCE, 0).max(axis=1) / (EVIDENCE + self.total[part])
                sums = _unit(sums) * (1 - share)[:, None] + _unit(by_content) * share[:, None]
            self.sketches[part] = _unit(sums)
            self.rough[part] = np.rint(self.sketches[part] * np.float32(STEPS))

    def _advance(self, ref: int) -> None:
        """Bring all weights to a newer frame: once a half-life at most."""
        if ref <= self.ref:
            return
        scale = decay.SCALES[min(ref - self.ref, decay.REACH)]
        for column in (
            self.popularity,
            self.total,
            self.impressions,
            self.out,
            self.followers.weights,
            self.columns.weights,
        ):
            column *= scale
        self.ref = ref

    def _reserve(self, items: int) -> None:
        size = len(self.present)
        if items <= size:
            return
        more = max(items, 2 * size) - size
        for name in _FROM_0:
            old = self.__dict__[name]
            self.__dict__[name] = np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)])
        self.fence = np.concatenate([self.fence, np.full(more, -1, np.int64)])
        self.followers.reserve(size + more)
        self.columns.reserve(size + more)
        self.contents.likes.reserve(size + more)


_FROM_0 = (
    *(
        "present",
        "withheld",
        "sketches",
        "rough",
        "popularity",
        "total",
        "impressions",
        "out",
        "newest_at_ms",
    ),
    *("sums", "places"),
)


def _peaks(popularity: F32) -> F32:
    padded = np.full(-(-len(popularity) // BLOCK) * BLOCK, -np.inf, np.float32)
    padded[: len(popularity)] = popularity
    peaks: F32 = np.maximum.reduce(padded.reshape(-1, BLOCK), axis=1)
    return peaks


def _unit(vectors: NDArray[np.floating]) -> F32:
    """Rows at length 1; zeros stay zeros."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    scaled: F32 = (vectors / np.maximum(length, np.float32(1e-30))).astype(np.float32, copy=False)
    return scaled


def _pairs(items: I64, keys: I32, weights: F32) -> tuple[I64, F32]:
    """All (predecessor << 32 | item) of columns, ascending, and their weights."""
    held = keys >= 0
    pairs = (keys.astype(np.int64) << 32 | items[:, None])[held]
    order = np.argsort(pairs)
    return pairs[order], weights[held][order]


def _at(wanted: I64, pairs: I64, weights: F32) -> F32:
    """Weights of wanted pairs among ascending ones, 0 where missing."""
    if not len(pairs):
        return np.zeros(len(wanted), np.float32)
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(pairs[place] == wanted, weights[place], np.float32(0))
