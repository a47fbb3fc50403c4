"""Where a recording may hold speech, and where a long one can be cut. Energy only; NumPy only.

A gate, not a recogniser: speech is never steady, so what stays within a few decibels of its own floor
(silence, hiss, hum) holds none. What passes may still be music or machines; the transcriber's own doubts
decide then.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_HOP = RATE_HZ // 100  # 10 ms
_FLOOR_DBFS = -65.0  # below this nothing is understood, and quantisation noise of 8-bit telephony begins
_ABOVE_NOISE_DB = 6.0  # 10 ms blocks of white noise spread over 2 dB, of hum over 3; speech over 20 and more
_BELOW_PEAK_DB = 40.0
# A recording cut close to one word has no pause whose level were the noise's. Where even so the loudest is this far
# above the quietest, and speech is asked to be no more than that far above the noise, the word is let through.
_CLOSE_CUT_SPREAD_DB, _CLOSE_CUT_RANGE_DB = 4.0, 12.0
_LEAST_SPEECH_HOPS = 8  # 80 ms: shorter than any spoken word, longer than a click
_MERGE_GAP_HOPS = 40
# Noise in bursts is not steady, but has no pitch: of a window's blocks some must repeat themselves at 60 to 400 Hz.
# White noise reaches 0.25 of its power at the best lag, vowels 0.5 to 0.95; a spoken "six" has five such blocks.
_PITCH_SAMPLES, _PITCH_LAGS = 512, (RATE_HZ // 400, RATE_HZ // 60)
_LEAST_PITCH, _LEAST_PITCHED_HOPS = 0.4, 3
_PITCH_HOPS_AT_ONCE = 32
# A beep repeats itself too, but a voice has overtones: of a tone's power four fifths lie within 125 Hz of its peak,
# also where it begins within the block; of 1,400 blocks of speech that repeat themselves 21 are so.
_MOST_PEAK, _PEAK_BINS = 0.8, 8
# What begins and ends softly must not be cut; given 0.2 s before the first word Whisper base mishears it more often.
_LEAD_HOPS, _TAIL_HOPS = 50, 50


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of samples [start, end) to transcribe at once. `runs_on`: it was cut without a pause, and the next one
    begins where it ends."""

    start: int
    end: int
    runs_on: bool = False


def voiced_hops(samples: F32, close_cut: bool = False) -> NDArray[np.bool_]:
    """Which 10 ms blocks (n,) may be speech, by their level. All False for silence and steady noise.

    `close_cut`: the recording may be a word without a pause before or behind it; short noise passes more easily then.
    """
    return _voiced(_levels_db(samples), close_cut)


def _voiced(level_db: F64, close_cut: bool) -> NDArray[np.bool_]:
    if level_db.size == 0:
        return np.zeros(0, np.bool_)
    noise_db, peak_db = np.percentile(level_db, (10, 98))
    if close_cut and peak_db - noise_db > _CLOSE_CUT_SPREAD_DB:
        noise_db = min(noise_db, peak_db - _CLOSE_CUT_RANGE_DB)
    threshold_db = max(noise_db + _ABOVE_NOISE_DB, peak_db - _BELOW_PEAK_DB, _FLOOR_DBFS)
    return np.asarray(level_db > threshold_db)


def speech_windows(
    samples: F32, longest_s: float = 28.0, gap_s: float = 3.0, *, close_cut: bool = False
) -> list[Window]:
    """Stretches of possible speech, in order, none longer than `longest_s`, none overlapping.

    Neighbours are packed together while they fit and the silence between them is below `gap_s`: a transcriber
    needs context. A stretch with no pause is cut at its quietest point in the second half. `close_cut`: see
    `voiced_hops`.
    """
    level_db = _levels_db(samples)
    voiced = _voiced(level_db, close_cut)
    longest = int(longest_s * 100)
    pieces = [cut for run in _runs(voiced) for cut in _cut(run, level_db, longest)]
    packed: list[tuple[int, int, bool]] = []
    for start, end, runs_on in pieces:
        if packed and end - packed[-1][0] <= longest and start - packed[-1][1] <= gap_s * 100:
            packed[-1] = (packed[-1][0], end, runs_on)
        else:
            packed.append((start, end, runs_on))
    windows = [Window(start * _HOP, min(end * _HOP, samples.size), runs_on) for start, end, runs_on in packed]
    return [window for window in windows if _has_pitch(samples, window, voiced)]


