"""Lists written as a table of bytes are those of the objects, byte for byte, whatever is in them."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.taste.lists.reasons import Lists
from streams.events import Recommended
from streams.taste.lists import named, recommendation
from streams.taste.written import Writer

ODD = [
    "",
    'a "quoted" \\ name',
    "ü" * 11,
    "line\nbreak",
    "\u2028",
    "x" * (22),
    "x" * (200),
]
NAMES: list[str | None] = [None, *(f"item-{n}" for n in range(40)), *ODD, None]
K, WINDOW = 5, 4


def made(seed: int, batch: int, most: int, short: float, wild: float, sources: int = 0) -> Lists:
    """Lists of items below `most`; `short`: the chance of a short one; `wild`: of shares of any size and sign."""
    random = np.random.default_rng(seed)
    items = random.integers(1, most, (batch, K)).astype(np.int32)
    cut = np.where(random.random(batch) < short, random.integers(0, K, batch), K)
    items[np.arange(K) >= cut[:, None]] = -1
    layers = random.random((batch, K, 3 + sources)).astype(np.float32)
    layers[random.random(layers.shape) < 0.2] = 0
    some = random.random((batch, K)) < wild
    layers[some] *= random.normal(0, 10 ** random.uniform(-7, 7), (batch, K, 1)).astype(np.float32)[some]
    layers[items < 0] = 0
    scores = layers.sum(axis=2)
    because = random.integers(-1, WINDOW, (batch, K))
    share = np.where((because >= 0) & (scores > 0), random.random((batch, K)), 0).astype(np.float32)
    past = random.integers(1, most, (batch, WINDOW)).astype(np.int32)
    nothing, zeros = np.zeros((batch, K), np.float32), np.zeros((batch, WINDOW), np.int64)
    by_past = np.zeros((batch, K, WINDOW), np.float32)
    names = tuple(f"source{n}" for n in range(sources))
    kinds = zeros.astype(np.int8)
    return Lists(
        items, scores, layers, by_past, past, kinds, zeros, because, share, nothing, nothing.copy(), names
    )


def check(writer: Writer, lists: Lists) -> None:
    expected = [msgspec.json.encode(items) for items in named(lists, NAMES)]
    assert [bytes(one) for one in writer.items(lists)] == expected


@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 9),
    most=st.sampled_from([41, len(NAMES)]),
    short=st.sampled_from([0.0, 0.3]),
    wild=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_any_lists(seed: int, batch: int, most: int, short: float, wild: float) -> None:
    check(Writer(NAMES), made(seed, batch, most, short, wild))


def test_only_explored_items_and_numbers_of_many_digits_are_made_of_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_objects: list[int] = []

    def counted(lists: Lists, names: Sequence[str | None]) -> list[list[Recommended]]:
        as_objects.append(len(lists.items))
        return named(lists, names)

    monkeypatch.setattr("streams.taste.written.named", counted)
    check(Writer(NAMES), made(3, 200, len(NAMES), 0.5, 0.0, sources=2))
    assert as_objects == []
    lists = made(3, 200, 41, 0.5, 0.0)
    lists.items[:4, 0] = 1
    lists.propensity[0, 0] = 0.5
    lists.scores[1, 0] = 3e9
    lists.layers[2, 0, 1] = 3e11 * abs(lists.scores[2, 0])
    lists.scores[3, 0] = 0.9e9
    check(Writer(NAMES), lists)
    assert as_objects == [1, 1, 1]


@pytest.mark.parametrize(
    "score", [0.0, -0.0, 4e-7, -4e-7, 1e-6, -9e-6, 1e-5, 0.0101, 1.0, -10.0, 99.999999, 12345]
)
def test_scores_of_any_size(score: float) -> None:
    lists = made(9, 4, 41, 0.0, 0.0)
    lists.scores[:] = score
    check(Writer(NAMES), lists)


def test_shares_about_the_smallest_that_is_told() -> None:
    lists = made(4, 40, 41, 0.0, 0.0)
    small = np.random.default_rng(4).integers(-9, 10, lists.layers.shape) / 10_000
    lists.layers[:] = small
    lists.layers[..., 0] = np.abs(small[..., 0])
    share = np.where(lists.because >= 0, lists.layers[..., 0], 0).astype(np.float32)
    lists = replace(lists, scores=np.ones_like(lists.scores), because_share=share)
    check(Writer(NAMES), lists)


def test_an_explored_item_and_further_sources() -> None:
    lists = made(5, 6, 41, 0.0, 0.0)
    lists.propensity[2, K - 1] = 0.03125
    check(Writer(NAMES), lists)
    check(Writer(NAMES), made(6, 6, 41, 0.3, 0.1, sources=2))


def test_a_name_that_comes_later_is_written_from_then_on() -> None:
    names: list[str | None] = [None, None, *(f"i{n}" for n in range(2, 41))]
    lists = replace(made(7, 4, 41, 0.0, 0.0), items=np.full((4, K), 1, np.int32))
    writer = Writer(names)
    assert all(b'{"item":"",' in bytes(one) for one in writer.items(lists))
    names[1] = "known"
    names.append("one more")
    assert all(bytes(one).count(b'{"item":"known",') == K for one in writer.items(lists))


def test_a_recommendation_of_texts_is_that_of_objects() -> None:
    lists = made(8, 3, 41, 0.0, 0.0)
    for text, objects in zip(Writer(NAMES).items(lists), named(lists, NAMES), strict=True):
        assert recommendation("ada", 1, 2, 3, text) == recommendation("ada", 1, 2, 3, objects)
