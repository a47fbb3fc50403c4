"""A recording as it is decoded, piece by piece -> its stretches of speech, each with its samples.

What is held is bounded whatever the length: some minutes of sound, in which levels are compared and pauses looked
for, and of those half a minute goes on into the next look, so that no stretch is cut where a piece ends. A recording
of up to `_LOOK_S` is looked at as a whole. NumPy only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.media.audio import RATE_HZ
from models.media.speech import Window, speech_windows, voiced_hops

F32 = NDArray[np.float32]

_LOOK_S = 180.0
_HOP = RATE_HZ // 100
_BEGINNING = RATE_HZ  # samples: what may be the soft beginning of a stretch that has not come yet


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of speech; `window` counts from the recording's first sample."""

    window: Window
    samples: F32


class Listener:
    """Hears one recording, once. `samples` and `voiced_s`: how much of it there was, and how much may be speech."""

    def __init__(self, longest_s: float = 28.0, gap_s: float = 3.0) -> None:
        """As `speech_windows`."""
        self._longest_s = longest_s
        self._gap_s = gap_s
        self.samples = 0
        self.voiced_s = 0.0

    def hear(self, pieces: Iterable[F32]) -> Iterator[Heard]:
        """Stretches in order, none overlapping, as soon as they are whole. Raises what reading a piece raises."""
        held, start = np.empty(0, np.float32), 0
        for piece in pieces:
            held = np.concatenate((held, piece))
            self.samples += piece.size
            if held.size >= _LOOK_S * RATE_HZ:
                windows = speech_windows(held, self._longest_s, self._gap_s)
                keep_from = self._keep_from(windows, held.size)
                yield from _cut_out(held, start, [one for one in windows if one.end <= keep_from])
                self.voiced_s += int(voiced_hops(held)[: keep_from // _HOP].sum()) / 100
                held, start = held[keep_from:].copy(), start + keep_from
        yield from _cut_out(held, start, speech_windows(held, self._longest_s, self._gap_s))
        self.voiced_s += int(voiced_hops(held).sum()) / 100

    def _keep_from(self, windows: list[Window], size: int) -> int:
        """Where the next look begins: at the last stretch if it may go on, else shortly before the end."""
        last = windows[-1] if windows else Window(0, 0)
        if windows and last.end > size - self._gap_s * RATE_HZ:
            return last.start
        return max(last.end, (size - _BEGINNING) // _HOP * _HOP)


def _cut_out(held: F32, start: int, windows: list[Window]) -> Iterator[Heard]:
    for one in windows:
        yield Heard(Window(start + one.start, start + one.end), held[one.start : one.end])
