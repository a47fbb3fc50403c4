"""How good labels are against references: accuracy, F1 by class, the right one among the first five. NumPy alone.

Intervals are 95 %, by bootstrap over inputs (Efron, 1979): percentiles of 1,000 draws, seeded; of tags by Wilson's
score (1927), since a few dozen pictures may all be right, of which every draw is all right too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

DRAWS = 1000
_Z = 1.959964  # 97.5 % of the normal distribution
_DRAWN_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Share:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class: how many references, precision, recall and F1; 0 where nothing can be divided by."""

    name: str
    references: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Classified:
    """`macro_f1` is the mean over the classes that references name. `confused`: (right, given, count), most first."""

    inputs: int
    accuracy: Share
    macro_f1: Share
    classes: tuple[ClassFigures, ...]
    confused: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Share of inputs whose reference is the first tag, and is among the first five."""

    inputs: int
    top1: Share
    top5: Share


def share_of(parts: F64, wholes: F64, seed: int) -> Share:
    """sum(parts) / sum(wholes) of inputs (N,); inputs are drawn with replacement. Raises ValueError for none."""
    if not len(parts) or not sum(wholes):
        raise ValueError("there is nothing to take a share of")
    values = [
        parts[drawn].sum(1) / np.maximum(wholes[drawn].sum(1), 1e-12) for drawn in _draws(len(parts), seed)
    ]
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return Share(float(parts.sum() / wholes.sum()), float(low), float(high))


def classified(right: Sequence[str], given: Sequence[str], seed: int) -> Classified:
    """References and answers of the same inputs. Raises ValueError for none."""
    names = sorted({*right, *given})
    place = {name: at for at, name in enumerate(names)}
    a, b = (np.array([place[name] for name in each], np.int64) for each in (right, given))
    named = np.unique(a)
    hits = (a == b).astype(np.float64)
    accuracy = share_of(hits, np.ones(len(a)), seed)
    drawn = [_macro_f1(a[rows], b[rows], named, len(names)) for rows in _draws(len(a), seed)]
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    precision, recall, f1 = _figures(a[None], b[None], len(names))
    pairs, counts = np.unique(np.stack([a, b])[:, a != b], axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return Classified(
        inputs=len(a),
        accuracy=accuracy,
        macro_f1=Share(float(f1[0, named].mean()), float(low), float(high)),
        classes=tuple(
            ClassFigures(
                names[at], int((a == at).sum()), *(float(row[0, at]) for row in (precision, recall, f1))
            )
            for at in named
        ),
        confused=tuple((names[pairs[0, at]], names[pairs[1, at]], int(counts[at])) for at in order),
    )


def ranked(right: Sequence[str], given: Sequence[Sequence[str]]) -> Ranked:
    """References and ranked answers of the same inputs. Raises ValueError for none."""
    found = [sum(name in answers[:top] for name, answers in zip(right, given, strict=True)) for top in (1, 5)]
    return Ranked(len(right), wilson(found[0], len(right)), wilson(found[1], len(right)))


def wilson(hits: int, inputs: int) -> Share:
    """hits / inputs with Wilson's interval, which holds where all or none are hits. Raises ValueError for no inputs."""
    if not inputs:
        raise ValueError("there is nothing to take a share of")
    share, z2 = hits / inputs, _Z * _Z
    middle = (share + z2 / (2 * inputs)) / (1 + z2 / inputs)
    half = _Z / (1 + z2 / inputs) * math.sqrt(share * (1 - share) / inputs + z2 / (4 * inputs**2))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def _draws(size: int, seed: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // size)
    counts = [min(at_once, DRAWS - at) for at in range(0, DRAWS, at_once)]
    return [rng.integers(0, size, (count, size)) for count in counts]


def _figures(a: NDArray[np.int64], b: NDArray[np.int64], classes: int) -> tuple[F64, F64, F64]:
    """Precision, recall and F1 (R, classes) of R rows of references and answers."""
    row = np.arange(len(a))[:, None] * classes
    size = len(a) * classes
    both = np.bincount((row + a)[a == b], minlength=size).reshape(-1, classes).astype(np.float64)
    named = np.bincount((row + a).reshape(-1), minlength=size).reshape(-1, classes)
    said = np.bincount((row + b).reshape(-1), minlength=size).reshape(-1, classes)
    return both / np.maximum(said, 1), both / np.maximum(named, 1), 2 * both / np.maximum(named + said, 1)


def _macro_f1(a: NDArray[np.int64], b: NDArray[np.int64], named: NDArray[np.int64], classes: int) -> F64:
    return np.asarray(_figures(a, b, classes)[2][:, named].mean(1))
