"""Which layers there are. A row here and a file beside it make a new one; rows of the table appear in this order."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate.about import About
from models.evaluate.baselines import ItemKnn, LastItem, Popularity
from models.evaluate.blended import Blended
from models.evaluate.content import Content
from models.evaluate.layer import Layer
from models.evaluate.listed import Listed, ListedSettings
from models.evaluate.readers import UserCosine, UserNearest
from models.evaluate.reranked import Reranked
from models.evaluate.sequential import ONLINE_ROWS, RETRAINED_ROWS, Retraining, Sequential
from models.evaluate.served import Served, ServedSettings
from models.sequence.folder import Loaded

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Given:
    """What layers are made from."""

    item_names: Sequence[str]
    served: ServedSettings
    content: F32 | None = None  # (I, D) unit vectors of items, from a catalogue
    repeats: bool = False  # a reader's own items may be right
    sequence: Loaded | None = None  # a trained model
    retraining: Retraining | None = None
    topics: F32 | None = None  # (I, T) the same of their topics alone
    listed: ListedSettings | None = None
    about: About | None = None  # what a catalogue says of items, for the calibrated blend


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows that one layer gives, and what makes it. `needs` names a field of `Given` without which there is none."""

    rows: tuple[str, ...]
    make: Callable[[Given], Layer]
    needs: str | None = None


def _content(given: Given) -> Layer:
    vectors = np.zeros((len(given.item_names), 1), np.float32) if given.content is None else given.content
    return Content(vectors, given.served.half_lives_s)


def _sequence(given: Given) -> Layer:
    assert given.sequence is not None  # NEEDS says so
    return Sequential(given.item_names, given.served, given.sequence)


def _retrained(given: Given) -> Layer:
    from models.evaluate.retrained import Retrained  # torch

    assert given.retraining is not None
    return Retrained(given.item_names, given.served, given.retraining)


def _retrained_online(given: Given) -> Layer:
    from models.evaluate.retrained import RetrainedOnline  # torch

    assert given.retraining is not None
    return RetrainedOnline(given.item_names, given.served, given.repeats, given.retraining, given.about)


def _listed(given: Given) -> Layer:
    listed = given.listed or ListedSettings()
    training = None
    if given.retraining is not None:
        from models.evaluate.retrained import Training  # torch

        training = Training(given.item_names, given.retraining)
    return Listed(given.item_names, given.served, listed, given.sequence, training)


REGISTRY: tuple[Entry, ...] = (
    Entry(Popularity.rows, lambda given: Popularity(len(given.item_names))),
    Entry(LastItem.rows, lambda given: LastItem(len(given.item_names))),
    Entry(ItemKnn.rows, lambda given: ItemKnn(len(given.item_names))),
    Entry(UserCosine.rows, lambda given: UserCosine(len(given.item_names), given.served.ring)),
    Entry(
        UserNearest.rows,
        lambda given: UserNearest(len(given.item_names), given.served.ring, given.served.nearest),
    ),
    Entry(Content.rows, _content, needs="content"),
    Entry(Served.rows, lambda given: Served(given.item_names, given.served)),
    Entry(Blended.rows, lambda given: Blended(given.item_names, given.served, given.repeats, given.about)),
    Entry(
        Reranked.rows,
        lambda given: Reranked(given.item_names, given.served, given.repeats, about=given.about),
    ),
    Entry(Sequential.rows, _sequence, needs="sequence"),
    Entry(RETRAINED_ROWS, _retrained, needs="retraining"),
    Entry(ONLINE_ROWS, _retrained_online, needs="retraining"),
    Entry(Listed.rows, _listed, needs="listed"),
)

ROWS: tuple[str, ...] = tuple(row for entry in REGISTRY for row in entry.rows)

NEEDS: dict[str, str] = {row: entry.needs for entry in REGISTRY if entry.needs for row in entry.rows}
"""Row -> the field of `Given` that it cannot do without: empty, it lists nothing."""


def build(wanted: Iterable[str], given: Given) -> list[Layer]:
    """The layers that give these rows, each once. Raises ValueError where one cannot take so many items."""
    names = set(wanted)
    return [entry.make(given) for entry in REGISTRY if names & set(entry.rows)]
