"""A contender's process: `python -m streams.bench.child MODULE:FUNCTION JSON` prints one JSON object.

The function is `async (job: Job) -> dict`. Pinning happened before Python started, so NumPy's BLAS sees one core.
"""

import asyncio
import cProfile
import importlib
import json
import logging
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.clock import SystemClock


@dataclass(slots=True)
class Job:
    """What every contender is told."""

    bootstrap: str
    prefix: str
    clicks: int
    partitions: int = 8
    max_poll_records: int = 4000
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        return f"{self.prefix}clicks"

    @property
    def output(self) -> str:
        return f"{self.prefix}recommendations"


class Stopwatch:
    """From the first record read to the last effect durable and committed: wall and processor time."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._wall_s: float | None = None
        self._cpu_s = 0.0

    @property
    def started(self) -> bool:
        return self._wall_s is not None

    def start(self) -> None:
        if self._wall_s is None:
            self._wall_s, self._cpu_s = self._clock.monotonic_s(), cpu_s()

    def figures(self, clicks: int) -> dict[str, Any]:
        """Call it when everything is durable."""
        assert self._wall_s is not None
        wall_s, used_s = self._clock.monotonic_s() - self._wall_s, cpu_s() - self._cpu_s
        return {
            "clicks": clicks,
            "seconds": round(wall_s, 3),
            "clicks_per_s": round(clicks / wall_s),
            "cpu_cores_used": round(used_s / wall_s, 2),
            "cpu_s_per_million": round(used_s / clicks * 1e6, 2),
            "rss_mb": peak_rss_mb(),
        }


def cpu_s() -> float:
    """Processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> float:
    """Largest resident memory of this program (getrusage's would include the launcher's parent)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kib = int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / 1024, 1)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    module, _, function = sys.argv[1].partition(":")
    work = getattr(importlib.import_module(module), function)
    job = Job(**json.loads(sys.argv[2]))
    profile = cProfile.Profile() if "profile" in job.options else None
    if profile is not None:
        profile.enable()
    # Not asyncio.run: at its end it cancels every task, and Faust's supervisors start them again, for ever.
    answer = asyncio.new_event_loop().run_until_complete(work(job))
    if profile is not None:
        profile.disable()
        profile.dump_stats(job.options["profile"])
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # measured and said: a client library's thread must not hold the benchmark up


if __name__ == "__main__":
    main()
