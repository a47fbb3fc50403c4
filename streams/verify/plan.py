"""What is asked of a run, in which order faults come, and what is reported."""

from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from streams.errors import UserMistake
from streams.verify.judgement import Judgement

KINDS = ("kill", "term", "stop", "clock", "disk", "broker", "network", "partition")
KAFKA_ALONE = ("broker", "network", "partition")
"""The embedded broker keeps its records in memory, has one address for all, and cannot make a topic larger."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    broker: str = "embedded"
    delivery: str = "at_least_once"
    clicks: int = 200_000
    media: int = 2_000
    orders: int = 60
    workers: int = 3
    kills: int = 5
    faults: tuple[str, ...] = KINDS
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What was injected, expected and found."""

    plan: Plan
    faults: list[dict[str, Any]] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        found = self.judgement
        return {
            "seed": self.plan.seed,
            "plan": asdict(self.plan),
            "faults": self.faults,
            "expected": found.expected,
            "found": found.found,
            "differences": len(found.differences),
            "first_differences": found.differences[:20],
            "seconds": round(self.seconds, 1),
        }


def check(plan: Plan) -> None:
    """Raises UserMistake for what the broker cannot do, and for unknown words."""
    unknown = sorted(set(plan.faults) - set(KINDS))
    if unknown:
        raise UserMistake(f"--faults {', '.join(unknown)}: there are {', '.join(KINDS)}")
    if plan.broker not in ("embedded", "kafka"):
        raise UserMistake(f"--broker {plan.broker}: there are kafka and embedded")
    if plan.delivery not in ("at_least_once", "exactly_once"):
        raise UserMistake(f"--delivery {plan.delivery}: there are at_least_once and exactly_once")
    if plan.broker == "embedded" and plan.delivery == "exactly_once":
        raise UserMistake("the embedded broker has no transactions: verify exactly_once with --broker kafka")


def schedule(plan: Plan) -> list[str]:
    """Kinds of faults in the order of their injection; a function of the seed. `kills` kills, of each other kind a
    fifth so many; `partition`, which ends all workers, once and last."""
    few = max(1, plan.kills // 5)
    found: list[str] = []
    for kind in plan.faults:
        if kind == "kill":
            found += ["kill"] * plan.kills
        elif kind != "partition" and (kind not in KAFKA_ALONE or plan.broker == "kafka"):
            found += [kind] * few
    Random(plan.seed).shuffle(found)
    if "partition" in plan.faults and plan.broker == "kafka":
        found.append("partition")
    return found
