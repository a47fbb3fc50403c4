"""Where a partition stands on this worker: what answers to queries say about their age. Plain numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """One owned partition, as of the last commit interval."""

    partition: int
    open: bool  # its state is in memory
    applied_offset: (
        int | None
    )  # after the last record of the finished prefix; None: nothing was finished here yet
    applied_at_ms: int | None  # the time of the last finished record
    lag_records: int | None  # None: not measured yet
    lag_s: float | None
