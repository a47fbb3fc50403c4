"""Log-mel spectrograms as Whisper reads them. NumPy only.

Equal (to 1e-4) to OpenAI's and transformers' features: 25 ms Hann windows every 10 ms, centred with
reflection, Slaney's mel scale with area normalisation, log10, 8 below the loudest, then (x + 4) / 4.
Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022, and its code.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ

F32 = NDArray[np.float32]

WINDOW = 400
HOP = 160
FRAMES_PER_S = RATE_HZ // HOP
# Blocks of frames keep the transform's temporaries in cache and bounded for hour-long input.
_BLOCK_FRAMES = 512


def log_mel(samples: F32, frames: int, mels: int = 80) -> F32:
    """Samples (n,) in -1..1 at 16 kHz, followed by silence up to `frames` -> (mels, frames).

    Samples beyond `frames * HOP` are ignored.
    """
    return logged(mel_power(samples, frames, mels))


def logged(power: F32) -> F32:
    """Power of a window, of any shape -> what Whisper reads: its logarithm, 8 below the loudest at least."""
    log = np.log10(np.maximum(power, 1e-10))
    loudest = float(log.max())
    return np.asarray((np.maximum(log, loudest - 8.0) + 4.0) / 4.0, np.float32)


def mel_power(samples: F32, frames: int, mels: int) -> F32:
    """What `log_mel` takes the logarithm of: power (mels, frames) in each band."""
    padded = np.zeros(frames * HOP + WINDOW, np.float32)
    taken = samples[: frames * HOP]
    half = WINDOW // 2
    padded[half : half + taken.size] = taken
    padded[:half] = padded[half + 1 : WINDOW + 1][::-1]
    padded[-half:] = padded[-WINDOW - 1 : -half - 1][::-1]
    power = np.empty((WINDOW // 2 + 1, frames), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = _hann()
    for at in range(0, frames, _BLOCK_FRAMES):
        block = np.fft.rfft(windows[at : at + _BLOCK_FRAMES][: frames - at] * hann, axis=1)
        power[:, at : at + _BLOCK_FRAMES] = (block.real**2 + block.imag**2).T
    banded: F32 = mel_filters(mels) @ power
    return banded


@cache
def mel_filters(mels: int) -> F32:
    """Triangular filters (mels, 201) over 0..8 kHz, each of area 1.

    Slaney's scale is linear to 1 kHz, then has 27 steps per factor of 6.4.
    """
    edges_hz = _to_hz(np.linspace(0.0, _to_mel(RATE_HZ / 2), mels + 2))
    bins_hz = np.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return (np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)


@cache
def _hann() -> F32:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


_LINEAR_HZ_PER_MEL = 200 / 3
_LOG_FROM_MEL = 1000 / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def _to_mel(hz: float) -> float:
    return float(_LOG_FROM_MEL + np.log(hz / 1000) / _LOG_STEP) if hz >= 1000 else hz / _LINEAR_HZ_PER_MEL


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(
        mel >= _LOG_FROM_MEL, 1000 * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL)), mel * _LINEAR_HZ_PER_MEL
    )
