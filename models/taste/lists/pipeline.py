"""A list from its readers' rows to its reasons: the order of the stages, each a small function over a batch.

    score -> filter -> candidates -> blend -> authors -> diversity -> explore -> reasons

Every stage can be switched off, and with all of them off the list is exactly the k best. `late` is asked before each
stage that can be left out: where the answer is yes the list goes on without it (without scores: popular items), and the
stage is named in the result. Filters are never left out. Time and randomness are arguments. NumPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.learnt.calibrated import Calibrated, Candidates
from models.taste.lists import stages
from models.taste.lists.barred import Barred, barred_items, barred_pairs
from models.taste.lists.choose import batch_size, best, most_popular
from models.taste.lists.draft import Batch, Draft
from models.taste.lists.ordering import SOURCES, Ordering
from models.taste.lists.own import OWN_FIRST
from models.taste.lists.rank import LAYERS
from models.taste.lists.reasons import Lists, explain, joined
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.rescore import rescored
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows


@dataclass(frozen=True, slots=True)
class Made:
    """Lists and, for each stage that was left out, for how many of them."""

    lists: Lists
    left_out: dict[str, int]
    candidates: tuple[Candidates, ...] = ()  # what a learnt blend chose from; nothing of anonymous readers


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
    most = batch_size(table, settings.rank, further)
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
    wide = stages.candidates(catalogue, k, settings)
    if late():
        left_out["score"] = left_out.get("score", 0) + len(rows)
        found = most_popular(table, rows, now_ms, wide, how, barred)
    else:
        found = best(table, users, rows, now_ms, wide, how, barred, requests.anonymous, further)
    batch = Batch(table, catalogue, requests, found.scored, barred, now_ms, k, settings)
    draft = Draft(found.items, found.scores)
    candidates: list[Candidates] = []
    if learnt is not None and late():
        left_out["blend"] = left_out.get("blend", 0) + len(rows)
    elif learnt is not None:
        draft, chosen_from = rescored(batch, users, draft, learnt)
        candidates.append(chosen_from)
    for name, wanted, stage, without in stages.STAGES:
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
