"""The bins of a reader's situation: each value has one, and the two kinds never share one."""

import pytest

from models.taste.learnt.situations import GAP_S, HAD, SITUATIONS, situations


@pytest.mark.parametrize(
    ("had", "gap_s", "expected"),
    [
        (0, 0, (0, 8)),
        (1, 0.999, (1, 8)),
        (4, 1, (3, 9)),
        (5, 60, (4, 10)),
        (99, 3600, (6, 12)),
        (100, 1e12, (7, 13)),
    ],
)
def test_bounds(had: int, gap_s: float, expected: tuple[int, int]) -> None:
    assert situations(had, gap_s) == expected


def test_every_situation_is_reached_and_none_beyond() -> None:
    found = {one for had in (0, *HAD) for gap in (-5.0, *GAP_S) for one in situations(had, gap)}
    assert found == set(range(SITUATIONS))
