"""Readers in arms."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from models.experiments import arms
from streams.sections.base import Section, in_words
from streams.sections.taste import Listing


class Arm(Section):
    """One variant of the lists in an experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="as in metrics and recommendations")
    weight: float = Field(1.0, description="share of readers, relative to the other arms")
    list: dict[str, Any] = Field(default_factory=dict, description="what of `taste.list` is different here")


class Experiment(Section):
    """Readers in arms that get different lists."""

    salt: str = Field("", description="another one draws the readers anew; empty: the experiment's name")
    share: float = Field(1.0, gt=0, le=1, description="of the readers that no earlier experiment has")
    show: Literal["arms", "interleaved"] = Field(
        "arms", description="each reader one arm's lists, or every reader lists of two arms in one"
    )
    arms: tuple[Arm, ...] = Field(max_length=8, description="two or more; of `interleaved` exactly two")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Experiment":
        arms.Experiment(
            "any", self.salt, tuple(a.name for a in self.arms), tuple(a.weight for a in self.arms), self.share
        )
        if self.show == "interleaved" and len(self.arms) != 2:
            raise ValueError("two lists are interleaved, so there are two arms")
        for arm in self.arms:
            _check_list(arm)
        return self


def listings(base: Listing, experiments: Mapping[str, Experiment]) -> list[Listing]:
    """How lists are made in each arm."""
    arms_of = [arm for one in experiments.values() for arm in one.arms]
    return [Listing.model_validate({**base.model_dump(), **arm.list}) for arm in arms_of]


def _check_list(arm: Arm) -> None:
    """Raises ValueError, in one line, for what no list has, and for what is not of one arm alone."""
    for_all = sorted({"profile", "budget_s"} & set(arm.list))
    if for_all:
        raise ValueError(f"arm {arm.name}: {for_all[0]} is for all readers alike")
    try:
        Listing.model_validate(arm.list)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ValueError(f"arm {arm.name}: {in_words(('list', *wrong['loc']), wrong['msg'], None)}") from None
