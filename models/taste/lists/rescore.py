"""Candidates scored anew by what was learnt, and what may be learnt from them. NumPy alone."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.taste.learnt.calibrated import Calibrated, Candidates
from models.taste.lists.draft import Batch, Draft, behind, ordered
from models.taste.lists.ordering import Ordering
from models.taste.lists.rank import LAYERS
from models.taste.lists.reasons import layers_of
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def rescored(
    batch: Batch, users: UserRows, draft: Draft, learnt: Calibrated | Ordering
) -> tuple[Draft, Candidates]:
    """The candidates by their new scores, and what the weights may learn from."""
    if isinstance(learnt, Ordering):
        return _order(batch, users, draft, learnt)
    return _blend(batch, draft, learnt)


def _blend(batch: Batch, draft: Draft, learnt: Calibrated) -> tuple[Draft, Candidates]:
    """Score the candidates anew, in the order of their new scores; and what the weights may learn from."""
    how, requests = batch.settings.rank, batch.requests
    parts = layers_of(batch.table, batch.scored, draft.items, batch.now_ms, how)
    names = (*LAYERS, *batch.scored.parts.names)
    weighed = learnt.weigh(names, parts)
    scores: F32 = weighed.sum(axis=2)
    items = draft.items
    personal = np.ones(len(items), np.bool_) if requests.anonymous is None else ~requests.anonymous
    found = Candidates(requests.rows[personal], items[personal], parts[personal], names, learnt)
    return ordered(replace(draft, scores=scores), weighed), found


def _order(batch: Batch, users: UserRows, draft: Draft, learnt: Ordering) -> tuple[Draft, Candidates]:
    """The same by all that was learnt, with candidates of its own beside these. A longer list than there are candidates
    begins with what these make; behind it stand the others, weighed among all."""
    most = batch.settings.candidates
    found, chosen_from = _ordered_among(batch, users, draft.items[:, :most], learnt)
    if batch.k > most:
        others, _ = _ordered_among(batch, users, draft.items, learnt)
        found = behind(found, others)
    return found, chosen_from


def _ordered_among(batch: Batch, users: UserRows, items: I32, learnt: Ordering) -> tuple[Draft, Candidates]:
    """These items (B, M), -1 padded, and those that are proposed beside them."""
    requests, sources = batch.requests, batch.scored.parts
    proposed = learnt.propose(
        users, requests.rows, items, batch.barred, requests.anonymous, sources, requests.asked_ms
    )
    parts = layers_of(batch.table, batch.scored, proposed.items, batch.now_ms, batch.settings.rank)
    names = (*LAYERS, *sources.names)
    personal = np.ones(len(parts), np.bool_) if requests.anonymous is None else ~requests.anonymous
    weighed, found = learnt.weigh(requests.rows, proposed, names, parts, personal)
    scores: F32 = weighed.sum(axis=2)
    return ordered(Draft(proposed.items, scores), weighed), found
