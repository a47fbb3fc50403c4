"""Log-mel features between two frequencies, normalised for each recording: what small networks of speech read.

Apart from Whisper's (`models.media.mel`): bands end where telephones do, and mean and spread of every band are those
of the recording itself, so that neither microphone nor loudness is left. NumPy only.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ
from models.media.mel import HOP, WINDOW

F32 = NDArray[np.float32]

EDGE = RATE_HZ // 5
LOWEST_HZ, HIGHEST_HZ = 60.0, 3800.0
_BELOW_LOUDEST = 4.5  # in powers of ten: 45 dB, so that silence of microphones and of zeros look alike
_LEAST_POWER = 1e-10
_WARP_KNEE = (
    0.8  # from this share of the highest frequency on, a warp is bent back, so that bands stay in place
)


def features(samples: F32, bands: int) -> F32:
    """Samples (n,) at 16 kHz -> (T, bands), a row every 10 ms, with a fifth of a second of silence on both sides.

    Without silence around it a word alone would be all that its mean and spread are taken of.
    """
    return normalised_log(banded_power(np.pad(samples, EDGE), bands))


def banded_power(samples: F32, bands: int, warp: float = 1.0) -> F32:
    """Samples (n,) at 16 kHz -> power (n // HOP + 1, bands); `warp` stretches frequencies, as a longer throat does."""
    half = WINDOW // 2
    padded = np.pad(np.asarray(samples, np.float32), half)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * _hann(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return np.asarray(power @ _filters(bands, round(warp, 3)), np.float32)


def normalised_log(power: F32) -> F32:
    """Power (T, bands) -> its logarithm, at most 45 dB below the loudest, of mean 0 and spread 1 in each band."""
    log = np.log10(np.maximum(power, _LEAST_POWER))
    log = np.maximum(log, log.max() - _BELOW_LOUDEST)
    spread = log.std(axis=0)
    return np.asarray((log - log.mean(axis=0)) / np.maximum(spread, 0.1), np.float32)


@cache
def _filters(bands: int, warp: float) -> F32:
    """Triangles (201, bands), even in mel = 2595 log10(1 + Hz / 700), each warped by moving its edges."""
    lowest, highest = (float(2595 * np.log10(1 + hz / 700)) for hz in (LOWEST_HZ, HIGHEST_HZ))
    mel = np.linspace(lowest, highest, bands + 2)
    edges_hz = _warped(700 * (10 ** (mel / 2595) - 1), warp)
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
