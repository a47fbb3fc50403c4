"""A list from its readers' rows to its reasons: the order of the stages, each a small function over a batch.

    score -> filter -> candidates -> blend -> authors -> diversity -> explore -> reasons

Every stage can be switched off, and with all of them off the list is exactly the k best. `late` is asked before each
stage that can be left out: where the answer is yes the list goes on without it (without scores: popular items), and the
stage is named in the result. Filters are never left out. Time and randomness are arguments. NumPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.taste import authors, diversity, explore, filters
from models.taste.calibrated import LEADING, Calibrated, Candidates
from models.taste.catalogue import Catalogue
from models.taste.choose import Barred, batch_size, best, most_popular
from models.taste.filters import Wishes
from models.taste.ordering import SOURCES, Ordering
from models.taste.own import OWN_FIRST
from models.taste.rank import LAYERS, RankSettings, Scored
from models.taste.reasons import Lists, explain, joined, layers_of
from models.taste.sources import Weighted
from models.taste.table import ItemTable
from models.taste.users import UserRows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_HALF = np.float32(np.sqrt(0.5))  # of both vectors: their cosines count one half each

Diversity = Literal["none", "mmr", "spread", "expected", "dpp", "calibration"]
Alike = Literal["readers", "topics", "both"]


@dataclass(frozen=True, slots=True)
class ListSettings:
    """Which stages a list passes, and how. The default is the k best with author decay."""

    rank: RankSettings = field(default_factory=RankSettings)
    candidates: int = 100  # M: what the stages after the filters look at, where one is on
    author_decay: float = 0.5  # D; 1: none
    author_floor: float = 0.25  # F
    author_most: int = 0  # items of an author in ten places; 0: no limit
    diversity: Diversity = "none"
    theta: float = 0.8  # of mmr, spread, expected and dpp: 1 is relevance alone
    alike: Alike = "readers"  # to these: who came to both items, what both are about, or the mean of the two
    calibration: float = 0.5  # weight of calibration: 0 is relevance alone
    explore_below: float = 0.0  # exposures under which an item may be drawn; 0: no exploration
    explore_place: int = 10  # counted from 1; the last one of a shorter list
    ctr0: float = 0.05  # prior rate of clicks, in (0, 1]
    own_first: bool = (
        False  # what the reader had leads, the latest first; takes effect where `rank.repeat` is on
    )
    max_age_ms: int = 0  # 0: no bound
    blocked_authors: tuple[str, ...] = ()  # for everybody
    only_catalogued: bool = False  # list no item that the catalogue does not describe
    blend: bool = False  # candidates are scored anew by what was learnt, where there is such a thing
    order: bool = False  # the same by everything that was learnt, `models.taste.ordering`


@dataclass(frozen=True, slots=True)
class Requests:
    """Who asks for a list."""

    rows: I32  # (B,) of the readers
    draws: F64  # (B,) in [0, 1), see `models.taste.explore.draws`
    anonymous: Bools | None = None  # (B,) profile off: nothing of these readers is looked at
    wishes: Wishes = field(default_factory=Wishes)

    def part(self, start: int, stop: int) -> "Requests":
        """The requests start..stop."""
        some = self.anonymous[start:stop] if self.anonymous is not None else None
        return Requests(self.rows[start:stop], self.draws[start:stop], some, self.wishes.part(start, stop))


@dataclass(frozen=True, slots=True)
class Made:
    """Lists and, for each stage that was left out, for how many of them."""

    lists: Lists
    left_out: dict[str, int]
    candidates: tuple[Candidates, ...] = ()  # what a learnt blend chose from; nothing of anonymous readers


@dataclass(frozen=True, slots=True)
class _Batch:
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
class _Draft:
    """B rows of candidates in order, -1 padded."""

    items: I32
    scores: F32
    factors: F32 | None = None  # what the stages made of the scores' parts; None: they are as they were
    explored: F32 | None = None  # None: nothing is
    propensity: F32 | None = None  # with `explored`
    parts: F32 | None = None  # (B, N, P) what a learnt blend made of the parts, before the factors

    def taken(self, columns: I64) -> "_Draft":
        """The candidates at `columns` (B, N), -1 none."""
        at, none = np.maximum(columns, 0), columns < 0

        def column(values: F32 | None) -> F32 | None:
            if values is None:
                return None
            found: F32 = np.take_along_axis(values, at, 1)
            found[none] = 0
            return found

        items = np.take_along_axis(self.items, at, 1)
        items[none] = -1
        parts = None if self.parts is None else np.take_along_axis(self.parts, at[..., None], 1)
        if parts is not None:
            parts[none] = 0
        scores = np.take_along_axis(self.scores, at, 1)
        scores[none] = 0
        return _Draft(
            items, scores, column(self.factors), column(self.explored), column(self.propensity), parts
        )


Stage = Callable[[_Batch, _Draft], _Draft]


def lists(
    table: ItemTable,
    catalogue: Catalogue,
    users: UserRows,
    requests: Requests,
    now_ms: int,
    k: int,
    settings: ListSettings,
    late: Callable[[], bool] = lambda: False,
    further: Sequence[Weighted] = (),
    learnt: Calibrated | None = None,
    ordering: Ordering | None = None,
) -> Made:
    """Lists of up to k items. `table`, `catalogue`, `users` and `further` share one ItemIndex; `now_ms` is event time.
    `learnt` weighs the parts where `settings.blend` is on, `ordering` where `settings.order` is.

    Nothing that a reader has had (unless `rank.repeat`), hid, excluded or blocked, nothing unavailable, withheld or too
    old is listed, whatever its source. Large batches are made in parts.
    """
    if settings.own_first:
        further = (*further, OWN_FIRST)
    table.cover()
    catalogue.cover()
    left_out: dict[str, int] = {}
    most = batch_size(table)
    parts: list[Lists] = []
    candidates: list[Candidates] = []
    weights = ordering if settings.order else learnt if settings.blend else None
    for start in range(0, max(len(requests.rows), 1), most):
        part = requests if len(requests.rows) <= most else requests.part(start, start + most)
        made, chosen_from = _part(
            table, catalogue, users, part, now_ms, k, settings, late, left_out, further, weights
        )
        parts.append(made)
        candidates += chosen_from
    return Made(joined(parts), left_out, tuple(candidates))


def _part(
    table: ItemTable,
    catalogue: Catalogue,
    users: UserRows,
    requests: Requests,
    now_ms: int,
    k: int,
    settings: ListSettings,
    late: Callable[[], bool],
    left_out: dict[str, int],
    further: Sequence[Weighted],
    learnt: Calibrated | Ordering | None,
) -> tuple[Lists, list[Candidates]]:
    rows, how = requests.rows, settings.rank
    everywhere = barred_items(table, catalogue, now_ms, settings)
    barred = Barred(everywhere, barred_pairs(catalogue, users, requests, how.repeat))
    wide = _candidates(catalogue, k, settings)
    if late():
        left_out["score"] = left_out.get("score", 0) + len(rows)
        found = most_popular(table, rows, now_ms, wide, how, barred)
    else:
        found = best(table, users, rows, now_ms, wide, how, barred, requests.anonymous, further)
    batch = _Batch(table, catalogue, requests, found.scored, barred, now_ms, k, settings)
    draft = _Draft(found.items, found.scores)
    candidates: list[Candidates] = []
    if learnt is not None and late():
        left_out["blend"] = left_out.get("blend", 0) + len(rows)
    elif learnt is not None:
        blend = (
            _order(batch, users, draft, learnt)
            if isinstance(learnt, Ordering)
            else _blend(batch, draft, learnt)
        )
        draft = blend[0]
        candidates.append(blend[1])
    for name, wanted, stage, without in _STAGES:
        if wanted(batch) and late():
            left_out[name] = left_out.get(name, 0) + len(rows)
            draft = without(batch, draft)
        else:
            draft = stage(batch, draft) if wanted(batch) else without(batch, draft)
    made = explain(table, found.scored, draft.items, draft.scores, now_ms, how, draft.factors, draft.parts)
    sources = made.sources
    if draft.parts is not None and draft.parts.shape[2] > len(LAYERS) + len(sources):
        sources = (*sources, *SOURCES)
    if draft.explored is not None and draft.propensity is not None:
        made = replace(made, explored=draft.explored, propensity=draft.propensity)
    return made if sources is made.sources else replace(made, sources=sources), candidates


def barred_items(table: ItemTable, catalogue: Catalogue, now_ms: int, settings: ListSettings) -> I64 | Bools:
    """Items that nobody is shown: by index, or a mask (I,). Without a catalogue: those that have no row yet."""
    if catalogue.empty and not settings.only_catalogued:
        return table.prepared(now_ms, settings.rank.popularity_power).barred
    size = len(table.items)
    there = catalogue.known[:size]
    if not settings.only_catalogued:
        there = there | table.present[:size]
    barred = ~there | ~catalogue.available[:size] | table.withheld[:size]
    barred |= filters.too_old(catalogue.published_ms[:size], now_ms, settings.max_age_ms)
    if settings.blocked_authors:
        blocked = catalogue.author_ids(settings.blocked_authors)
        barred |= np.isin(catalogue.author[:size], blocked[blocked >= 0])
    return barred


def barred_pairs(catalogue: Catalogue, users: UserRows, requests: Requests, repeat: bool) -> tuple[I64, ...]:
    """What single readers are not shown: pairs (place, item) of their rings, of what they hid and of their
    wishes."""
    items, kinds = users.held(requests.rows)
    if requests.anonymous is not None:
        items[requests.anonymous] = -1
    wishes = requests.wishes
    return (
        filters.had(items, kinds, repeat),
        wishes.excluded,
        filters.of_authors(wishes.blocked, catalogue),
        *filters.hidden(users, requests.rows, catalogue, requests.anonymous),
    )


# -- stages: whether one is on, what it does, what is done without it


def _candidates(catalogue: Catalogue, k: int, settings: ListSettings) -> int:
    """How many items the stages look at."""
    wide = settings.blend or settings.order or settings.diversity != "none"
    wide = wide or _decays(catalogue, settings) or _limits(catalogue, settings)
    return max(k, settings.candidates) if wide else k


def _decays(catalogue: Catalogue, settings: ListSettings) -> bool:
    return catalogue.authors > 0 and settings.author_decay < 1 and settings.author_floor < 1


def _limits(catalogue: Catalogue, settings: ListSettings) -> bool:
    return catalogue.authors > 0 and settings.author_most > 0


def _decay_on(batch: _Batch) -> bool:
    return _decays(batch.catalogue, batch.settings)


def _limit_on(batch: _Batch) -> bool:
    return _limits(batch.catalogue, batch.settings)


def _diversity_on(batch: _Batch) -> bool:
    return batch.settings.diversity != "none"


def _explore_on(batch: _Batch) -> bool:
    return batch.settings.explore_below > 0


def _as_is(batch: _Batch, draft: _Draft) -> _Draft:
    return draft


def _blend(batch: _Batch, draft: _Draft, learnt: Calibrated) -> tuple[_Draft, Candidates]:
    """Score the candidates anew, in the order of their new scores; and what the weights may learn from."""
    how, requests = batch.settings.rank, batch.requests
    parts = layers_of(batch.table, batch.scored, draft.items, batch.now_ms, how)
    names = (*LAYERS, *batch.scored.parts.names)
    weighed = learnt.weigh(names, parts)
    scores: F32 = weighed.sum(axis=2)
    items = draft.items
    personal = np.ones(len(items), np.bool_) if requests.anonymous is None else ~requests.anonymous
    found = Candidates(requests.rows[personal], items[personal], parts[personal], names, learnt)
    return _ordered(replace(draft, scores=scores), weighed), found


def _order(batch: _Batch, users: UserRows, draft: _Draft, learnt: Ordering) -> tuple[_Draft, Candidates]:
    """The same by all that was learnt, with candidates of its own beside these."""
    requests = batch.requests
    proposed = learnt.propose(users, requests.rows, draft.items, batch.barred, requests.anonymous)
    parts = layers_of(batch.table, batch.scored, proposed.items, batch.now_ms, batch.settings.rank)
    names = (*LAYERS, *batch.scored.parts.names)
    personal = np.ones(len(parts), np.bool_) if requests.anonymous is None else ~requests.anonymous
    weighed, found = learnt.weigh(requests.rows, proposed, names, parts, personal)
    scores: F32 = weighed.sum(axis=2)
    return _ordered(_Draft(proposed.items, scores), weighed), found


def _ordered(draft: _Draft, weighed: F32) -> _Draft:
    """In the order of the new scores, made of these parts."""
    order = np.argsort(np.where(draft.items >= 0, -draft.scores, np.inf), axis=1, kind="stable")
    draft = replace(draft, parts=weighed)
    return draft.taken(np.where(np.take_along_axis(draft.items, order, 1) >= 0, order, -1))


def _decay_authors(batch: _Batch, draft: _Draft) -> _Draft:
    """Scale each further item of an author, then order anew."""
    factors = authors.decayed(
        _authors_of(batch, draft), draft.scores, batch.settings.author_decay, batch.settings.author_floor
    )
    scores = draft.scores * factors
    order = np.argsort(np.where(draft.items >= 0, -scores, np.inf), axis=1, kind="stable")
    return replace(draft, scores=scores, factors=factors).taken(
        np.where(np.take_along_axis(draft.items, order, 1) >= 0, order, -1)
    )


def _choose_best(batch: _Batch, draft: _Draft) -> _Draft:
    """The first k, within the room that authors have."""
    if not _limit_on(batch):
        return draft if draft.items.shape[1] == batch.k else draft.taken(_first(draft, batch.k))
    aim = diversity.Best(draft.items.shape)
    return draft.taken(diversity.choose(aim, draft.items >= 0, _room(batch, draft), batch.k))


def _choose_diverse(batch: _Batch, draft: _Draft) -> _Draft:
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


def _relevance(batch: _Batch, draft: _Draft) -> F64:
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


def _explore(batch: _Batch, draft: _Draft) -> _Draft:
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


_STAGES: tuple[tuple[str, Callable[[_Batch], bool], Stage, Stage], ...] = (
    ("authors", _decay_on, _decay_authors, _as_is),
    ("diversity", _diversity_on, _choose_diverse, _choose_best),
    ("explore", _explore_on, _explore, _as_is),
)


def _authors_of(batch: _Batch, draft: _Draft) -> I32:
    return np.where(draft.items >= 0, batch.catalogue.author[np.maximum(draft.items, 0)], np.int32(-1))


def _room(batch: _Batch, draft: _Draft) -> authors.Room:
    return authors.Room(_authors_of(batch, draft), batch.settings.author_most)


def _unlike(batch: _Batch, draft: _Draft) -> F32:
    """Vectors (B, M, D) of the candidates, whose dot products say how alike they are: cosines by readers or by topics,
    or the mean of both cosines; 0 where nothing is known."""
    alike = batch.settings.alike if batch.catalogue.topics_known else "readers"
    by_readers = batch.table.sketches[np.maximum(draft.items, 0)] if alike != "topics" else None
    if by_readers is not None and alike == "readers":
        return by_readers
    topics = batch.catalogue.mixtures(draft.items)
    topics /= np.maximum(np.sqrt((topics * topics).sum(axis=2, keepdims=True)), np.float32(1e-9))
    return topics if by_readers is None else _HALF * np.concatenate([by_readers, topics], axis=2)


def _wanted_topics(batch: _Batch) -> F32:
    """Topics (B, T) of the items that each reader had, of equal weight; adding up to 1, or to 0."""
    shares: F32 = batch.catalogue.mixtures(batch.scored.readers.past).sum(axis=1)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.float32(1e-9))
    return shares


def _first(draft: _Draft, k: int) -> I64:
    return np.where(draft.items[:, :k] >= 0, np.arange(k), -1)


def _listed(items: I32, pool: I64 | I32) -> Bools:
    """(B, P) whether each of the pool (P,) is among a row's items (B, N)."""
    found: Bools = (items[:, :, None] == pool).any(axis=1)
    return found