def _has_pitch(samples: F32, window: Window, voiced: NDArray[np.bool_]) -> bool:
    """Whether a few of a window's voiced blocks repeat themselves as a voice does; stops at the first ones found."""
    hops = np.flatnonzero(voiced[window.start // _HOP : window.end // _HOP]) + window.start // _HOP
    found = 0
    for at in range(0, len(hops), _PITCH_HOPS_AT_ONCE):
        found += _pitched(samples, hops[at : at + _PITCH_HOPS_AT_ONCE])
        if found >= _LEAST_PITCHED_HOPS:
            return True
    return False


def _pitched(samples: F32, hops: NDArray[np.int64]) -> int:
    """How many of the blocks (n,) have a pitch: the peak of the normalised autocorrelation, pre-emphasised."""
    starts = np.minimum(hops * _HOP, max(0, samples.size - _PITCH_SAMPLES))
    places = starts[:, None] + np.arange(min(_PITCH_SAMPLES, samples.size))
    frames = np.diff(samples[places].astype(np.float64), axis=1)
    frames -= frames.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(frames, 2 * _PITCH_SAMPLES, axis=1)) ** 2
    alike = np.fft.irfft(spectrum, axis=1)
    low, high = _PITCH_LAGS
    size = frames.shape[1]
    fewer = size / (size - np.arange(low, min(high, size - 1)))  # samples that overlap at each lag
    peaks = (alike[:, low : low + len(fewer)] * fewer).max(axis=1, initial=0.0) / np.maximum(
        alike[:, 0], 1e-12
    )
    return int(((peaks >= _LEAST_PITCH) & ~_pure_tones(spectrum)).sum())


def _pure_tones(spectrum: F64) -> NDArray[np.bool_]:
    """Which rows of power (n, bins) are one peak and next to nothing beside it."""
    width = 2 * _PEAK_BINS + 1
    sums = np.cumsum(np.pad(spectrum, ((0, 0), (width, _PEAK_BINS))), axis=1)
    around = (sums[:, width:] - sums[:, :-width])[:, _PEAK_BINS:]
    at = spectrum.argmax(axis=1)[:, None]
    in_peak = np.take_along_axis(around, np.minimum(at, around.shape[1] - 1), axis=1)[:, 0]
    return np.asarray(in_peak > _MOST_PEAK * spectrum.sum(axis=1))


def _levels_db(samples: F32) -> F64:
    """Level of each 10 ms block in dBFS, smoothed over 30 ms, after a pre-emphasis that takes hum down."""
    hops = samples.size // _HOP
    if hops == 0:
        return np.zeros(0)
    power = np.empty(hops)
    block_hops = 6000  # a minute at a time: no second copy of a long recording
    for at in range(0, hops, block_hops):
        block = samples[at * _HOP : min(hops, at + block_hops) * _HOP]
        sharp = (
            np.diff(block, prepend=block[:1])
            if at == 0
            else np.diff(samples[at * _HOP - 1 : at * _HOP + block.size])
        )
        power[at : at + block_hops] = np.square(sharp.reshape(-1, _HOP)).mean(axis=1)
    if hops >= 3:
        power = np.convolve(np.pad(power, 1, mode="edge"), np.full(3, 1 / 3), "valid")
    return np.asarray(10 * np.log10(power + 1e-14))


def _runs(voiced: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of voiced blocks, close ones merged, clicks dropped, widened by lead and tail, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], voiced, [False]))))
    merged: list[tuple[int, int, int]] = []  # start, end, voiced blocks
    for start, end in edges.reshape(-1, 2).tolist():
        if merged and start - merged[-1][1] < _MERGE_GAP_HOPS:
            merged[-1] = (merged[-1][0], end, merged[-1][2] + end - start)
        else:
            merged.append((start, end, end - start))
    runs: list[tuple[int, int]] = []
    for start, end, blocks in merged:
        if blocks < _LEAST_SPEECH_HOPS:
            continue
        before = runs[-1][1] if runs else 0
        runs.append((max(before, start - _LEAD_HOPS), min(voiced.size, end + _TAIL_HOPS)))
    return runs


def _cut(run: tuple[int, int], level_db: F64, longest: int) -> list[tuple[int, int, bool]]:
    """The run in parts of at most `longest` blocks, cut where it is quietest; all but the last run on."""
    start, end = run
    parts = []
    while end - start > longest:
        at = start + longest // 2
        at += int(np.argmin(level_db[at : start + longest]))
        parts.append((start, at, True))
        start = at
    return [*parts, (start, end, False)]
