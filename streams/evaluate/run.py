"""One evaluation from files to figures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np

from models.errors import WeightsMismatch
from models.evaluate import meters, summary
from models.evaluate.about import About
from models.evaluate.baselines import MAX_KNN_ITEMS
from models.evaluate.listed import ListedSettings
from models.evaluate.prequential import Judge, Run, Scored
from models.evaluate.protocols import FRESHNESS_FROM, PROTOCOLS, TOP, Plan, Protocol, plan
from models.evaluate.ranks import Ties
from models.evaluate.ratings import RatingRow, rating_errors
from models.evaluate.registry import NEEDS, ROWS, Given, build
from models.evaluate.sequential import Retraining
from models.evaluate.served import ServedSettings
from models.experiments.preference import Preference, preference
from models.sequence.folder import Loaded as SequenceFolder
from models.sequence.folder import read as read_model
from models.taste.alike.usercf import MAX_ITEMS, MAX_VALUE
from models.taste.lists.request import ListSettings
from streams.errors import EnvironmentProblem, UserMistake
from streams.evaluate import catalogue
from streams.evaluate.files import Loaded, load

DELAYS: tuple[tuple[str, int | None], ...] = (
    ("click", 0),
    ("1 min", 60_000),
    ("15 min", 900_000),
    ("1 h", 3_600_000),
    ("1 day", 86_400_000),
    ("frozen", None),
)
"""How late what readers share learns an event: name, milliseconds; None never."""

DEFAULT_PROTOCOL = {"movielens": "fives", "yoochoose": "next-click", "jsonl": "all"}
_VECTOR_CELLS = 1 << 27  # of items' vectors for intra-list distance: 512 MB

_OPTIONS = {
    "content": "--catalogue FILE",
    "listed": "--list JSON",
    "sequence": "--model DIR",
    "retraining": "--retrain N",
}

Progress = Callable[[str, int, int], None]
"""What is being done, events done, events in all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line."""

    path: Path
    form: str
    protocol: str | None = None
    new_only: bool = False
    train: Path | None = None
    top: int | None = None
    layers: tuple[str, ...] = ()  # none: all that make sense
    ties: str = "against"
    freshness: bool = False
    seed: int = 7
    limit: int | None = None
    catalogue: Path | None = None
    stages: ListSettings | None = None  # of the row `list`
    interleave: tuple[str, str] | None = None  # two rows
    model: Path | None = None
    against: str | None = None  # a row
    retraining: Retraining | None = None
    asked: bool = False  # the row `list` is made when readers come to choose


@dataclass(frozen=True, slots=True)
class Found:
    """What came out. `by_delay` is empty unless freshness was asked for; its first entry is then `scored`."""

    wanted: Wanted
    protocol: Protocol
    top: int
    loaded: Loaded
    plan: Plan
    scored: Scored
    rows: list[summary.Row]
    by_delay: list[tuple[str, int | None, list[summary.Row]]]
    notes: list[str]
    ratings: list[RatingRow] = field(default_factory=list)  # empty where there are none, or all are alike
    differences: list[summary.Difference] = field(default_factory=list)  # from the row `wanted.against`
    liking: Preference | None = None  # of the first interleaved row over the second


def evaluate(wanted: Wanted, served: ServedSettings, progress: Progress) -> Found:
    """Raises UserMistake for files, protocols and layers that do not go together."""
    protocol = _protocol(wanted)
    loaded = load(wanted.path, wanted.form, protocol == "fives", wanted.train, wanted.limit)
    recording, top = loaded.recording, wanted.top or TOP[protocol]
    share = FRESHNESS_FROM if wanted.freshness else None
    todo = plan(recording, protocol, wanted.new_only, loaded.trained, share)
    if not todo.asked.any():
        raise UserMistake(
            f"{wanted.path}: none of its {len(recording) - loaded.trained} events can be scored by {protocol}"
        )
    names, notes = _layers(wanted, todo, len(recording.item_names))
    _check_interleave(wanted, names)
    _check_against(wanted, names)
    given = replace(_given(wanted, loaded, served, top, notes), repeats=not todo.own_out)
    if given.sequence:
        notes += _leaks(given.sequence, loaded, todo)
    if loaded.trained_later:
        notes.append(f"{loaded.trained_later} events of {wanted.train} are later than the first one scored")
    try:
        layers = build(names, given)
    except ValueError as error:
        raise UserMistake(str(error)) from None
    chosen = recording.positive
    most = max(64, min(1024, _VECTOR_CELLS // max(len(recording.item_names), 1)))
    vectors = meters.unit_vectors(
        recording.users[chosen], recording.items[chosen], len(recording.item_names), wanted.seed, most
    )
    ties: Ties = "half" if wanted.ties == "half" else "against"

    def judge() -> Judge:
        return Judge(layers, names, top, vectors, ties, wanted.interleave, given.topics)

    label = "learning"
    run = Run(recording, todo, layers, lambda done, total: progress(label, done, total))
    if not wanted.freshness:
        scored = run.score(judge())
        table = summary.rows(recording, scored, top, wanted.seed)
        errors = _rating_errors(names, loaded, todo, served, notes, progress)
        liking = None
        if scored.points is not None:
            liking = preference(recording.users[scored.numbers], scored.points, wanted.seed)
        apart = summary.against(recording, scored, top, wanted.against, wanted.seed) if wanted.against else []
        return Found(wanted, protocol, top, loaded, todo, scored, table, [], notes, errors, apart, liking)
    run.advance(int(todo.asked.argmax()))
    by_delay: list[tuple[str, int | None, list[summary.Row]]] = []
    first: Scored | None = None
    for label, delay_ms in DELAYS:
        scored = run.copy().score(judge(), delay_ms)
        first = first or scored
        by_delay.append((label, delay_ms, summary.rows(recording, scored, top, wanted.seed)))
    assert first is not None  # DELAYS is not empty
    return Found(wanted, protocol, top, loaded, todo, first, by_delay[0][2], by_delay, notes)


def _given(wanted: Wanted, loaded: Loaded, served: ServedSettings, top: int, notes: list[str]) -> Given:
    """What layers are made from; files beside the clicks are read, and what is wrong with them is noted."""
    names = loaded.recording.item_names
    given = Given(names, served, retraining=wanted.retraining)
    if wanted.stages:
        given = replace(given, listed=ListedSettings(wanted.stages, top, wanted.asked))
    if wanted.catalogue:
        read = catalogue.read(wanted.catalogue, names)
        if read.bad.count:
            loaded.bad[str(wanted.catalogue)] = read.bad
        if read.found < len(names):
            notes.append(f"{wanted.catalogue.name} says nothing of {len(names) - read.found:,} items")
        topics = catalogue.topic_vectors(read.entries, names)
        given = replace(
            given,
            content=read.vectors,
            topics=topics if topics.any() else None,
            about=About(topics, read.years) if topics.any() or np.isfinite(read.years).any() else None,
        )
        if given.listed:
            given = replace(given, listed=replace(given.listed, entries=read.entries))
    if wanted.model:
        given = replace(given, sequence=_model(wanted.model))
    return given


def _model(folder: Path) -> SequenceFolder:
    try:
        return read_model(folder)
    except WeightsMismatch as error:
        raise EnvironmentProblem(str(error)) from None


def _leaks(model: SequenceFolder, loaded: Loaded, todo: Plan) -> list[str]:
    """What a reader of the table must know of the model's training."""
    data, name = model.manifest.data, model.manifest.revision
    until_ms = data.get("until_ms")
    first_ms = int(loaded.recording.at_ms[todo.asked].min())
    if not isinstance(until_ms, int):
        return [f"{name} does not say what it was trained on"]
    if todo.at_end and data.get("split") != "leave-one-out":
        return [f"{name} was not trained with --split leave-one-out: it may have seen what is scored"]
    if not todo.at_end and until_ms >= first_ms:
        return [f"{name} was trained on events later than the first one scored"]
    return []


