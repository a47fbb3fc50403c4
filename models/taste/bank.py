"""Decayed sums of item codes a reader, for several half-lives at once: the vector bank.

Sums are strictly sequential a user: users with few events in a batch go in rounds (everyone's first event, then the
second, ...), busy ones through `np.add.reduce` over the slow axis of their own run. NumPy adds pairwise only along the
fast axis; over the slow one it adds row after row, 20 times as fast as `accumulate` (a test compares it with a plain
loop). So a sum does not depend on how events were cut into batches, to the last bit.

Layout of a row: D sums of w * code, then the net sum of w, then the gross sum of |w|; one row a half-life.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import decay
from models.taste.runs import BLOCK, Run

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Bank:
    """A view of columns that others own: sums (U, H, D + 2), refs (U, H) newest n or -1, codes (I, D) of items,
    half_lives_ms (H,)."""

    sums: F32
    refs: I64
    codes: F32
    half_lives_ms: I64

    def fold(self, run: Run, items: I32, weights: F32, at_ms: I64, taken_back: Bools | None = None) -> None:
        """Add events of a run; those `taken_back` (n,) weigh the other way and lower the gross sum."""
        whole, scaled = decay.frames(at_ms, weights, self.half_lives_ms)
        before = self.refs.take(run.rows, 0).T
        if run.once:
            newest, was = np.maximum(whole, before), before
        else:
            newest = decay.running_newest(whole, run.rank, before[:, run.rank])
            was = np.empty_like(newest)
            was[:, 1:] = newest[:, :-1]
            was[:, run.starts] = before
        own = (scaled * decay.scale_of(newest - whole)).T  # (n, H) contribution in the frame of `refs`
        advance = (newest - was).T  # (n, H) how far the event moves the reference
        refs = newest.T  # (n, H) the reference after the event
        signs = np.copysign(_ONE, weights)
        if taken_back is not None:  # the gross sum falls by what it had risen
            signs[taken_back] *= -1
        hot = run.hot_users()
        self._rounds(run, hot, items, signs, own, advance)
        for user in hot.tolist():
            self._sequence(run, user, items, signs, own, advance, refs)
        self.refs[run.rows] = refs if run.once else refs[run.last]

    def _codes(self, items: I32, signs: F32) -> F32:
        """(n, D + 2): the code, 1 for the net sum, and for the gross sum the sign with w * sign = |w|."""
        dim = self.codes.shape[1]
        codes = np.empty((len(items), dim + 2), np.float32)
        codes[:, :dim] = self.codes.take(items, 0)
        codes[:, dim] = 1
        codes[:, dim + 1] = signs
        return codes

    def _rounds(self, run: Run, hot: I64, items: I32, signs: F32, own: F32, advance: I64) -> None:
        """Step k takes the k-th event of every user that has one: sum * keep + own * code."""
        order, users, blocks = run.rounds(hot)
        if not blocks:
            return
        rows = run.rows[users]
        codes = self._codes(items[order], signs[order])[:, None]
        own, keep = own[order][:, :, None], decay.scale_of(advance[order])[:, :, None]
        added = np.empty((BLOCK, len(self.half_lives_ms), self.codes.shape[1] + 2), np.float32)
        start = 0
        for block, sizes in enumerate(blocks):
            mine = rows[block * BLOCK : (block + 1) * BLOCK]
            sums = self.sums.take(mine, 0)
            for size in sizes:
                stop = start + size
                part = sums[:size]
                part *= keep[start:stop]
                part += np.multiply(own[start:stop], codes[start:stop], out=added[:size])
                start = stop
            self.sums[mine] = sums

    def _sequence(
        self, run: Run, user: int, items: I32, signs: F32, own: F32, advance: I64, refs: I64
    ) -> None:
        """All events of one busy user, in stretches short enough to be exact in the frame of their end."""
        start = int(run.starts[user])
        span = slice(start, start + int(run.counts[user]))
        codes = self._codes(items[span], signs[span])
        own, keep, refs = own[span], decay.scale_of(advance[span]), refs[span]
        farthest = np.minimum(advance[span].max(axis=1), decay.REACH)
        stretch = np.cumsum(farthest) // decay.REACH  # an advance of REACH begins a new one
        cuts = np.append(np.flatnonzero(np.diff(stretch)) + 1, len(stretch))
        sums, first = self.sums[run.rows[user]], 0
        for end in cuts.tolist():
            to_end = decay.SCALES_WIDE[refs[end - 1] - refs[first:end]]
            steps = np.empty((end - first + 1, *sums.shape), np.float32)
            steps[0] = sums * (keep[first] * to_end[0])[:, None]
            np.multiply((own[first:end] * to_end)[:, :, None], codes[first:end, None, :], out=steps[1:])
            sums = np.add.reduce(steps, axis=0)  # the slow axis: row after row, see the module's docstring
            first = end
        self.sums[run.rows[user]] = sums
