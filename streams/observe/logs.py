"""Log set-up: one line an event, and no flood from clients that retry (they print about 20 lines a second
while a broker is down)."""

import asyncio
import json
import logging
import re
import sys
from datetime import datetime, timezone
from typing import Literal

from streams.clock import Clock
from streams.secrecy.masking import masked

QUIET_S = 30.0
NOISY = ("aiokafka", "faust", "mode")


_NUMBERS = re.compile(r"\d+")


class RateLimit(logging.Filter):
    """Lets the same message (logger and template, whatever its numbers) through once in a while, and says how
    many it held back."""

    def __init__(self, clock: Clock, quiet_s: float = QUIET_S, remembered: int = 512) -> None:
        super().__init__()
        self._clock = clock
        self._quiet_s = quiet_s
        self._remembered = remembered
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, _NUMBERS.sub("#", str(record.msg)))  # some format before they log
        now_s = self._clock.monotonic_s()
        last_s, held = self._seen.get(key, (-self._quiet_s, 0))
        if now_s - last_s < self._quiet_s:
            self._seen[key] = (last_s, held + 1)
            return False
        if held:
            record.msg = f"{record.msg} (and {held} more like it)"
        if len(self._seen) >= self._remembered:
            self._seen.clear()
        self._seen[key] = (now_s, 0)
        return True


class ClientInALine(logging.Filter):
    """What the Kafka client met, in a line: its stack says nothing to whoever reads our log. So with work that was
    called off: Faust takes that for a crash, but it was told to stop. After `RateLimit`, which knows messages by their
    templates."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (
            isinstance(error, asyncio.CancelledError) or _of_client(record.name, error)
        ):
            record.msg, record.args = f"{record.getMessage().partition(chr(10))[0]}: {error!r}", ()
            record.exc_info = record.exc_text = None
        return True


def _of_client(logger: str, error: BaseException) -> bool:
    """Of aiokafka's own, or raised in a task of its that nobody waits for any more."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return logger.startswith("aiokafka") or (logger == "asyncio" and raised_in.startswith("aiokafka"))


FIELDS = ("agent", "topic", "partition", "offset", "reason", "trace_id")
"""What `extra` of a log call may hold, and a JSON line shows."""


class JsonLines(logging.Formatter):
    """One JSON object a line; control characters are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Masked(logging.Filter):
    """E-mail addresses, telephone and card numbers are taken out of what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        hidden = masked(said)
        if hidden != said:
            record.msg, record.args = hidden, ()
        return True


def set_up(level: str, clock: Clock, form: Literal["text", "json"] = "text", mask: bool = True) -> None:
    """Log to standard error. Libraries below us speak from WARNING on, rate-limited."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    handler.addFilter(RateLimit(clock))
    handler.addFilter(ClientInALine())
    if mask:
        handler.addFilter(Masked())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
