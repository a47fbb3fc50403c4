"""A worker whose wall clock can be made to jump: `python -m streams.verify.worker FILE --set=NAME=VALUE ...`.

FILE holds milliseconds to add to the machine's time of day; it is read again whenever it has changed. Durations are
left alone, as a jump of the real clock leaves them alone.
"""

import sys
from pathlib import Path

from streams.cli.context import Given
from streams.cli.run import exit_code_of, leave
from streams.clock import SystemClock
from streams.observe.logs import set_up
from streams.worker.run import run_process


class JumpingClock(SystemClock):
    """The machine's clocks, the wall clock moved by what a file says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_ns = -1
        self._ahead_ms = 0

    def wall_ms(self) -> int:
        changed_ns = self._file.stat().st_mtime_ns
        if changed_ns != self._read_ns:
            self._read_ns, self._ahead_ms = changed_ns, int(self._file.read_text())
        return super().wall_ms() + self._ahead_ms


def main() -> None:
    """Raises SystemExit, or what stopped the worker."""
    clock = JumpingClock(Path(sys.argv[1]))
    settings = Given(None, tuple(option.removeprefix("--set=") for option in sys.argv[2:])).settings()
    set_up(settings.log_level, clock, settings.log_format, settings.privacy.mask)
    sys.exit(run_process(settings, clock))


if __name__ == "__main__":
    leave(exit_code_of(main))
