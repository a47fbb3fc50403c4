"""Connectionist temporal classification: what a row of per-frame classes says (Graves et al., 2006)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heard:
    """Classes in order, without blanks and repeats; `score`: mean probability of the classes heard, 0..1 or None."""

    classes: tuple[int, ...]
    score: float | None


def greedy(probabilities: F32, blank: int) -> Heard:
    """The likeliest class of each frame of (T, classes), repeats joined, blanks dropped."""
    best = probabilities.argmax(1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    heard = [int(best[at]) for at in starts if best[at] != blank]
    spoken = best != blank
    score = float(probabilities[spoken, best[spoken]].mean()) if heard else None
    return Heard(tuple(heard), score)
