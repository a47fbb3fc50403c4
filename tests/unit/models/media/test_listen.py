"""Stretches of speech are the same whether a recording comes whole or in pieces, and little of it is held."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.media.again import Again
from models.media.audio import RATE_HZ
from models.media.listen import Listener
from models.media.speech import speech_windows, voiced_hops


def syllables(seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20))
    return (0.1 * tone * (np.sin(2 * np.pi * 4 * t) > 0)).astype(np.float32)


def talk(minutes: int) -> np.ndarray:
    """Sentences of 1 to 9 s, pauses of 0.6 to 8 s."""
    random = np.random.default_rng(5)
    spoken, parts, seconds = syllables(9), [], 0.0
    while seconds < 60 * minutes:
        says, rests = random.uniform(1, 9), random.choice([0.6, 1.0, 8.0])
        parts += [spoken[: int(says * RATE_HZ)], np.zeros(int(rests * RATE_HZ), np.float32)]
        seconds += says + rests
    return np.concatenate(parts)


def test_a_recording_of_minutes_is_looked_at_as_a_whole() -> None:
    samples = talk(2)
    listener = Listener()
    heard = list(listener.hear(np.array_split(samples, 7)))
    assert [one.window for one in heard] == speech_windows(samples)
    assert listener.samples == samples.size


@pytest.mark.parametrize("piece_s", [11, 60])
def test_pieces_of_a_long_one_cut_no_stretch(piece_s: int) -> None:
    samples = talk(12)
    pieces = [samples[at : at + piece_s * RATE_HZ] for at in range(0, samples.size, piece_s * RATE_HZ)]
    listener = Listener()
    heard = list(listener.hear(pieces))
    for one in heard:
        assert np.array_equal(one.samples, samples[one.window.start : one.window.end])
        assert one.samples.size <= 28 * RATE_HZ
    for before, after in itertools.pairwise(heard):
        assert before.window.end <= after.window.start
        pause = samples[before.window.end - 800 : after.window.start + 800]
        assert np.abs(pause[:1600]).max() < 1e-6, "a cut through sound"
    said = np.abs(samples) > 1e-4
    covered = np.zeros(samples.size, bool)
    for one in heard:
        covered[one.window.start : one.window.end] = True
    assert (said & ~covered).sum() == 0
    whole = speech_windows(samples)
    assert abs(len(heard) - len(whole)) <= 2
    assert listener.voiced_s == pytest.approx(voiced_hops(samples).sum() / 100, rel=0.02)


def test_a_long_silence_after_a_word_is_not_held() -> None:
    held = []

    def pieces() -> Iterator[np.ndarray]:
        yield np.concatenate([syllables(5), np.zeros(55 * RATE_HZ, np.float32)])
        for _ in range(12):
            yield np.zeros(60 * RATE_HZ, np.float32)

    listener = Listener()
    looked = listener._keep_from
    listener._keep_from = lambda windows, size: (held.append(size), looked(windows, size))[1]  # type: ignore[method-assign]
    heard = list(listener.hear(pieces()))
    assert len(heard) == 1 and heard[0].window.start < RATE_HZ
    assert len(held) >= 4 and max(held) <= 241 * RATE_HZ


class Sequence:
    """Numbers from 0 on, counting how often it began; breaks once if told to."""

    def __init__(self, size: int, breaks_at: int | None = None) -> None:
        self.size, self.breaks_at, self.begun, self.made = size, breaks_at, 0, 0

    def __call__(self) -> Iterator[int]:
        self.begun += 1
        for n in range(self.size):
            if n == self.breaks_at:
                self.breaks_at = None
                raise MemoryError
            self.made += 1
            yield n


def test_in_order_each_is_made_once_and_little_is_held() -> None:
    source = Sequence(200)
    with ThreadPoolExecutor(1) as helper:
        again = Again(source, helper)
        for n in range(200):
            assert again[n] == n
            assert len(again._held) <= 24
        assert (source.begun, source.made) == (1, 200)
        assert again[3] == 3 and source.begun == 2, "what is no longer held costs a new beginning"
        with pytest.raises(IndexError):
            again[200]


def test_a_failure_is_the_askers_and_the_next_ask_begins_anew() -> None:
    source = Sequence(30, breaks_at=5)
    with ThreadPoolExecutor(1) as helper:
        again = Again(source, helper)
        with pytest.raises(MemoryError):
            again[6]
        assert again[6] == 6 and source.begun == 2


def test_where_speech_is_cut_without_a_pause_both_parts_reach_over_the_cut() -> None:
    """Also where one look ends: 11 minutes of it, in looks of three."""
    samples = syllables(11 * 60)
    pieces = [samples[at : at + 60 * RATE_HZ] for at in range(0, samples.size, 60 * RATE_HZ)]
    heard = list(Listener(26.0, margin_s=1.5).hear(pieces))
    assert len(heard) >= 11 * 60 / 26 and sum(one.window.runs_on for one in heard) == len(heard) - 1
    margin = int(1.5 * RATE_HZ)
    for before, after in itertools.pairwise(heard):
        assert before.window.end == after.window.start and after.lead == margin
    for at, one in enumerate(heard):
        end = one.window.end + (margin if at < len(heard) - 1 else 0)
        assert np.array_equal(one.samples, samples[one.window.start - one.lead : end])
    assert heard[0].lead == 0
    assert [one.window for one in Listener(26.0).hear(pieces)] == [one.window for one in heard]
