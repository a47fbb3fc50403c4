"""Error rates against by-hand counts and a brute-force distance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluate.words import align, compared, error_rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "Don't STOP—the ten-year plan, 3.5%!",
            ["don't", "stop", "the", "ten", "year", "plan", "thirty", "five"],
        ),
        ("  ‘Quoted’ words' end ", ["quoted", "words", "end"]),
        ("ﬁne Straße", ["fine", "straße"]),
        ("...", []),
        ("10 of 7f, 1,204", ["ten", "of", "7f", "one", "thousand", "two", "hundred", "four"]),
    ],
)
def test_what_is_compared_of_a_text(text: str, words: list[str]) -> None:
    assert compared(text, by_character=False) == words


def test_chinese_is_compared_by_character() -> None:
    assert compared("今天, 很 好。", by_character=True) == list("今天很好")


def test_an_alignment_names_each_mistake() -> None:
    found = align(["the", "cat", "sat", "on", "the", "mat"], ["a", "cat", "sat", "the", "mat", "now"])
    assert (found.substituted, found.left_out, found.put_in) == ((("the", "a"),), ("on",), ("now",))
    assert (found.said, found.errors) == (6, 3)


words = st.lists(st.sampled_from("abc"), max_size=6)


def brute(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(brute(a[1:], b[1:]) + (a[0] != b[0]), brute(a[1:], b) + 1, brute(a, b[1:]) + 1)


@given(words, words)
def test_the_fewest_edits_are_found(said: list[str], heard: list[str]) -> None:
    found = align(said, heard)
    assert found.errors == brute(said, heard)
    kept = found.said - len(found.substituted) - len(found.left_out)
    assert kept + len(found.substituted) + len(found.put_in) == len(heard)


def test_the_rate_is_over_all_words_not_the_mean_of_recordings() -> None:
    pairs = [("one two three four five six", "one two three four five six"), ("seven", "eleven"), ("", "")]
    found = error_rate(pairs, by_character=False, seed=1)
    assert found.rate.value == pytest.approx(1 / 7)
    assert found.rate.low <= 1 / 7 <= found.rate.high
    assert (found.recordings, found.said, found.whole) == (3, 7, pytest.approx(2 / 3))
    assert found.substitutions == (("seven", "eleven", 1),)


def test_words_put_in_where_nothing_was_said_count() -> None:
    found = error_rate([("", "thank you"), ("yes", "yes")], by_character=False, seed=1)
    assert (found.put_in, found.rate.value) == (2, 2.0)
    with pytest.raises(ValueError, match="no reference"):
        error_rate([("", "you")], by_character=False, seed=1)


def test_an_interval_narrows_with_more_recordings() -> None:
    rng = np.random.default_rng(3)
    pairs = [("a b c d", "a b c d" if rng.random() < 0.8 else "a b x d") for _ in range(400)]
    few, many = (error_rate(pairs[:size], by_character=False, seed=1).rate for size in (20, 400))
    assert many.high - many.low < few.high - few.low
    assert error_rate(pairs, by_character=False, seed=1).rate == many
