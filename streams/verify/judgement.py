"""What the oracle is given and what it finds. Shares no code with the worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Place = tuple[int, int]  # partition, offset
Reader = tuple[int, str]  # partition, name
Event = dict[str, Any]


class Record(Protocol):
    """What a plain consumer gives."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(slots=True)
class Found:
    """All records after a run, by topic without prefix, and what the groups have committed."""

    records: Mapping[str, Sequence[Record]]
    committed: Mapping[tuple[str, int], int]  # (input topic, partition)
    ends: Mapping[tuple[str, int], int]
    sent: Mapping[str, Sequence[bytes]]  # values by input topic, in the order in which they were sent


@dataclass(frozen=True, slots=True)
class Rules:
    """What the oracle is told of the settings."""

    exactly_once: bool
    half_lives_s: tuple[float, ...]
    dim: int
    ring: int
    media: bool
    source: tuple[str, bytes]  # a header of every record that was sent
    removes: bool = True  # whether the broker can remove dead letters of readers who were forgotten


@dataclass(slots=True)
class Judgement:
    """Counts of what was expected and found, and every difference in words."""

    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def note(self, what: str, expected: int, found: int) -> None:
        """Two counts that must be equal."""
        self.expected[what], self.found[what] = expected, found
        if expected != found:
            self.differences.append(f"{what}: expected {expected}, found {found}")

    def differ(self, words: str) -> None:
        """A difference."""
        self.differences.append(words)
