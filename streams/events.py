"""What travels on topics: msgspec structs, one version each, JSON on the wire.

CloudEvents attributes travel in Kafka headers (`ce_id`, `ce_type`, `ce_source`, `ce_time`); bare JSON without
headers is read as the newest version. Fields that an event does not know are ignored, so that a producer
may be newer than a worker. Times are integer milliseconds since 1970 UTC.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

MAX_ID_CHARS = 256
MAX_ID_BYTES = 4 * MAX_ID_CHARS
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
Name = Annotated[str, Meta(max_length=256)]
Milliseconds = Annotated[int, Meta(ge=0, lt=1 << 46)]  # until the year 4199: what the state can hold
Kind = Literal[
    "impression",
    "skip",
    "click",
    "dwell",
    "complete",
    "like",
    "save",
    "share",
    "follow",
    "hide",
    "report",
    "undo",
]
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]

SOURCE = "headrace"
CLICK, MEDIA, ITEM = "media.click.v1", "media.asset.v1", "media.item.v1"
RECOMMENDATION, LABEL = "media.recommendation.v1", "media.label.v1"
PRIVACY, PRIVACY_RECEIPT = "media.privacy.v1", "media.privacy-receipt.v1"
PrivacyKind = Literal["forget", "opt_out", "opt_in"]


class Because(Struct, frozen=True, gc=False):
    """The input record that caused an output."""

    topic: str
    partition: int
    offset: int


class ListWishes(Struct, gc=False):
    """What the list that this click causes must respect. Nothing of it is remembered: not for the next list either.

    `profile` "off": the list says nothing of the reader and is made as for somebody of whom nothing is known.
    """

    exclude: Annotated[list[Id], Meta(max_length=500)] = []
    exclude_authors: Annotated[list[Name], Meta(max_length=100)] = []
    profile: Literal["on", "off"] = "on"


class Click(Struct, gc=False):
    """What a reader did with an item. Topic `clicks`, key = user.

    `author` makes a `hide` or `report` hide all of that author as well, until an `undo` names the author; with other
    kinds it says nothing.
    """

    id: Id
    user: Id
    item: Id
    kind: Kind
    at: Milliseconds
    dwell_s: float | None = None
    source: str | None = None
    context: dict[str, str | int | float | bool | None] | None = None
    wishes: ListWishes | None = None
    author: Name | None = None


class ClaimCheck(Struct, frozen=True):
    """Where a large payload lies, and what it must be."""

    uri: str
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Media(Struct):
    """An asset to be labelled. Topics `audio` and `uploads`, key = asset.

    `payload` is inline bytes (base64 in JSON) or a claim check; a text upload may carry `text` alone.
    """

    id: Id
    asset: Id
    at: Milliseconds
    media_type: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: bytes | ClaimCheck | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    author: str | None = None


class Item(Struct):
    """A catalogue entry. Topic `items`, key = item, compacted: the newest record of an item stands, a null one takes
    the item out of all lists. `published_at` is when the item came out; missing, `at` stands for it."""

    id: Id
    item: Id
    at: Milliseconds
    title: str | None = None
    text: str | None = None
    author: Name | None = None
    topics: list[Name] = []
    available: bool = True
    published_at: Milliseconds | None = None


class Privacy(Struct):
    """What a reader asks for. Topic `privacy`, key = user.

    forget: everything of the reader is removed, and clicks that come in the block period are dropped. opt_out: lists
    without a profile. opt_in: takes back both.
    """

    id: Id
    user: Id
    kind: PrivacyKind
    at: Milliseconds


class PrivacyReceipt(Struct, frozen=True):
    """What was done about a `privacy` event, without a word of whose it was. Topic `privacy-receipts`, key = request.

    `dead_letters` counts those removed; null where the broker cannot remove records, and they stay until their time
    is over.
    """

    id: str
    request: str
    kind: str
    at: int
    partition: int
    had_state: bool
    dead_letters: int | None = None


class Reason(Struct, frozen=True, gc=False, omit_defaults=True):
    """One exact share of an item's score. `because` is the past item for `type` = "after"."""

    type: str
    share: float
    because: str | None = None


class Recommended(Struct, frozen=True, gc=False, omit_defaults=True):
    """One place of a list. `propensity` is the probability with which an explored item was drawn, `team` the arm whose
    list an interleaved item was drafted from; null for others."""

    item: str
    score: float
    reasons: list[Reason]
    propensity: float | None = None
    team: str | None = None


class Recommendation(Struct, frozen=True, gc=False, omit_defaults=True):
    """A reader's newest list. Topic `recommendations`, key = user, compacted. `experiment` and `arm` are left out for a
    reader who is in none; an interleaved list has no arm, its items have teams."""

    id: str
    user: str
    at: int
    model: str
    items: list[Recommended]
    because: Because
    experiment: str | None = None
    arm: str | None = None


class ModelName(Struct, frozen=True):
    """Which weights made a label."""

    name: str
    revision: str
    dtype: str
    sha256: str


class LabelSpan(Struct, frozen=True):
    """A part of the input: seconds of a recording, characters of a text."""

    start: float
    end: float
    value: str
    score: float | None = None


class Label(Struct, frozen=True):
    """What one task found in one asset. Topic `labels`, key = asset.

    `id` depends on the input event, the step and the model's revision alone: a replay writes the same label. `via`: the
    tasks on whose findings this one looked, first to last (`["ocr"]`: at the text in a picture). `timing`: seconds a
    stage, one after the other; those of the device are of whole batches.
    """

    id: str
    asset: str
    task: str
    at: int
    model: ModelName
    value: str | list[dict[str, str | float] | float] | dict[str, str | float] | None
    because: Because
    timing: dict[str, float]
    score: float | None = None
    scores: dict[str, float] = {}
    spans: list[LabelSpan] = []
    detail: dict[str, str | int | float | bool | list[str] | None] = {}
    via: list[str] = []
    author: str | None = None  # the asset's


EVENT_TYPES: dict[str, type[Struct]] = {
    CLICK: Click,
    MEDIA: Media,
    ITEM: Item,
    RECOMMENDATION: Recommendation,
    LABEL: Label,
    PRIVACY: Privacy,
    PRIVACY_RECEIPT: PrivacyReceipt,
}
"""ce_type -> struct: the source of the JSON Schemas."""


def json_schema(ce_type: str) -> dict[str, object]:
    """The JSON Schema of one event type, as committed under docs/schemas."""
    return msgspec.json.schema(EVENT_TYPES[ce_type])
