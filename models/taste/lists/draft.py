"""A batch of lists on its way through the stages: what these read, and the candidates with what was made of them. NumPy
alone."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.lists.barred import Barred
from models.taste.lists.rank import Scored
from models.taste.lists.request import ListSettings, Requests

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_BELOW = np.float32(0.999)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the stages read."""

    table: ItemTable
    catalogue: Catalogue
    requests: Requests
    scored: Scored
    barred: Barred
    now_ms: int
    k: int
    settings: ListSettings


@dataclass(frozen=True, slots=True)
class Draft:
    """B rows of candidates in order, -1 padded."""

    items: I32
    scores: F32
    factors: F32 | None = None  # what the stages made of the scores' parts; None: they are as they were
    explored: F32 | None = None  # None: nothing is
    propensity: F32 | None = None  # with `explored`
    parts: F32 | None = None  # (B, N, P) what a learnt blend made of the parts, before the factors

    def taken(self, columns: I64) -> "Draft":
        """The candidates at `columns` (B, N), -1 none."""
        at, none = np.maximum(columns, 0), columns < 0

        def column(values: F32 | None) -> F32 | None:
            if values is None:
                return None
            found: F32 = along(values, at)
            found[none] = 0
            return found

        items = along(self.items, at)
        items[none] = -1
        parts = None if self.parts is None else np.take_along_axis(self.parts, at[..., None], 1)
        if parts is not None:
            parts[none] = 0
        scores = along(self.scores, at)
        scores[none] = 0
        return Draft(
            items, scores, column(self.factors), column(self.explored), column(self.propensity), parts
        )

    def first(self, k: int) -> "Draft":
        """The first k candidates."""
        parts = (self.factors, self.explored, self.propensity, self.parts)
        return Draft(
            self.items[:, :k], self.scores[:, :k], *(None if part is None else part[:, :k] for part in parts)
        )


def ordered(draft: Draft, weighed: F32) -> Draft:
    """In the order of the new scores, made of these parts."""
    return replace(draft, parts=weighed).taken(by_score(draft.items, draft.scores))


def behind(first: Draft, others: Draft) -> Draft:
    """Of `others` those that `first` has not got, behind it. Their scores and parts are scaled down alike where the
    best of them would not be below the least of `first`: scores descend, and parts add up to them. Both have parts."""
    assert first.parts is not None and others.parts is not None
    held = first.items >= 0
    size = 1 + max(first.items.max(initial=0), others.items.max(initial=0))
    had = np.zeros((len(others.items), size), np.bool_)
    had[held.nonzero()[0], first.items[held]] = True
    new = (others.items >= 0) & ~along(had, np.maximum(others.items, 0))
    bound = _BELOW * np.where(held, first.scores, np.float32(np.inf)).min(axis=1, initial=np.inf)
    most = np.where(new, others.scores, np.float32(0)).max(axis=1, initial=0)
    scale = np.divide(bound, most, out=np.ones_like(most), where=most > bound)[:, None]
    items = np.concatenate([first.items, np.where(new, others.items, np.int32(-1))], axis=1)
    columns = np.argsort(items < 0, axis=1, kind="stable")
    columns[along(items, columns) < 0] = -1
    return Draft(
        items,
        np.concatenate([first.scores, others.scores * scale], axis=1),
        parts=np.concatenate([first.parts, others.parts * scale[..., None]], axis=1),
    ).taken(columns)


def by_score(items: I32, scores: F32) -> I64:
    """Columns (B, N) of items (B, N), -1 padded, in the order of their scores; -1 for none."""
    order = np.where(items >= 0, -scores, np.float32(np.inf)).argsort(axis=1, kind="stable")
    order[along(items, order) < 0] = -1
    return order


def along(matrix: NDArray[Any], columns: I64) -> NDArray[Any]:
    """`np.take_along_axis(matrix, columns, 1)` for columns (B, N) of a matrix (B, M): a third of its cost for a few
    rows."""
    found: NDArray[Any] = matrix.reshape(-1).take(columns + np.arange(len(matrix))[:, None] * matrix.shape[1])
    return found
