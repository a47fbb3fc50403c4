"""Log-mel features between two frequencies, normalised for each recording: what small networks of speech read.

Apart from Whisper's (`models.media.mel`): bands end where telephones do, and loudness and tilt of the recording itself
are taken out, so that little is left of the microphone. NumPy only.
"""

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ
from models.media.mel import HOP, WINDOW

F32 = NDArray[np.float32]

EDGE = RATE_HZ // 5
LOWEST_HZ, HIGHEST_HZ = 60.0, 3800.0
BENT_HZ = (500.0, 1200.0, 2000.0, 2900.0)
_BELOW_LOUDEST = (
    6.0  # in powers of ten: 60 dB, so that a word 30 dB below its loudest neighbour is still heard
)
_MOST_RAISED = 1.5  # powers of ten: 15 dB
_NEAR_HOPS = 35  # 0.35 s to either side
_LOUD = 3.0  # frames up to 30 dB below the loudest
_SPREAD = 1.2  # powers of ten: makes the spread of features about 1
_LEAST_POWER = 1e-10
_WARP_KNEE = (
    0.8  # from this share of the highest frequency on, a warp is bent back, so that bands stay in place
)


def features(samples: F32, bands: int) -> F32:
    """Samples (n,) at 16 kHz -> (T, bands), a row every 10 ms, with a fifth of a second of silence on both sides.

    A word may begin at once, and be far quieter than the next.
    """
    return normalised_log(levelled(banded_power(np.pad(samples, EDGE), bands)))


def levelled(power: F32) -> F32:
    """Power (T, bands) with quiet words raised towards the loudest, by at most 15 dB: each frame by what the loudest
    frame nearby lacks, smoothed."""
    near = _NEAR_HOPS
    level = np.log10(np.maximum(power.max(axis=1), _LEAST_POWER))
    ends = np.pad(level, near, constant_values=np.log10(_LEAST_POWER))
    nearby = np.lib.stride_tricks.sliding_window_view(ends, 2 * near + 1).max(axis=1)
    lacks = np.minimum(level.max() - nearby, _MOST_RAISED)
    bell = np.hanning(2 * near + 3)[1:-1]
    raised = np.convolve(np.pad(lacks, near, mode="edge"), bell / bell.sum(), "valid")
    return np.asarray(power * 10 ** raised[:, None], np.float32)


def banded_power(samples: F32, bands: int, warp: float = 1.0, bends: tuple[float, ...] = ()) -> F32:
    """Samples (n,) at 16 kHz -> power (n // HOP + 1, bands); `warp` stretches frequencies, as a longer throat does.

    `bends`: shares by which frequencies are moved besides, one for each of `BENT_HZ`: resonances of another mouth.
    """
    half = WINDOW // 2
    padded = np.pad(np.asarray(samples, np.float32), half)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * _hann(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return np.asarray(power @ _filters(bands, warp, bends), np.float32)


def normalised_log(power: F32) -> F32:
    """Power (T, bands) -> its logarithm, at most 60 dB below the loudest, less the level and tilt of what is loud.

    Not less the mean of each band: of a word alone that is most of what tells it from others.
    """
    log = np.log10(np.maximum(power, _LEAST_POWER))
    loudest = log.max()
    log = np.maximum(log, loudest - _BELOW_LOUDEST)
    mean = log[log.max(axis=1) > loudest - _LOUD].mean(axis=0)
    along = np.linspace(-1.0, 1.0, len(mean))
    line = mean.mean() + along * (mean @ along) / (along @ along)
    return np.asarray((log - line) / _SPREAD, np.float32)


@lru_cache(64)
def _filters(bands: int, warp: float, bends: tuple[float, ...]) -> F32:
    """Triangles (201, bands), even in mel = 2595 log10(1 + Hz / 700), each warped and bent by moving its edges."""
    lowest, highest = (float(2595 * np.log10(1 + hz / 700)) for hz in (LOWEST_HZ, HIGHEST_HZ))
    mel = np.linspace(lowest, highest, bands + 2)
    edges_hz = _warped(700 * (10 ** (mel / 2595) - 1), warp)
    if bends:
        edges_hz *= 1 + np.interp(edges_hz, (0.0, *BENT_HZ, HIGHEST_HZ), (0.0, *bends, 0.0))
    bins_hz = np.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1)[:, None]
    rising = (bins_hz - edges_hz[:-2]) / np.diff(edges_hz)[:-1]
    falling = (edges_hz[2:] - bins_hz) / np.diff(edges_hz)[1:]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def _warped(hz: NDArray[np.float64], warp: float) -> NDArray[np.float64]:
    """Frequencies times `warp` up to a knee, from there on a line to the highest frequency."""
    knee = _WARP_KNEE * HIGHEST_HZ / max(1.0, warp)
    rest = (HIGHEST_HZ - warp * knee) / (HIGHEST_HZ - knee)
    return np.where(hz <= knee, warp * hz, HIGHEST_HZ - (HIGHEST_HZ - hz) * rest)


@cache
def _hann() -> F32:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
