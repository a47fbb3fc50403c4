"""Content vectors: their bytes, and likes that are the nearest items exactly, whatever the order in which they came."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.taste.items import contents
from models.taste.items.contents import LEAST, Contents, pack, unpack

DIM = 12


def vectors(seed: int, count: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, DIM))
    made: np.ndarray = centres[rng.integers(0, 5, count)] + 0.6 * rng.normal(size=(count, DIM))  # type: ignore[type-arg]
    return made.astype(np.float32)


def expected(packed: dict[int, bytes], keep: int) -> dict[int, list[tuple[int, float]]]:
    """By plain loops over all pairs of one revision."""
    read = {item: unpack(value) for item, value in packed.items()}
    found: dict[int, list[tuple[int, float]]] = {}
    for item, own in read.items():
        alike = [
            (other, float(own.vector @ theirs.vector))
            for other, theirs in read.items()
            if other != item and theirs.revision == own.revision
        ]
        alike = sorted((pair for pair in alike if pair[1] >= LEAST), key=lambda pair: -pair[1])
        found[item] = alike[:keep]
    return found


def check(made: Contents, packed: dict[int, bytes], keep: int) -> None:
    for item, wanted in expected(packed, keep).items():
        held = made.likes.keys[item] >= 0
        cosines = np.sort(made.likes.weights[item][held])[::-1]
        np.testing.assert_allclose(cosines, [cosine for _, cosine in wanted], atol=1e-5)
        if len({round(cosine, 5) for _, cosine in wanted}) == len(wanted):
            assert set(made.likes.keys[item][held].tolist()) == {other for other, _ in wanted}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from([3, 32]),
)
def test_likes_are_the_nearest_items_whatever_the_order(
    seed: int, count: int, cuts: list[int], keep: int
) -> None:
    rng = np.random.default_rng(seed)
    items = rng.choice(200, count, replace=False).tolist()
    values = [pack(v, f"r{rng.integers(0, 2)}") for v in vectors(seed, count)]
    made, packed = Contents(keep), dict(zip(items, values, strict=True))
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    for start, stop in itertools.pairwise(edges):
        before = made.likes.keys.copy()
        changed = set(made.describe(items[start:stop], values[start:stop]).tolist())
        differs = np.flatnonzero((made.likes.keys[: len(before)] != before).any(axis=1))
        assert set(differs.tolist()) <= changed
    check(made, packed, keep)
    assert len(made) == count
    # some change, some go; what they had pushed out comes back
    for item, vector in zip(items[: count // 3], vectors(seed + 1, count), strict=False):
        packed[item] = pack(vector, "r0")
    for item in items[-(count // 4) :] if count >= 4 else []:
        packed[item] = b""
    made.describe(list(packed), list(packed.values()))
    left = {item: value for item, value in packed.items() if value}
    check(made, left, keep)
    assert len(made) == len(left)
    assert not made.describe(list(left), list(left.values())).size  # the same again changes nothing


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=400),
    st.sampled_from([None, "ada", "é" * 99]),
)
def test_bytes_keep_a_vector_to_half_a_step(numbers: list[float], author: str | None) -> None:
    vector = np.array(numbers, np.float32)
    if not np.abs(vector).max() > 1e-30:
        with pytest.raises(BadInput):
            pack(np.zeros(len(vector), np.float32), "r")
        return
    back = unpack(pack(vector, "mean-256-1", author))
    assert (back.revision, back.author) == ("mean-256-1", author)
    np.testing.assert_allclose(back.numbers * back.scale, vector, atol=0.51 * back.scale)
    assert np.linalg.norm(back.vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bad", [[], [0.0], [np.nan], [np.inf, 1.0], [1.0] * 5000])
def test_vectors_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(BadInput) as error:
        pack(np.array(bad, np.float32), "r")
    assert error.value.reason == "bad_vector"


@pytest.mark.parametrize("cut", [0, 5, 8, 9])
def test_bytes_that_are_no_vector_are_refused_and_change_nothing(cut: int) -> None:
    made = Contents()
    made.describe([1], [pack(np.ones(4, np.float32), "r")])
    value = pack(np.ones(4, np.float32), "r")
    for wrong in (value[:cut] or b"\x01", b"\x02" + value[1:], value[:9] + bytes(4)):
        with pytest.raises(BadInput) as error:
            made.describe([1, 2], [value, wrong])
        assert error.value.reason == "content_layout"
    assert len(made) == 1


def test_it_is_bounded_in_items_and_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_ITEMS", 3)
    made = Contents()
    ones = [pack(np.ones(4, np.float32), "r") for _ in range(5)]
    made.describe(range(5), ones)
    assert len(made) == 3 and made.beyond == 2
    made.describe([9], [pack(np.ones(5, np.float32), "r")])  # another length
    assert made.beyond == 3
    for n in range(4):
        made.describe([10 + n], [pack(np.ones(4, np.float32), f"new-{n}")])
    assert len(made) == 4  # the oldest revision went
    assert (made.likes.keys[:5] == -1).all()
