"""Which layers there are. A row here and a file beside it make a new one; rows of the table appear in this order."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from models.evaluate.baselines import ItemKnn, LastItem, Popularity
from models.evaluate.layer import Layer
from models.evaluate.readers import UserCosine, UserNearest
from models.evaluate.served import Served, ServedSettings


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows that one layer gives, and what makes it for a catalogue."""

    rows: tuple[str, ...]
    make: Callable[[Sequence[str], ServedSettings], Layer]


REGISTRY: tuple[Entry, ...] = (
    Entry(Popularity.rows, lambda names, _: Popularity(len(names))),
    Entry(LastItem.rows, lambda names, _: LastItem(len(names))),
    Entry(ItemKnn.rows, lambda names, _: ItemKnn(len(names))),
    Entry(UserCosine.rows, lambda names, settings: UserCosine(len(names), settings.ring)),
    Entry(UserNearest.rows, lambda names, settings: UserNearest(len(names), settings.ring, settings.nearest)),
    Entry(Served.rows, Served),
)

ROWS: tuple[str, ...] = tuple(row for entry in REGISTRY for row in entry.rows)


def build(wanted: Iterable[str], item_names: Sequence[str], settings: ServedSettings) -> list[Layer]:
    """The layers that give these rows, each once. Raises ValueError where one cannot take so many items."""
    names = set(wanted)
    return [entry.make(item_names, settings) for entry in REGISTRY if names & set(entry.rows)]
