"""What events say, as the documents have it: kinds, weights in steps of 1/256. Shares no code with the worker."""

import math

from streams.verify.judgement import Event

KINDS = ["impression", "skip", "click", "dwell", "complete", "like"]
KINDS += ["save", "share", "follow", "hide", "report", "undo"]
WEIGHTS = dict(zip(KINDS, (-0.05, -0.2, 1, 0, 2, 2, 3, 4, 4, -4, -10, 0), strict=True))
POSITIVE = {"click", "dwell", "complete", "like", "save", "share", "follow"}
HIDING = {"hide", "report"}


def kind_of(event: Event) -> int:
    """Its number."""
    return KINDS.index(event["kind"])


def steps_of(event: Event) -> int:
    """The weight in steps of 1/256."""
    return round(weight_of(event) * 256)


def speaks(event: Event) -> bool:
    """Whether the event speaks for its item."""
    return event["kind"] in POSITIVE and steps_of(event) > 0


def weight_of(event: Event) -> float:
    """What an event weighs by default."""
    if event["kind"] == "dwell":
        return min(2.0, math.log1p(event.get("dwell_s", 0.0) / 10))
    return float(WEIGHTS[event["kind"]])