def _rating_errors(
    names: tuple[str, ...],
    loaded: Loaded,
    todo: Plan,
    served: ServedSettings,
    notes: list[str],
    progress: Progress,
) -> list[RatingRow]:
    """How far off estimates of ratings are, where the table has a row of a layer that makes some."""
    ratings = loaded.recording.ratings
    if ratings is None or todo.at_end or not {"user-cosine", "user-nearest"} & set(names):
        return []
    if not (ratings.min() > 0 and ratings.max() <= MAX_VALUE):
        notes.append(f"ratings are not estimated: they are not all above 0 and up to {MAX_VALUE:.0f}")
        return []
    if ratings.min() == ratings.max() or len(loaded.recording.item_names) > MAX_ITEMS:
        return []
    return rating_errors(
        loaded.recording,
        todo.asked,
        served.ring,
        served.nearest,
        lambda done, total: progress("ratings", done, total),
    )


def _protocol(wanted: Wanted) -> Protocol:
    name = wanted.protocol or DEFAULT_PROTOCOL.get(wanted.form, "all")
    if name not in PROTOCOLS:
        raise UserMistake(f"--protocol {name}: it is one of {', '.join(PROTOCOLS)}")
    if wanted.new_only and name != "next-click":
        raise UserMistake(
            "--new-only belongs to --protocol next-click: the others take out what was had anyway"
        )
    if wanted.freshness and name == "leave-one-out":
        raise UserMistake("--freshness needs scoring in the order of time, which leave-one-out is not")
    if wanted.ties not in get_args(Ties):
        raise UserMistake(f"--ties {wanted.ties}: it is one of {', '.join(get_args(Ties))}")
    return next(known for known in get_args(Protocol) if known == name)


