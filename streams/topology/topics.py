"""The one declared topology: every topic, its key, its partitions and its retention.

Knows nothing of brokers; `streams.topology.admin` compares this table with a cluster and creates what is missing.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "output", "internal", "dead_letter", "retry"]

DAY_MS = 86_400_000
HEAL_MS = 600_000
INPUT_BYTES = 16 << 20
DEAD_LETTER_BYTES = 17 << 20  # a dead letter is the largest input and its reasons

_LARGEST_BYTES: dict[Role, int] = {
    "input": INPUT_BYTES,
    "dead_letter": DEAD_LETTER_BYTES,
    "retry": DEAD_LETTER_BYTES,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One row. `partitions` of None means "as many as the setting says"; `event` is a ce_type or None."""

    name: str
    role: Role
    key: str
    event: str | None
    compacted: bool = False
    retention_ms: int | None = None
    partitions: int | None = None

    @property
    def largest_bytes(self) -> int | None:
        """The largest broker batch it is declared to take; None: what the broker takes by default."""
        return _LARGEST_BYTES.get(self.role)

    def config(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        config = {}
        if self.role != "input":
            # By the broker's clock alone: retention and compaction, and whether a record is taken at all, must not
            # hang on the clock of the worker that wrote it.
            config["message.timestamp.type"] = "LogAppendTime"
        if self.largest_bytes is not None:
            config["max.message.bytes"] = str(self.largest_bytes)
        if self.compacted:
            return config | {
                "cleanup.policy": "compact",
                # A late row of a worker that had lost the partition must not compact the better one away before the
                # owner has noticed and written that again.
                "min.compaction.lag.ms": str(HEAL_MS),
                # A reader who is forgotten must not stay in a segment that nobody rolls for a week.
                "max.compaction.lag.ms": str(DAY_MS),
                "delete.retention.ms": str(DAY_MS),
            }
        return config | {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms or 7 * DAY_MS)}


CLICKS, AUDIO, UPLOADS, ITEMS = "clicks", "audio", "uploads", "items"
RECOMMENDATIONS, LABELS = "recommendations", "labels"
TASTE_CHANGELOG, TRANSITIONS, ITEM_TABLE = "taste-changelog", "transitions", "item-table"
DLQ_PROGRESS = "dlq-progress"
PRIVACY, PRIVACY_RECEIPTS = "privacy", "privacy-receipts"
INPUTS = (CLICKS, AUDIO, UPLOADS, ITEMS, PRIVACY)
RETRIED = (AUDIO, UPLOADS)


def dead_letter(topic: str) -> str:
    """The topic that takes what `topic` could not get processed."""
    return f"{topic}.dlt"


def retry(topic: str) -> str:
    """The topic that holds what of `topic` is to be tried again."""
    return f"{topic}.retry"


TOPOLOGY: tuple[Topic, ...] = (
    Topic(CLICKS, "input", "user", "media.click.v1"),
    Topic(AUDIO, "input", "asset", "media.asset.v1"),
    Topic(UPLOADS, "input", "asset", "media.asset.v1"),
    Topic(ITEMS, "input", "item", "media.item.v1", compacted=True),
    Topic(PRIVACY, "input", "user", "media.privacy.v1"),
    Topic(RECOMMENDATIONS, "output", "user", "media.recommendation.v1", compacted=True),
    Topic(LABELS, "output", "asset", "media.label.v1", retention_ms=30 * DAY_MS),
    Topic(PRIVACY_RECEIPTS, "output", "request", "media.privacy-receipt.v1", retention_ms=365 * DAY_MS),
    Topic(TASTE_CHANGELOG, "internal", "user", None, compacted=True),
    Topic(TRANSITIONS, "internal", "item", None, retention_ms=DAY_MS),
    Topic(ITEM_TABLE, "internal", "item", None, compacted=True),
    Topic(DLQ_PROGRESS, "internal", "dead letters", None, compacted=True),
    *(
        Topic(dead_letter(name), "dead_letter", "as the input", None, retention_ms=30 * DAY_MS)
        for name in INPUTS
    ),
    *(Topic(retry(name), "retry", "as the input", "media.asset.v1") for name in RETRIED),
)


def prefixed(prefix: str, topic: str) -> str:
    """The name on the cluster."""
    return f"{prefix}{topic}"
