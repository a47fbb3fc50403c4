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
    """A stretch of speech; `window` counts from the recording's first sample. The samples begin `lead` before it."""

    window: Window
    samples: F32
    lead: int = 0


class Listener:
    """Hears one recording, once. `samples` and `voiced_s`: how much of it there was, and how much may be speech."""

    def __init__(
        self, longest_s: float = 28.0, gap_s: float = 3.0, *, close_cut: bool = False, margin_s: float = 0.0
    ) -> None:
        """As `speech_windows`. `margin_s`: where a stretch is cut without a pause, the samples of both parts reach so
        far over the cut."""
        self._longest_s = longest_s
        self._gap_s = gap_s
        self._close_cut = close_cut
        self._margin = int(margin_s * RATE_HZ)
        self._before = np.empty(0, np.float32)  # of the first stretch of the next look, which was cut from it
        self.samples = 0
        self.voiced_s = 0.0

    def hear(self, pieces: Iterable[F32]) -> Iterator[Heard]:
        """Stretches in order, none overlapping, as soon as they are whole. Raises what reading a piece raises."""
        held, start = np.empty(0, np.float32), 0
        for piece in pieces:
            held = np.concatenate((held, piece))
            self.samples += piece.size
            if held.size >= _LOOK_S * RATE_HZ:
                windows = self._windows(held)
                keep_from = self._keep_from(windows, held.size)
                whole = [one for one in windows if one.end <= keep_from]
                yield from self._cut_out(held, start, whole)
                self.voiced_s += self._voiced_s(held, keep_from)
                runs_on = bool(whole) and whole[-1].runs_on and whole[-1].end == keep_from
                self._before = held[keep_from - self._margin * runs_on : keep_from].copy()
                held, start = held[keep_from:].copy(), start + keep_from
        yield from self._cut_out(held, start, self._windows(held))
        self.voiced_s += self._voiced_s(held, held.size)

    def _windows(self, held: F32) -> list[Window]:
        return speech_windows(held, self._longest_s, self._gap_s, close_cut=self._close_cut)

    def _voiced_s(self, held: F32, end: int) -> float:
        return int(voiced_hops(held, self._close_cut)[: end // _HOP].sum()) / 100

    def _keep_from(self, windows: list[Window], size: int) -> int:
        """Where the next look begins: at the last stretch if it may go on, else shortly before the end."""
        last = windows[-1] if windows else Window(0, 0)
        if windows and last.end > size - self._gap_s * RATE_HZ:
            return last.start
        return max(last.end, (size - _BEGINNING) // _HOP * _HOP)

    def _cut_out(self, held: F32, start: int, windows: list[Window]) -> Iterator[Heard]:
        cut_at = 0 if self._before.size else -1
        for one in windows:
            samples = held[one.start : one.end + self._margin * one.runs_on]
            before = samples[:0]
            if one.start == cut_at:
                before = held[max(0, one.start - self._margin) : one.start] if one.start else self._before
            lead = before.size
            cut_at = one.end if one.runs_on else -1
            whole = np.concatenate((before, samples)) if lead else samples
            yield Heard(Window(start + one.start, start + one.end, one.runs_on), whole, lead)
