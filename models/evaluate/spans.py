"""How good marked spans are against references: a span is right if start, end and kind all are. NumPy alone.

Precision, recall and F1 are summed over all inputs (micro), as in CoNLL-2003's script; 95 % intervals by bootstrap over
inputs (Efron, 1979), seeded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluate.labelled import ClassFigures, Share, share_of

Marked = tuple[int, int, str]
"""Start, end and kind."""


@dataclass(frozen=True, slots=True)
class Spanned:
    """`references` and `given` count spans; `kinds` are those that references name."""

    inputs: int
    references: int
    given: int
    precision: Share
    recall: Share
    f1: Share
    kinds: tuple[ClassFigures, ...]


def spanned(right: Sequence[Sequence[Marked]], given: Sequence[Sequence[Marked]], seed: int) -> Spanned:
    """References and answers of the same inputs; the same span twice counts once. Raises ValueError without a span."""
    sets = [(set(a), set(b)) for a, b in zip(right, given, strict=True)]
    hits = np.array([len(a & b) for a, b in sets], np.float64)
    named = np.array([len(a) for a, _ in sets], np.float64)
    said = np.array([len(b) for _, b in sets], np.float64)
    if not named.sum():
        raise ValueError("no reference holds a span")
    nothing = Share(0.0, 0.0, 0.0)
    kinds = sorted({kind for a, _ in sets for _, _, kind in a})
    return Spanned(
        inputs=len(sets),
        references=int(named.sum()),
        given=int(said.sum()),
        precision=share_of(hits, said, seed) if said.sum() else nothing,
        recall=share_of(hits, named, seed),
        f1=share_of(2 * hits, named + said, seed),
        kinds=tuple(_of_kind(kind, sets) for kind in kinds),
    )


def _of_kind(kind: str, sets: Sequence[tuple[set[Marked], set[Marked]]]) -> ClassFigures:
    named = sum(one[2] == kind for right, _ in sets for one in right)
    said = sum(one[2] == kind for _, given in sets for one in given)
    hits = sum(one[2] == kind for right, given in sets for one in right & given)
    return ClassFigures(kind, named, hits / max(said, 1), hits / named, 2 * hits / (named + said))
