"""The stages of a list that choose among candidates: whether each is on, what it does, what is done without it. NumPy
alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.taste.items.catalogue import Catalogue
from models.taste.learnt.calibrated import LEADING
from models.taste.lists import authors, diversity, explore
from models.taste.lists.draft import Batch, Draft, by_score
from models.taste.lists.rank import LAYERS
from models.taste.lists.request import ListSettings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

Stage = Callable[[Batch, Draft], Draft]

_HALF = np.float32(np.sqrt(0.5))  # of both vectors: their cosines count one half each


def candidates(catalogue: Catalogue, k: int, settings: ListSettings) -> int:
    """How many items the stages look at."""
    wide = settings.blend or settings.order or settings.diversity != "none"
    wide = wide or _decays(catalogue, settings) or _limits(catalogue, settings)
    return max(k, settings.candidates) if wide else k


def _decays(catalogue: Catalogue, settings: ListSettings) -> bool:
    return catalogue.authors > 0 and settings.author_decay < 1 and settings.author_floor < 1


def _limits(catalogue: Catalogue, settings: ListSettings) -> bool:
    return catalogue.authors > 0 and settings.author_most > 0


def _decay_on(batch: Batch) -> bool:
    return _decays(batch.catalogue, batch.settings)


def _limit_on(batch: Batch) -> bool:
    return _limits(batch.catalogue, batch.settings)


def _diversity_on(batch: Batch) -> bool:
    return batch.settings.diversity != "none"


def _explore_on(batch: Batch) -> bool:
    return batch.settings.explore_below > 0


def _as_is(batch: Batch, draft: Draft) -> Draft:
    return draft


def _decay_authors(batch: Batch, draft: Draft) -> Draft:
    """Scale each further item of an author, then order anew."""
    factors = authors.decayed(
        _authors_of(batch, draft), draft.scores, batch.settings.author_decay, batch.settings.author_floor
    )
    scores = draft.scores * factors
    return replace(draft, scores=scores, factors=factors).taken(by_score(draft.items, scores))


def _choose_best(batch: Batch, draft: Draft) -> Draft:
    """The first k, within the room that authors have."""
    if not _limit_on(batch):
        return draft if draft.items.shape[1] == batch.k else draft.first(batch.k)
    aim = diversity.Best(draft.items.shape)
    return draft.taken(diversity.choose(aim, draft.items >= 0, _room(batch, draft), batch.k))


def _choose_diverse(batch: Batch, draft: Draft) -> Draft:
    """k that are more than the best ones, within the room that authors have."""
    settings, held = batch.settings, draft.items >= 0
    relevant = _relevance(batch, draft)
    aim: diversity.Aim
    if settings.diversity == "calibration":
        topics = batch.catalogue.mixtures(draft.items)
        wanted = _wanted_topics(batch)
        aim = diversity.Calibrated(relevant, topics, wanted, settings.calibration)
    else:
        vectors = _unlike(batch, draft)
        if settings.diversity == "mmr":
            aim = diversity.Mmr(relevant, vectors, settings.theta)
        elif settings.diversity in ("spread", "expected"):
            aim = diversity.Spread(relevant, vectors, settings.theta)
        else:
            aim = diversity.Dpp(relevant, vectors, settings.theta, batch.k)
    chosen = diversity.choose(aim, held, _room(batch, draft), batch.k)
    return draft.taken(diversity.in_order(chosen))


def _relevance(batch: Batch, draft: Draft) -> F64:
    """(B, M) of the candidates. Only learnt scores are log-odds, and a list may have gone on without them. What leads
    by a setting keeps its lead, and says nothing of the chances of the others; an ordering learns what leads."""
    held = draft.items >= 0
    if batch.settings.diversity != "expected" or draft.parts is None:
        return diversity.relevance(draft.scores, held)
    names = (*LAYERS, *batch.scored.parts.names)
    if batch.settings.order or LEADING not in names:
        return diversity.expected(draft.scores, held, batch.k)
    leads = draft.parts[..., names.index(LEADING)] > 0
    found = diversity.expected(draft.scores, held & ~leads, batch.k)
    return np.where(leads, 100.0 * draft.scores, found)


def _explore(batch: Batch, draft: Draft) -> Draft:
    """Put an item that few have been shown into its place; the others move down, the last one out."""
    table, settings = batch.table, batch.settings
    size = len(table.items)
    factor = np.float32(table.prepared(batch.now_ms, settings.rank.popularity_power).factor)
    clicks, shown = table.popularity[:size] * factor, table.impressions[:size] * factor
    listable = np.ones(size, np.bool_)  # by anybody: the pool must not depend on who else is in the batch
    listable[batch.barred.everywhere] = False
    pool = explore.pool(clicks, shown, table.newest_at_ms[:size], listable, settings.explore_below)
    allowed = batch.barred.free(pool, len(draft.items)) & ~_listed(draft.items, pool)
    if _limit_on(batch):
        own = batch.catalogue.author[pool]
        allowed &= ~_listed(_authors_of(batch, draft), own) | (own < 0)
    shares = explore.chances(clicks[pool], shown[pool], allowed, settings.ctr0)
    found, chance = explore.pick(shares, batch.requests.draws)
    rows = np.flatnonzero(found >= 0)
    filled = (draft.items[rows] >= 0).sum(axis=1)
    place = np.minimum(min(settings.explore_place, batch.k) - 1, filled)
    columns = np.arange(batch.k)
    shifted = np.broadcast_to(columns, draft.items.shape).copy()
    shifted[rows] = columns - (columns > place[:, None])
    changed = draft.taken(np.where(np.take_along_axis(draft.items, shifted, 1) >= 0, shifted, -1))
    rate = explore.expected(clicks[pool], shown[pool], settings.ctr0)[found[rows]]
    factors = np.ones_like(changed.scores) if changed.factors is None else changed.factors
    explored, propensity = np.zeros_like(changed.scores), np.zeros_like(changed.scores)
    changed.items[rows, place] = pool[found[rows]]
    changed.scores[rows, place] = explored[rows, place] = rate
    factors[rows, place] = 0
    propensity[rows, place] = chance[rows]
    return replace(changed, factors=factors, explored=explored, propensity=propensity)


def _authors_of(batch: Batch, draft: Draft) -> I32:
    found: I32 = batch.catalogue.author[draft.items]  # of -1, whatever the last one's is
    found[draft.items < 0] = -1
    return found


def _room(batch: Batch, draft: Draft) -> authors.Room:
    return authors.Room(_authors_of(batch, draft), batch.settings.author_most)


def _unlike(batch: Batch, draft: Draft) -> F32:
    """Vectors (B, M, D) of the candidates, whose dot products say how alike they are: cosines by readers or by topics,
    or the mean of both cosines; 0 where nothing is known."""
    alike = batch.settings.alike if batch.catalogue.topics_known else "readers"
    by_readers = batch.table.sketches[np.maximum(draft.items, 0)] if alike != "topics" else None
    if by_readers is not None and alike == "readers":
        return by_readers
    topics = batch.catalogue.mixtures(draft.items)
    topics /= np.maximum(np.sqrt((topics * topics).sum(axis=2, keepdims=True)), np.float32(1e-9))
    return topics if by_readers is None else _HALF * np.concatenate([by_readers, topics], axis=2)


def _wanted_topics(batch: Batch) -> F32:
    """Topics (B, T) of the items that each reader had, of equal weight; adding up to 1, or to 0."""
    shares: F32 = batch.catalogue.mixtures(batch.scored.readers.past).sum(axis=1)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.float32(1e-9))
    return shares


def _listed(items: I32, pool: I64 | I32) -> Bools:
    """(B, P) whether each of the pool (P,) is among a row's items (B, N)."""
    found: Bools = (items[:, :, None] == pool).any(axis=1)
    return found


STAGES: tuple[tuple[str, Callable[[Batch], bool], Stage, Stage], ...] = (
    ("authors", _decay_on, _decay_authors, _as_is),
    ("diversity", _diversity_on, _choose_diverse, _choose_best),
    ("explore", _explore_on, _explore, _as_is),
)
