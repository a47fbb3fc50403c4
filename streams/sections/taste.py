"""Readers' vectors, their lists, and how both are judged."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from models.taste.actions import weight_table
from streams.sections.base import Count, Seconds, Section, UserPath, by_comma


class Weights(Section):
    """What each kind of event says about taste; from -255 to 255, in steps of 1/256."""

    impression: float = Field(-0.05, description="shown and not acted on")
    skip: float = Field(-0.2, description="left within moments")
    click: float = Field(1.0, description="opened")
    dwell: float = Field(
        2.0, description="most that the time spent can weigh: min(this, ln(1 + seconds / 10))"
    )
    complete: float = Field(2.0, description="read, heard or watched to the end")
    like: float = Field(2.0, description="liked")
    save: float = Field(3.0, description="saved for later")
    share: float = Field(4.0, description="sent to others")
    follow: float = Field(4.0, description="its author or series followed")
    hide: float = Field(-4.0, description="not wanted; bars the item as well")
    report: float = Field(-10.0, description="reported; bars the item as well")

    @model_validator(mode="after")
    def _of_their_sign(self) -> "Weights":
        weight_table(self.model_dump())
        return self


class Listing(Section):
    """How a list is made of scores; every stage can be switched off."""

    profile: Literal["on", "off"] = Field(
        "on", description="`off`: lists of popular items alone, nothing of the reader is looked at"
    )
    counts: bool = Field(True, description="what others went on to after the reader's last items")
    taste: float = Field(0.1, ge=0, le=100, description="weight of the readers' vectors; 0: off")
    content: float = Field(
        0.2, ge=0, le=100, description="weight of what items are about, where uploads have vectors; 0: off"
    )
    nearest: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of what readers alike had (user-user cosine, among this worker's readers); 0: off",
    )
    popularity: float = Field(
        0.1, ge=0, le=100, description="weight of popularity; 0: off, but for readers without a history"
    )
    walk: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of a second step along the counts: finds more, costs time; 0: off",
    )
    blend: bool = Field(
        False,
        description="the `candidates` best are scored anew, with weights learnt from what readers choose "
        "(`taste.blend`)",
    )
    order: bool = Field(
        False,
        description="these and further candidates are ordered anew by all that this worker learns from what readers "
        "choose: finds most, costs milliseconds a list (`taste.blend`)",
    )
    repeat: bool = Field(False, description="may an item that the reader had be listed again")
    own_first: bool = Field(
        False,
        description="the reader's own items lead, the latest first, as a shop's visitors want; implies `repeat`",
    )
    only_catalogued: bool = Field(False, description="list no item of which topic `items` has no entry")
    max_age_s: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="items published longer ago are not listed; 0: no bound"
    )
    blocked_authors: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
        (), description="of whom nobody is shown anything"
    )
    author_decay: float = Field(
        0.5, gt=0, le=1, description="factor on the score of each further item of an author; 1: off"
    )
    author_floor: float = Field(0.25, ge=0, le=1, description="the least that this factor becomes")
    author_most: int = Field(
        0, ge=0, le=10, description="items of one author in ten places of a list; 0: no limit"
    )
    diversity: Literal["none", "mmr", "spread", "expected", "dpp", "calibration"] = Field(
        "none",
        description="how a list is made less alike, or its topics as those of the reader's items; `expected` needs "
        "`blend` or `order`",
    )
    calibration: float = Field(
        0.5, ge=0, le=1, description="weight of the reader's mixture of topics; 0 is relevance alone"
    )
    alike: Literal["readers", "topics", "both"] = Field(
        "readers",
        description="to mmr, spread, expected and dpp: items whose readers came from the same items, of the same "
        "topics, or the mean of both",
    )
    theta: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="of mmr, spread, expected and dpp: near 1 is relevance alone, 0 is difference alone",
    )
    candidates: int = Field(100, ge=1, le=1000, description="how many of the best diversity chooses from")
    explore_below: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="one place for an item shown less often than this; 0: off"
    )
    explore_place: int = Field(10, ge=1, le=200, description="that place, from 1; the last of a shorter list")
    ctr0: float = Field(0.05, gt=0, le=1, description="rate of clicks that a new item is expected to have")
    budget_s: Seconds = Field(
        5.0, description="for the lists of one group; after it stages are left out, last of all scores"
    )

    @model_validator(mode="after")
    def _chances_are_learnt(self) -> "Listing":
        if self.diversity == "expected" and not (self.blend or self.order):
            raise ValueError(
                "diversity = expected trades chances, which only blend = true or order = true learns"
            )
        return self


class Sequence(Section):
    """A trained model of what comes next, as a source of lists."""

    folder: Annotated[UserPath | None, BeforeValidator(lambda given: given or None)] = Field(
        None, description="what `headrace train sequence --out` wrote; empty: no such source"
    )
    weight: float = Field(
        1.0, ge=0, le=100, description="of its scores, 1 for the likeliest item, beside the counts' largest"
    )
    check_s: Seconds = Field(2.0, description="how often the folder is looked at for a new revision")
    train_every: int = Field(
        0,
        ge=0,
        description="positive events after which the worker trains a new one on what its readers did last, in a "
        "process beside it; 0: never. The folder may then be empty at first",
    )
    train_minutes: float = Field(10.0, gt=0, le=1_440, description="the most that one such training takes")
    train_shuffle: float = Field(
        0.0,
        ge=0,
        le=1_000,
        description="by so many places, at most, a reader's events change their order from round to round of it: 32 "
        "where the order is hardly more than chance (ratings), 0 where it tells what comes next (series)",
    )

    @model_validator(mode="after")
    def _trained_somewhere(self) -> "Sequence":
        if self.train_every and self.folder is None:
            raise ValueError("train_every needs a folder to put the models in")
        return self


class Blend(Section):
    """Weights of lists learnt from what readers choose; takes effect where `taste.list.blend` or `order` is on."""

    sample: float = Field(0.1, ge=0, le=1, description="share of lists that are learnt from; 0: none")
    rate: float = Field(0.1, ge=0, le=1, description="the most that a weight of `blend` moves a choice")
    remembered: int = Field(
        2_048,
        ge=1,
        le=1_000_000,
        description="newest lists of the sample that wait for their reader's choice",
    )


class Served(Section):
    """Items that a reader was shown and did not take: not listed again for a time."""

    lists: int = Field(0, ge=0, le=10, description="of so many of the reader's last lists; 0: off")
    for_s: Seconds = Field(3_600.0, description="for so long, by the times of the reader's events")
    by: Literal["lists", "impressions"] = Field(
        "lists",
        description="what counts as shown: what stood in a list, or only what the reader's impressions name "
        "(as many as the lists would hold)",
    )


class Taste(Section):
    """Readers' vectors and lists."""

    dim: int = Field(
        64, ge=64, le=1024, description="of item codes and of each vector in the bank; a multiple of 64"
    )
    half_lives_s: Annotated[tuple[Seconds, ...], BeforeValidator(by_comma)] = Field(
        (60.0, 3600.0, 86400.0, 2592000.0),
        min_length=1,
        max_length=8,
        description="one vector of the bank each: a minute, an hour, a day, a month",
    )
    item_half_life_s: float = Field(
        2_592_000.0,
        ge=0.001,
        description="of what is learnt about items: popularity, what follows what; inf: nothing is forgotten",
    )
    ring: int = Field(64, ge=1, le=64, description="last events kept a reader")
    list_size: int = Field(20, ge=1, le=200, description="items of one recommendation")
    max_items: Count = Field(1_000_000, description="items a worker knows; beyond, new ones count as unknown")
    output: Literal["lists", "touched"] = Field(
        "lists", description="`touched`: a small record a reader, no list"
    )
    transitions: bool = Field(True, description="feed what follows what to the item agent")
    weights: Weights = Weights()
    list: Listing = Listing()
    blend: Blend = Blend()
    served: Served = Served()
    sequence: Sequence = Sequence()
    future_s: Seconds = Field(86_400.0, description="a click further ahead of the broker's clock is refused")

    @field_validator("dim")
    @classmethod
    def _whole_words(cls, dim: int) -> int:
        if dim % 64:
            raise ValueError("dim must be a multiple of 64")
        return dim


class Quality(Section):
    """Meters of the lists on the live clicks: test then learn."""

    sample: float = Field(
        0.1, ge=0, le=1, description="share of clicks that are scored before they are learnt; 0: none"
    )
    top: int = Field(10, ge=1, le=200, description="K of recall, MRR and NDCG at K")
    half_life_events: float = Field(
        10_000.0, gt=0, description="scored clicks after which one weighs half in the means; inf: never less"
    )
    remembered_lists: Count = Field(
        10_000, description="newest lists of readers in experiments, to credit their clicks"
    )
    time_share: float = Field(
        0.02, gt=0, le=1, description="of the time; beyond it clicks of the sample are left out; 1: no bound"
    )
