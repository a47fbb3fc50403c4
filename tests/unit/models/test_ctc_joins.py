"""Windows of speech that goes on without a pause say each word once, whoever of two neighbours heard it where."""

import itertools

import numpy as np
import pytest

from models.networks.ctc_joins import Timed, joined

BLANK, END = -1, 9


def timed(said: str, at_s: list[float]) -> Timed:
    tokens = tuple(END if letter == " " else ord(letter) for letter in said)
    return Timed(tokens, tuple(at_s), (0.5,) * len(tokens))


def text(windows: list[Timed]) -> str:
    return "".join(" " if token == END else chr(token) for one in windows for token in one.tokens)


def test_a_window_takes_over_between_words_though_each_heard_half_a_word_at_its_edge() -> None:
    left = timed("old man an", [8.0, 8.1, 8.2, 8.4, 9.0, 9.1, 9.2, 9.4, 10.6, 10.7])
    right = timed("d man and", [8.2, 8.42, 9.02, 9.1, 9.22, 9.4, 10.6, 10.7, 10.8])
    own = joined([left, right], [9.5], 1.0, lambda token: token == END)
    assert text(own) == "old man and"
    assert all(at_s < 9.6 for at_s in own[0].at_s), (
        "the longest time without a token is after the blank at 9.4"
    )


def test_within_a_long_word_it_takes_over_where_neither_has_a_letter() -> None:
    left, right = timed("abcd", [9.0, 9.2, 9.9, 10.3]), timed("bcde", [9.22, 9.88, 10.3, 11.0])
    assert text(joined([left, right], [9.5], 1.0, lambda token: token == END)) == "abcde"


def test_a_pause_is_no_cut_and_silence_joins_nothing() -> None:
    nothing = Timed((), (), ())
    one, other = timed("a", [1.0]), timed("a", [1.0])
    assert text(joined([one, other], [None], 1.0, lambda _: True)) == "aa"
    assert text(joined([one, other], [1.4], 1.0, lambda _: True)) == "a"
    assert joined([nothing, nothing], [1.0], 1.0, lambda _: True) == [nothing, nothing]
    assert joined([], [], 1.0, lambda _: True) == []


@pytest.mark.parametrize("seed", range(20))
def test_however_it_is_cut_each_token_comes_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    at_s = np.cumsum(random.uniform(0.06, 0.6, 200))
    tokens = random.integers(0, 5, 200)
    cuts = np.cumsum(random.uniform(14, 26, 3))
    cuts = cuts[cuts < at_s[-1] - 2]
    edges = [-2.0, *cuts, at_s[-1] + 3]
    windows = []
    for start_s, end_s in itertools.pairwise(edges):
        there = np.flatnonzero((at_s >= start_s - 1.5) & (at_s < end_s + 1.5))
        moved = at_s[there] + random.uniform(-0.02, 0.02, len(there))  # a state earlier or later
        windows.append(Timed(tuple(tokens[there].tolist()), tuple(moved.tolist()), (0.5,) * len(there)))
    own = joined(windows, list(cuts), 1.0, lambda token: token == 0)
    assert [token for one in own for token in one.tokens] == tokens.tolist()
