"""Which reader sees which variant: a keyed hash, the same on every worker and after every restart. NumPy alone.

An arm is drawn by weighted rendezvous hashing: the reader goes to the arm with the smallest -ln(u) / weight, where u is
a number in (0, 1) made of the salt, the reader and the arm's name alone. That time to the first event of a Poisson
process of rate `weight` makes the shares exact in expectation, and it makes them stable: when an arm's weight grows, or
an arm is added, readers move into that arm and nowhere else.

Experiments stand in an order. A reader takes part in the first that draws them by its `share`, with a hash of its own,
and in no other: so the readers of each are a fair sample of those that are left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Named arms with weights, for a share of the readers."""

    name: str
    salt: str
    arms: tuple[str, ...]
    weights: tuple[float, ...]
    share: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for arms that cannot be drawn."""
        if len(self.arms) < 2:
            raise ValueError("an experiment has two arms or more")
        twice = sorted({name for name in self.arms if self.arms.count(name) > 1})
        if twice:
            raise ValueError(f"arm {twice[0]}: there is another one of this name")
        if len(self.weights) != len(self.arms):
            raise ValueError("each arm has a weight")
        for name, weight in zip(self.arms, self.weights, strict=True):
            if not (weight > 0 and math.isfinite(weight)):  # NaN too
                raise ValueError(f"arm {name}: its weight must be above 0")
        if not 0 < self.share <= 1:
            raise ValueError("the share of readers lies above 0 and up to 1")


def hashes(users: Sequence[str], salt: str) -> U64:
    """(N,) 64-bit hashes of readers' names, keyed by the salt."""
    key = blake2b(salt.encode()).digest()
    digests = b"".join(blake2b(user.encode(), digest_size=8, key=key).digest() for user in users)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def assign(experiment: Experiment, users: Sequence[str]) -> I64:
    """The arm (N,) of each reader, -1 for those who take no part."""
    seeds = hashes(users, experiment.salt)
    arms: I64 = np.stack(
        [
            -np.log(_numbers(seeds, f"arm {name}")) / weight
            for name, weight in zip(experiment.arms, experiment.weights, strict=True)
        ]
    ).argmin(axis=0)
    if experiment.share < 1:
        arms[_numbers(seeds, "share") >= experiment.share] = -1
    return arms


def place(experiments: Sequence[Experiment], users: Sequence[str]) -> tuple[I64, I64]:
    """Experiment and arm (N,) of each reader, both -1 for those who are in none."""
    which, arms = np.full(len(users), -1), np.full(len(users), -1)
    for number, experiment in enumerate(experiments):
        left = np.flatnonzero(which < 0)
        if not len(left):
            break
        found = assign(experiment, [users[place] for place in left.tolist()])
        taken = found >= 0
        which[left[taken]], arms[left[taken]] = number, found[taken]
    return which, arms


def _numbers(seeds: U64, use: str) -> F64:
    """(N,) in (0, 1), another for every use of the same seeds (splitmix64 twice)."""
    base = np.uint64(int.from_bytes(blake2b(use.encode(), digest_size=8).digest(), "little"))
    mixed = _mixed(_mixed(seeds + base) + np.uint64(0x9E3779B97F4A7C15))
    numbers: F64 = ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


def _mixed(z: U64) -> U64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
