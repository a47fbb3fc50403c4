"""What queries answer: msgspec structs, from which the OpenAPI document is made."""

from msgspec import Struct

from streams.events import Label, Recommended


class Staleness(Struct, frozen=True):
    """How old an answer may be. Of the partition that holds the key; null where nothing was measured yet."""

    partition: int | None
    applied_offset: int | None
    """Next offset of the input after everything that is in this answer and durable."""
    age_s: float | None
    """Age of the last record that was applied, by its own time."""
    lag_records: int | None
    lag_s: float | None
    """0 when nothing waits."""


class ReaderList(Struct, frozen=True):
    """The list that a reader's newest click makes, from the state of this moment."""

    user: str
    at: int
    model: str
    items: list[Recommended]
    staleness: Staleness


class HalfLife(Struct, frozen=True):
    """One vector of a reader's bank, at the time of the reader's newest event."""

    half_life_s: float
    net: float
    """Decayed sum of what spoke for items less what spoke against them."""
    gross: float
    """Decayed sum of both."""
    vector: list[float]
    """Of length 1 or 0: the direction of the reader's taste over this half-life."""


class PastEvent(Struct, frozen=True):
    """One event of a reader's ring, newest first."""

    item: str | None
    """Null for an item that is known by its hash only, until it is seen again."""
    kind: str
    at: int


class ReaderVector(Struct, frozen=True):
    """A reader's state: the vector bank and the last events."""

    user: str
    at: int
    """Time of the newest event, in milliseconds since 1970."""
    fence: int
    """Offset of the last event that was folded in."""
    dim: int
    bank: list[HalfLife]
    events: list[PastEvent]
    staleness: Staleness


class Cause(Struct, frozen=True):
    """What one past event adds to an item's score."""

    item: str | None
    kind: str
    at: int
    score: float


class Explained(Struct, frozen=True):
    """One place of a list: its score and every part of it. The parts add up to the score, to rounding."""

    item: str
    score: float
    layers: dict[str, float]
    causes: list[Cause]
    """Parts of the layer `counts`, largest first."""
    propensity: float | None


class Explanation(Struct, frozen=True):
    """Why a reader's list is as it is."""

    user: str
    at: int
    model: str
    items: list[Explained]
    staleness: Staleness


class Neighbour(Struct, frozen=True):
    """An item that readers go on to. `share` is its part of all that follows, by decayed counts."""

    item: str
    share: float


class Neighbours(Struct, frozen=True):
    """What follows an item, heaviest first."""

    item: str
    popularity: float
    """Relative to the most popular item: from 0 to 1."""
    neighbours: list[Neighbour]
    staleness: Staleness


class AssetLabels(Struct, frozen=True):
    """The newest label of each task for an asset."""

    asset: str
    labels: list[Label]
    staleness: Staleness


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why there is no answer, as RFC 9457 has it."""

    title: str
    status: int
    detail: str
    partition: int | None = None
    """The partition that holds the key, where its owner is not known or not ready."""
