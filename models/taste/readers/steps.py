"""What each event does to its reader's state, one event after another, as machine code.

Of every event in its turn: is it beyond the reader's fence, and new by its id; the items before it; its weight into the
decayed sums (rules, frames and proof in `models.taste.decay`); its entry in the ring, or what an `undo` takes out of it
(`models.taste.readers.undo`); fence, time and id. A producer that sends an event twice, at another offset, must not
count twice: the reader's last accepted ids are kept, as hashes in the order of acceptance.

All that a state holds is so a function of its reader's own events in their order, however they were cut into batches:
sums too, to the last bit, as they are added one after another.
A row of the sums is, for each half-life, D sums of w * code, then the net sum of w, then the gross sum of |w|.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, part

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

Events = tuple[I64, I32, I8, F32, I64, I64, U64]
"""Columns (n,) of events: row, item, kind, weight, at_ms, offset, hash of the id or 0."""

Scales = tuple[I64, F32, F32, F32]
"""Half-lives (H,) in ms, 0 for infinite; SCALES, COARSE and FINE of `models.taste.decay`."""

Readers = tuple[I64, I64, I64, U64, I64, F32]
"""Columns of `Rows`: fence, newest_at_ms, accepted, recent_ids, refs, bank."""

Rings = tuple[I64, I32, I8, I64, U16]
"""Columns of `Rows`: pushed, ring_items, ring_kinds, ring_at_ms, ring_sizes."""

Found = tuple[Bools, I32, I64, I32, I64, I64]
"""To be written: applied (n,) from False, rows (n,), last (n,), previous (n, W) from -1 as in `Folded`; of each of m
applied undos (m, 5) its place, the kind that it took back or -1, size and time of that, whether it shows the item
again; of what these part (m * W, 5) place of the undo, item come to, bits of the places, size, time."""

POSITIVE, HIDING, SILENT, UNDO = 1, 2, 4, 8
"""Marks of a kind: speaks for the item; hides it; enters no ring; takes back."""

STEPS = 256  # sizes of weights are whole numbers of 1/256 ...
LARGEST = 255 * STEPS  # ... up to this
BAD_TIME, BAD_WEIGHT, NOT_THERE = -1, -2, -3

_EVENTS = "Tuple((int64[::1], int32[::1], int8[::1], float32[::1], int64[::1], int64[::1], uint64[::1]))"
_SCALES = "Tuple((int64[::1], float32[::1], float32[::1], float32[::1]))"
_READERS = "Tuple((int64[::1], int64[::1], int64[::1], uint64[:, ::1], int64[:, ::1], float32[:, :, ::1]))"
_RINGS = "Tuple((int64[::1], int32[:, ::1], int8[:, ::1], int64[:, ::1], uint16[:, ::1]))"
_FOUND = "Tuple((boolean[::1], int32[::1], int64[::1], int32[:, ::1], int64[:, ::1], int64[:, ::1]))"


@compiled(f"int64({_EVENTS}, uint8[::1], int64, int64, int64)")
def checked(events: Events, marks: U8, readers: int, items: int, max_at_ms: int) -> int:
    """How many of the events hide or undo, or what is wrong with one: BAD_TIME, BAD_WEIGHT, or NOT_THERE for a row, an
    item or a kind beyond those that there are, since machine code would not notice."""
    rows, items_of, kinds, weights, at_ms, _, _ = events
    changing = 0
    for i in range(len(rows)):
        if at_ms[i] < 0 or at_ms[i] >= max_at_ms:
            return BAD_TIME
        if not np.isfinite(weights[i]):
            return BAD_WEIGHT
        if not (0 <= rows[i] < readers and 0 <= items_of[i] < items and 0 <= kinds[i] < len(marks)):
            return NOT_THERE
        changing += marks[kinds[i]] & (HIDING | UNDO) != 0
    return changing


@compiled(
    f"UniTuple(int64, 4)(int64[::1], {_EVENTS}, uint8[::1], {_SCALES}, float32[:, ::1], {_READERS}, {_RINGS}, {_FOUND})"
)
def fold(
    order: I64,
    events: Events,
    marks: U8,
    scales: Scales,
    codes: F32,
    readers: Readers,
    rings: Rings,
    found: Found,
) -> tuple[int, int, int, int]:
    """Fold events in this order, which has each reader's together. `codes` (I, D) of items, `marks` (K,) of kinds.
    How many readers were touched, events were duplicates, undos applied, and pairs parted."""
    rows, items, kinds, weights, at_ms, offsets, ids = events
    fence, newest_at_ms, accepted, recent_ids, refs, bank = readers
    pushed = rings[0]
    applied, touched, last, previous, undos, _ = found
    count = duplicates = undone = parted = 0
    reader, beyond = -1, 0
    for i in order:
        row = rows[i]
        if row != reader:
            reader, beyond = row, fence[row]
        if offsets[i] <= beyond:
            continue
        beyond = offsets[i]  # a duplicate moves no fence, but it is not looked at twice
        if ids[i] != 0 and _among(ids[i], recent_ids[row]):
            duplicates += 1
            continue
        applied[i] = True
        if count == 0 or touched[count - 1] != row:
            touched[count] = row
            count += 1
        last[count - 1] = i
        item, kind, time_ms, steps = items[i], kinds[i], at_ms[i], _steps(weights[i])
        if item == 0:  # the unknown one has no code of its own: it moves no sum
            steps = 0
        sign = np.float32(-1 if steps < 0 else 1)
        if marks[kind] & UNDO:
            parted = _undo(i, row, item, marks, rings, previous, undos[undone], found[5], parted)
            steps, sign, time_ms = _counter(undos[undone], marks, time_ms)
            undone += 1
        else:
            _look_back(previous[i], pushed[row], row, marks, rings)
            if not marks[kind] & SILENT:
                _push(row, item, kind, time_ms, abs(steps), rings)
        _add(bank[row], refs[row], codes[item], np.float32(steps) / np.float32(STEPS), sign, time_ms, scales)
        fence[row] = offsets[i]
        newest_at_ms[row] = max(newest_at_ms[row], at_ms[i])
        recent_ids[row, accepted[row] % recent_ids.shape[1]] = ids[i]
        accepted[row] += 1
    return count, duplicates, undone, parted


@part
def _among(value: int, values: U64) -> bool:
    found = False
    for k in range(len(values)):
        found |= values[k] == value
    return found


@part
def _steps(weight: float) -> int:
    """A weight as `decay.snap` takes it, in steps."""
    steps = np.rint(weight * np.float32(STEPS))
    return int(max(min(steps, np.float32(LARGEST)), np.float32(-LARGEST)))


@part
def _add(
    sums: F32, refs: I64, code: F32, weight: np.float32, sign: np.float32, at_ms: int, scales: Scales
) -> None:
    """`decay.frames` and the two rules of its docstring: sums (H, D + 2), refs (H,) newest n or -1, code (D,)."""
    half_lives_ms, powers, coarse, fine = scales
    reach, dim = len(powers) - 1, len(code)
    for h in range(len(half_lives_ms)):
        whole, cut, half_life_ms = 0, 0, half_lives_ms[h]
        if half_life_ms > 0:
            whole = at_ms // half_life_ms
            cut = ((at_ms - whole * half_life_ms) << 20) // half_life_ms
        scaled = weight * (coarse[cut >> 10] * fine[cut & 1023])
        if weight == 0:
            whole = 0
        newest = max(whole, refs[h])
        own = scaled * powers[min(newest - whole, reach)]
        keep = powers[min(newest - refs[h], reach)]
        refs[h] = newest
        row = sums[h]
        for d in range(dim):
            row[d] = row[d] * keep + own * code[d]
        row[dim] = row[dim] * keep + own
        row[dim + 1] = row[dim + 1] * keep + own * sign


@part
def _push(row: int, item: int, kind: int, at_ms: int, size: int, rings: Rings) -> None:
    pushed, items, kinds, times_ms, sizes = rings
    slot = pushed[row] % items.shape[1]
    items[row, slot], kinds[row, slot], times_ms[row, slot], sizes[row, slot] = item, kind, at_ms, size
    pushed[row] += 1


@part
def _look_back(previous: I32, end: int, row: int, marks: U8, rings: Rings) -> None:
    """The positive items (W,) of the entries before the one of number `end`, most recent first."""
    pushed, items, kinds, _, _ = rings
    size = items.shape[1]
    held, slot = end - max(0, pushed[row] - size), end % size
    for back in range(min(held, len(previous))):
        slot = slot - 1 if slot else size - 1
        if marks[kinds[row, slot]] & POSITIVE:
            previous[back] = items[row, slot]


@part
def _undo(
    place: int,
    row: int,
    item: int,
    marks: U8,
    rings: Rings,
    previous: I32,
    undo: I64,
    parted: I64,
    count: int,
) -> int:
    """Take the last entry of the item out of the ring: what it was into `undo` (5,), what it had led to into `parted`
    from `count` on. The new count."""
    undo[0], undo[1], undo[4] = place, -1, 0
    if item == 0:
        return count
    pushed, items, kinds, times_ms, sizes = rings
    _straighten(row, rings)
    nth = pushed[row] - 1
    while nth >= 0 and items[row, nth] != item:
        nth -= 1
    if nth < 0:
        undo[4] = 1
        return count
    kind = kinds[row, nth]
    undo[1], undo[2], undo[3] = kind, sizes[row, nth], times_ms[row, nth]
    end = pushed[row]
    _close(items[row], nth, end)
    _close(kinds[row], nth, end)
    _close(times_ms[row], nth, end)
    _close(sizes[row], nth, end)
    pushed[row] -= 1
    if marks[kind] & HIDING:
        undo[4] = 1
        for k in range(pushed[row]):
            if items[row, k] == item and marks[kinds[row, k]] & HIDING:
                undo[4] = 0
    _look_back(previous[place], nth, row, marks, rings)
    if marks[kind] & POSITIVE:
        count = _parted(place, row, nth, item, previous.shape[1], marks, rings, parted, count)
    return count


@part
def _counter(undo: I64, marks: U8, at_ms: int) -> tuple[int, np.float32, int]:
    """What an undo adds: the steps of what it took back with the other sign, the factor that lowers the gross sum by
    their size, and the time of that; nothing at its own time where it found nothing."""
    if undo[1] < 0:
        return 0, np.float32(1), at_ms
    if marks[undo[1]] & POSITIVE:
        return -undo[2], np.float32(1), undo[3]
    return undo[2], np.float32(-1), undo[3]


@part
def _straighten(row: int, rings: Rings) -> None:
    """Turn a ring so that its oldest entry stands in slot 0."""
    pushed, items, kinds, times_ms, sizes = rings
    if pushed[row] <= items.shape[1]:
        return
    start = pushed[row] % items.shape[1]
    _turn(items[row], start)
    _turn(kinds[row], start)
    _turn(times_ms[row], start)
    _turn(sizes[row], start)
    pushed[row] = items.shape[1]


@part
def _turn(values: Any, start: int) -> None:
    old = values.copy()
    for k in range(len(values)):
        values[k] = old[(start + k) % len(values)]


@part
def _close(values: Any, nth: int, end: int) -> None:
    """Of values before `end`, those behind the nth each a place back."""
    for k in range(nth, end - 1):
        values[k] = values[k + 1]


@part
def _parted(
    place: int, row: int, nth: int, gone: int, window: int, marks: U8, rings: Rings, parted: I64, count: int
) -> int:
    """What a taken item led to, by item: the ring's entries from its nth on, which once stood behind it."""
    pushed, items, kinds, times_ms, sizes = rings
    first = count
    for back in range(min(window, pushed[row] - nth)):
        slot = nth + back
        item, size = items[row, slot], sizes[row, slot]
        if not marks[kinds[row, slot]] & POSITIVE or size == 0 or item == gone or item == 0:
            continue
        at = first
        while at < count and parted[at, 1] < item:
            at += 1
        if at < count and parted[at, 1] == item:
            if parted[at, 3] == size:
                parted[at, 2] |= 1 << back
            continue
        for k in range(count, at, -1):
            parted[k] = parted[k - 1]
        one = parted[at]
        one[0], one[1], one[2], one[3], one[4] = place, item, 1 << back, size, times_ms[row, slot]
        count += 1
    return count