def _check_interleave(wanted: Wanted, names: tuple[str, ...]) -> None:
    if wanted.interleave is None:
        return
    missing = [row for row in wanted.interleave if row not in names]
    if missing:
        raise UserMistake(f"--interleave {missing[0]}: it is not among the rows {', '.join(names)}")
    if wanted.interleave[0] == wanted.interleave[1]:
        raise UserMistake("--interleave takes two different rows")
    if wanted.freshness:
        raise UserMistake("--interleave and --freshness do not go together")


def _check_against(wanted: Wanted, names: tuple[str, ...]) -> None:
    if wanted.against is None:
        return
    if wanted.against not in names:
        raise UserMistake(f"--against {wanted.against}: it is not among the rows {', '.join(names)}")
    if wanted.freshness:
        raise UserMistake("--against and --freshness do not go together")


def _layers(wanted: Wanted, todo: Plan, items: int) -> tuple[tuple[str, ...], list[str]]:
    """Rows in the order of the table, and what was left out of the default."""
    unknown = sorted(set(wanted.layers) - set(ROWS))
    if unknown:
        raise UserMistake(f"--layers {','.join(unknown)}: they are {', '.join(ROWS)}")
    missing = _missing(wanted)
    lacking = sorted(missing & set(wanted.layers))
    if lacking:
        options = {_OPTIONS[NEEDS[row]] for row in lacking}
        raise UserMistake(f"--layers {','.join(lacking)} needs {' and '.join(sorted(options))}")
    if wanted.layers:
        return tuple(row for row in ROWS if row in wanted.layers), []
    left_out = missing | (
        {"own-first", "own-online"} if todo.own_out else set()
    )  # with own items taken out it is the blend
    notes = []
    for row, most in (("item-knn", MAX_KNN_ITEMS), ("user-cosine", MAX_ITEMS)):
        if items > most:
            left_out.add(row)
            notes.append(f"{row} is left out: {items:,} items are over {most:,}")
    return tuple(row for row in ROWS if row not in left_out), notes


def _missing(wanted: Wanted) -> set[str]:
    """Rows that nothing was given for."""
    given = {
        "content": wanted.catalogue,
        "listed": wanted.stages,
        "sequence": wanted.model,
        "retraining": wanted.retraining,
    }
    missing = {row for row, need in NEEDS.items() if not given[need]}
    if wanted.stages and wanted.stages.diversity == "none":
        missing.add("list-plain")  # it is the list
    return missing
