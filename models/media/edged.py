"""Log-mel spectrograms of words that are cut close, with silence on both sides, and the same words of other mouths.

For networks on the first layers of Whisper; see `models.media.mel`. NumPy only.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ
from models.media.mel import HOP, WINDOW, logged, mel_filters, mel_power

F32 = NDArray[np.float32]

EDGE = RATE_HZ // 5
BENT_HZ = (500.0, 1200.0, 2000.0, 2900.0)
_VOICE_HZ = 3800.0  # what lies higher stays in place
_KNEE = 0.8  # from this share of it on, a warp is bent back


def features(samples: F32, mels: int) -> F32:
    """Samples (n,) at 16 kHz -> log-mel (T, mels), T a multiple of 4, a row every 10 ms.

    With a fifth of a second of silence on both sides: a word may begin at once.
    """
    return logged(edged_power(samples, mels))


def edged_power(samples: F32, mels: int) -> F32:
    """`features` before the logarithm."""
    return mel_power(np.pad(samples, EDGE), frames_of(samples.size), mels).T


def frames_of(samples: int) -> int:
    """Rows that `features` gives of so many samples."""
    return 4 * -(-(samples + 2 * EDGE) // (4 * HOP))


def warped(power: F32, warp: float, bends: tuple[float, ...]) -> F32:
    """Power (T, mels) as a throat longer by the factor `warp` gives it: each band reads from higher frequencies.

    `bends`: shares by which frequencies are moved besides, one for each of `BENT_HZ`: resonances of another mouth.
    """
    centres_hz = _centres_hz(power.shape[1])
    knee = _KNEE * _VOICE_HZ / max(1.0, warp)
    rest = (_VOICE_HZ - warp * knee) / (_VOICE_HZ - knee)
    bent_back = np.where(centres_hz < _VOICE_HZ, _VOICE_HZ - (_VOICE_HZ - centres_hz) * rest, centres_hz)
    from_hz = np.where(centres_hz <= knee, warp * centres_hz, bent_back)
    from_hz = from_hz * (1 + np.interp(from_hz, (0.0, *BENT_HZ, _VOICE_HZ), (0.0, *bends, 0.0)))
    at = np.interp(from_hz, centres_hz, np.arange(centres_hz.size))
    below = np.minimum(at.astype(np.int64), centres_hz.size - 2)
    share = (at - below).astype(np.float32)
    return np.asarray(power[:, below] * (1 - share) + power[:, below + 1] * share, np.float32)


@cache
def _centres_hz(mels: int) -> NDArray[np.float64]:
    filters = mel_filters(mels).astype(np.float64)
    middle = filters @ np.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1) / filters.sum(axis=1)
    return np.asarray(middle, np.float64)
