"""The gate: what is steady is no speech; what is cut is cut at a pause."""

import itertools

import numpy as np
import pytest

from models.media.audio import RATE_HZ
from models.media.speech import speech_windows, voiced_hops


def noise(seconds: float, level: float) -> np.ndarray:
    n = int(seconds * RATE_HZ)
    return (level * np.random.default_rng(1).standard_normal(n)).astype(np.float32)


def syllables(seconds: float, level: float = 0.1) -> np.ndarray:
    """Harmonics of 120 Hz, four bursts a second."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20))
    return (level * tone * (np.sin(2 * np.pi * 4 * t) > 0)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE_HZ), np.float32)


@pytest.mark.parametrize("level", [1e-4, 1e-3, 0.01, 0.1, 0.5])
def test_noise_hum_tone_and_offset_hold_no_speech(level: float) -> None:
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    hum = sum(level / n * np.sin(2 * np.pi * 50 * n * t) for n in (1, 2, 3))
    for samples in (noise(5, level), hum, level * np.sin(2 * np.pi * 1000 * t), np.full(t.size, level)):
        assert speech_windows(samples.astype(np.float32)) == []


@pytest.mark.parametrize("level", [1e-4, 1e-3, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0])
def test_neither_does_it_where_words_may_be_cut_close(level: float, seconds: float) -> None:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hum = sum(level / n * np.sin(2 * np.pi * 50 * n * t) for n in (1, 2, 3))
    steady = (hum, level * np.sin(2 * np.pi * 1000 * t), np.full(t.size, level), silence(seconds))
    for samples in (noise(seconds, level), *steady):
        assert speech_windows(samples.astype(np.float32), close_cut=True) == []


def test_a_word_cut_close_is_found_where_it_may_be() -> None:
    t = np.arange(int(0.35 * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20))
    word = (0.1 * tone * (0.55 + 0.45 * np.sin(np.pi * t / t[-1]))).astype(np.float32)  # swells by 5 dB
    assert speech_windows(word) == []
    (window,) = speech_windows(word, close_cut=True)
    assert (window.start, window.end) == (0, word.size // 160 * 160)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.02, 5.0])
def test_silence_of_any_length_has_no_windows(seconds: float) -> None:
    assert speech_windows(silence(seconds)) == []
    assert not voiced_hops(silence(seconds)).any()


def test_clicks_are_not_speech() -> None:
    samples = silence(5)
    samples[::RATE_HZ] = 0.9
    assert speech_windows(samples) == []


def test_speech_between_silences_is_found_with_a_margin() -> None:
    samples = np.concatenate([silence(2), syllables(3), silence(4)]) + noise(9, 1e-3)
    (window,) = speech_windows(samples)
    assert 1.3 * RATE_HZ <= window.start <= 1.6 * RATE_HZ
    assert 4.8 * RATE_HZ <= window.end <= 5.6 * RATE_HZ


def test_far_apart_means_apart_and_near_means_together() -> None:
    pause = np.concatenate([syllables(3), silence(5), syllables(3)])
    assert len(speech_windows(pause)) == 2
    breath = np.concatenate([syllables(3), silence(1), syllables(3)])
    assert len(speech_windows(breath)) == 1


def test_windows_are_bounded_ordered_and_cut_in_pauses() -> None:
    samples = np.concatenate([piece for _ in range(12) for piece in (syllables(6), silence(0.6))])
    windows = speech_windows(samples, longest_s=28.0)
    assert len(windows) >= 3
    for before, after in itertools.pairwise(windows):
        assert before.end <= after.start
        pause = samples[before.end - 800 : before.end + 800]
        assert np.abs(pause).max() < 1e-6, "a cut through sound"
    assert all(window.end - window.start <= 28.0 * RATE_HZ for window in windows)


def test_speech_with_no_pause_is_still_cut() -> None:
    windows = speech_windows(syllables(100) + noise(100, 1e-4), longest_s=28.0)
    assert all(window.end - window.start <= 28.0 * RATE_HZ for window in windows)
    assert sum(window.end - window.start for window in windows) > 99 * RATE_HZ


def test_a_louder_copy_gives_the_same_windows() -> None:
    samples = np.concatenate([silence(1), syllables(2, 0.02), silence(1)])
    assert speech_windows(samples) == speech_windows(samples * 4)
