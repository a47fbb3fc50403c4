"""What was shown and not taken is not listed again for a time: against a plain loop, and however groups are cut."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste.readers.shown import Shown

KEEP_S, SIZE, LISTS = 100.0, 3, 2
Pairs = list[tuple[int, int]]


def sorted_pairs(found: np.ndarray) -> Pairs:  # type: ignore[type-arg]
    return sorted({(int(place), int(item)) for place, item in found.tolist()})


STEP = st.tuples(
    st.sampled_from(["list", "take"]),
    st.integers(0, 4),  # reader
    st.lists(st.integers(1, 9), min_size=0, max_size=SIZE, unique=True),
    st.integers(0, 60),  # seconds on
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=40), st.booleans())
def test_lists_bar_what_a_plain_loop_bars(
    steps: list[tuple[str, int, list[int], int]], before_newest: bool
) -> None:
    shown, now_s = Shown(LISTS, SIZE, KEEP_S), 1_700_000_000
    wanted: dict[int, list[list[tuple[int, int]]]] = defaultdict(list)
    for what, reader, items, on in steps:
        now_s += on
        row = np.array([reader], np.int32)
        if what == "list":
            listed = np.array([items + [-1] * (SIZE - len(items))], np.int32)
            shown.lists(row, listed, np.array([now_s * 1000]))
            wanted[reader].append([(item, now_s) for item in items])
        else:
            shown.taken(np.repeat(row, len(items)), np.array(items, np.int32))
            wanted[reader] = [[one for one in made if one[0] not in items] for made in wanted[reader]]
    rows = np.arange(5, dtype=np.int32)
    expected = []
    for reader in range(5):
        made = wanted[reader][: len(wanted[reader]) - before_newest][-LISTS:]
        expected += [(reader, item) for some in made for item, at_s in some if now_s - at_s <= KEEP_S]
    found = shown.pairs(rows, np.full(5, now_s * 1000), before_newest)
    assert sorted_pairs(found) == sorted(set(expected))


IMPRESSION = st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 30))


@settings(max_examples=60, deadline=None)
@given(st.lists(IMPRESSION, max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_impressions_bar_the_last_ones_however_they_are_cut(
    events: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    def after(edges: list[int]) -> Pairs:
        shown = Shown(LISTS, SIZE, KEEP_S, whole_lists=False)
        for start, stop in pairwise(edges):
            part = events[start:stop]
            rows = np.array([reader for reader, _, _ in part], np.int32)
            items = np.array([item for _, item, _ in part], np.int32)
            shown.impressions(rows, items, at_ms[start:stop])
        return sorted_pairs(shown.pairs(np.arange(4, dtype=np.int32), np.full(4, now_ms)))

    at_ms = 1_700_000_000_000 + 1000 * np.cumsum([on for _, _, on in events] or [0])
    now_ms = int(at_ms[-1])
    expected = []
    for reader in range(4):
        mine = [n for n, event in enumerate(events) if event[0] == reader][-LISTS * SIZE :]
        expected += [(reader, events[n][1]) for n in mine if now_ms - at_ms[n] <= KEEP_S * 1000]
    assert after([0, len(events)]) == sorted(set(expected))
    assert after(sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})) == sorted(set(expected))


def test_who_leaves_bars_nothing_and_off_keeps_nothing() -> None:
    shown = Shown(1, 2, KEEP_S)
    rows = np.array([5, 900], np.int32)
    shown.lists(rows, np.array([[1, 2], [3, -1]], np.int32), np.array([5_000, 5_000]))
    assert len(shown.pairs(rows, np.array([6_000, 6_000]))) == 3
    shown.forget([900, 10_000])
    assert sorted_pairs(shown.pairs(rows, np.array([6_000, 6_000]))) == [(0, 1), (0, 2)]
    assert shown.bytes_used() < 2 * 1000 * (4 * 8 + 8)
    off = Shown(0, 20, KEEP_S)
    assert not off and off.bytes_used() == 0
    with pytest.raises(ValueError, match="below 0"):
        Shown(-1, 20, KEEP_S)
