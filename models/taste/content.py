"""Content: items as unit vectors of what is known of them, readers as decayed sums of those vectors. NumPy alone.

The classic content-based score is P = B^T C, B items x readers (who had what) and C the cosine of items' features.
With unit vectors e, C[i, j] = e_i . e_j, so that P[u, i] = (sum of e_j over u's items) . e_i: a reader is one vector,
and P is that of the bank at an infinite half-life (`ContentBank.classic`). At finite half-lives h the sum forgets,

    S_h(T) = sum over events k of w_k 2**(-(T - t_k) / h) e_k,

and `scores` is the weighed mean of cos(S_h, e_i). Sums are kept relative to each reader's newest event by the forward
decay of `models.taste.decay`. Real vectors are no sign codes: two orders of the same events agree to 1e-5 of the sum of
weights, not to the bit; what is 32 half-lives older than a reader's newest event is nothing.

An item's vector is made from words by signed feature hashing (Weinberger et al., Feature Hashing for Large Scale
Multitask Learning, 2009): word -> (place, sign), a function of the word alone, so that it is the same on every machine
and a new item needs no dictionary. Dot products of hashed vectors are right in the mean, with an error of about
1 / sqrt(dim).
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import decay
from models.taste.index import hash_of

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

DIM = 512
_WORD = re.compile(r"\w+")
_LEAST = np.float32(1e-30)

Field = tuple[str, float, Sequence[str]]
"""Name, weight, words. A field has length `weight` in the vector, however many words it has."""


def words(text: str) -> list[str]:
    """Lower-case words of a text, each once, in order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def vector(fields: Sequence[Field], dim: int = DIM) -> F32:
    """The unit vector (dim,) of an item; zeros if its fields are empty, as for an item of which nothing is known."""
    found = np.zeros(dim)
    for name, weight, tokens in fields:
        part = np.zeros(dim)
        for token in tokens:
            hashed = hash_of(f"{name}:{token}")
            part[hashed % dim] += 1 if hashed >> 63 else -1
        found += weight * part / max(float(np.linalg.norm(part)), 1e-30)
    made: F32 = unit(found[None])[0]
    return made


def unit(vectors: NDArray[np.floating]) -> F32:
    """Vectors (N, D) at length 1; zeros stay zeros."""
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    scaled = vectors / np.maximum(length, float(_LEAST))
    return np.asarray(scaled, np.float32)


class ContentBank:
    """Readers by row: sums (U, H, D) float32 and refs (U, H) int64, -1 for none; rows are added as they are named.

    Not thread-safe. Rows belong to the caller, as those of `models.taste.readers.users.UserRows` do.
    """

    def __init__(self, dim: int, half_lives_s: Sequence[float]) -> None:
        """`half_lives_s` (H,) may hold math.inf: nothing is forgotten. Raises ValueError on one under 1 ms, or none."""
        if not half_lives_s:
            raise ValueError("a bank needs a half-life")
        self._half_lives_ms = np.array(decay.whole_ms(half_lives_s), np.int64)
        h = len(half_lives_s)
        self.sums: F32 = np.zeros((64, h, dim), np.float32)
        self.refs: I64 = np.full((64, h), -1, np.int64)

    def fold(self, rows: I32, vectors: F32, weights: F32, at_ms: I64) -> None:
        """Apply events (N,) with the vectors (N, D) of their items, in any order.

        Raises BadInput("bad_time" | "bad_weight" | "bad_vector"), the state then unchanged.
        """
        if not len(rows):
            return
        if int(at_ms.min()) < 0 or int(at_ms.max()) >= decay.MAX_AT_MS:
            raise BadInput("bad_time", "event time outside 0..2**46 ms")
        if not np.isfinite(weights).all():
            raise BadInput("bad_weight", "weight not finite")
        if not np.isfinite(vectors).all():
            raise BadInput("bad_vector", "an item's content vector is not finite")
        self._reserve(int(rows.max()) + 1)
        snapped = decay.snap(weights)
        counts = (snapped != 0) & vectors.any(axis=1)  # an item without content moves nothing
        rows, vectors = rows[counts], vectors[counts]
        whole, own = decay.frames(at_ms[counts], snapped[counts], self._half_lives_ms)
        touched, place = np.unique(rows, return_inverse=True)
        before = self.refs[touched]
        newest = before.copy()
        np.maximum.at(newest, place, whole.T)
        sums = self.sums[touched] * decay.scale_of(newest - np.maximum(before, 0))[..., None]
        scaled = own.T * decay.scale_of(newest[place] - whole.T)
        np.add.at(sums, place, scaled[..., None] * vectors[:, None, :])
        self.sums[touched], self.refs[touched] = sums, newest

    def forget(self, row: int) -> None:
        """Nothing is left of the reader."""
        if row < len(self.refs):
            self.sums[row], self.refs[row] = 0, -1

    def classic(self, rows: I32, vectors: F32, half_life: int = 0) -> F32:
        """B^T C (B, I): dot products of readers' sums with items' unit vectors (I, D), at the reader's newest event."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        scored: F32 = self.sums[rows, half_life] @ vectors.T
        return scored

    def scores(self, rows: I32, vectors: F32, shares: Sequence[float] | None = None) -> F32:
        """sum_h share_h cos(S_h, e_i) (B, I); `shares` (H,) are equal and add up to 1 unless given."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        banks = self.sums[rows]
        length = np.maximum(np.sqrt((banks * banks).sum(axis=2, keepdims=True)), _LEAST)
        each = shares or (1 / banks.shape[1],) * banks.shape[1]
        wanted = (banks * (np.array(each, np.float32)[None, :, None] / length)).sum(axis=1)
        scored: F32 = wanted @ vectors.T
        return scored

    def bytes_used(self) -> int:
        """Bytes of the columns."""
        return self.sums.nbytes + self.refs.nbytes

    def _reserve(self, rows: int) -> None:
        size = len(self.refs)
        if rows > size:
            grown = max(rows, 2 * size if size < 1024 else size + size // 4)
            self.sums = np.concatenate(
                [self.sums, np.zeros((grown - size, *self.sums.shape[1:]), np.float32)]
            )
            self.refs = np.concatenate([self.refs, np.full((grown - size, self.refs.shape[1]), -1, np.int64)])
