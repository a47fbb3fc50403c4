"""What the demo shows: numbers gathered from the feed, the outputs and the worker's metrics, and how they look.

The same state gives a live view on a terminal, plain lines elsewhere, and JSON. Knows nothing of brokers or time.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.events import Item, Label, Recommendation
from streams.topology.topics import INPUTS, LABELS, RECOMMENDATIONS

LABELS_SHOWN = 6
LIST_SHOWN = 3
RATE_OVER_S = 5.0
VALUE_CHARACTERS = 60


@dataclass(slots=True)
class _Rate:
    """Records a second over the last few seconds, of a counter that only grows."""

    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, now_s: float, count: int) -> float:
        self.seen.append((now_s, count))
        while now_s - self.seen[0][0] > RATE_OVER_S and len(self.seen) > 2:
            self.seen.popleft()
        since_s, before = self.seen[0]
        return (count - before) / (now_s - since_s) if now_s > since_s else 0.0


class Board:
    """State of the view. `watched`: the readers that are shown."""

    def __init__(self, items: Sequence[Item], watched: Sequence[str]) -> None:
        self._items = {item.item: item for item in items}
        self._watched = list(watched)
        self._lists: dict[str, Recommendation] = {}
        self._labels: deque[Label] = deque(maxlen=LABELS_SHOWN)
        self._rates: dict[str, _Rate] = {}
        self.sent: Mapping[str, int] = dict.fromkeys(INPUTS, 0)
        self.received = {RECOMMENDATIONS: 0, LABELS: 0}
        self.lag: dict[str, int] = {}
        self.dead_letters = 0
        self.ready = False
        self.first_list_s: float | None = None
        self.first_label_s: float | None = None
        self.tastes: Mapping[str, tuple[str, ...]] = {}

    def recommendation(self, event: Recommendation, now_s: float) -> None:
        self.received[RECOMMENDATIONS] += 1
        if self.first_list_s is None and event.items:
            self.first_list_s = now_s
        if event.user in self._watched:
            self._lists[event.user] = event

    def label(self, event: Label, now_s: float) -> None:
        self.received[LABELS] += 1
        self.first_label_s = now_s if self.first_label_s is None else self.first_label_s
        self._labels.append(event)

    def metrics(self, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        """Take lag and dead letters from the worker's page: (name, labels, value)."""
        lag: dict[str, int] = {}
        dead = 0.0
        for name, labels, value in samples:
            if name == "headrace_consumer_lag_records":
                lag[labels["topic"]] = lag.get(labels["topic"], 0) + int(value)
            elif name == "headrace_dead_letters_total":
                dead += value
        self.lag, self.dead_letters = lag, int(dead)

    def snapshot(self, uptime_s: float) -> dict[str, Any]:
        """Everything, for JSON and for the views. Call it once a refresh: rates are taken here."""
        flows = {
            topic: {"records": count, "per_s": round(self._rate(topic, uptime_s, count), 1)}
            for topic, count in {**self.sent, **self.received}.items()
        }
        return {
            "uptime_s": round(uptime_s, 1),
            "ready": self.ready,
            "flows": flows,
            "lag": self.lag,
            "dead_letters": self.dead_letters,
            "first_list_s": _rounded(self.first_list_s),
            "first_label_s": _rounded(self.first_label_s),
            "readers": [self._reader(user) for user in self._watched],
            "labels": [_label(event) for event in reversed(self._labels)],
        }

    def _rate(self, topic: str, now_s: float, count: int) -> float:
        return self._rates.setdefault(topic, _Rate()).at(now_s, count)

    def _reader(self, user: str) -> dict[str, Any]:
        newest = self._lists.get(user)
        places = newest.items[:LIST_SHOWN] if newest else []
        return {
            "user": user,
            "tastes": list(self.tastes.get(user, ())),
            "list": [
                {
                    "item": place.item,
                    "title": self._title(place.item),
                    "topics": self._items[place.item].topics if place.item in self._items else [],
                    "why": self._why(place.reasons),
                }
                for place in places
            ],
        }

    def _title(self, item: str) -> str:
        known = self._items.get(item)
        return known.title if known and known.title else item

    def _why(self, reasons: Sequence[Any]) -> str:
        if not reasons:
            return ""
        most = max(reasons, key=lambda reason: reason.share)
        after = f" “{self._title(most.because)}”" if most.because else ""
        # Shares of the score add up to 1 with those that count against an item: one alone may be above 1.
        speaks_for = sum(reason.share for reason in reasons if reason.share > 0)
        return f"{most.type}{after} {most.share / speaks_for:.0%}" if speaks_for else f"{most.type}{after}"


def _label(event: Label) -> dict[str, Any]:
    return {
        "asset": event.asset,
        "task": event.task,
        "value": value_words(event.value),
        "score": event.score,
        "model": event.model.name,
    }


def value_words(value: Any) -> str:
    """A label's value in a few words: the text, or the names in a list of tags."""
    if isinstance(value, list):
        value = ", ".join(str(next(iter(one.values()), "")) for one in value[:3])
    elif isinstance(value, dict):
        value = ", ".join(f"{name} {score}" for name, score in list(value.items())[:3])
    text = str(value) if value is not None else "(nothing)"
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def live_view(shot: dict[str, Any], where: str) -> RenderableType:
    """The whole view for a terminal."""
    flows = Table(title="records", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("topic", "left"), ("per second", "right"), ("in all", "right"), ("lag", "right")):
        flows.add_column(name, justify=justify)  # type: ignore[arg-type]
    for topic, flow in shot["flows"].items():
        lag = shot["lag"].get(topic)
        flows.add_row(
            topic, f"{flow['per_s']:.1f}", f"{flow['records']:,}", "" if lag is None else f"{lag:,}"
        )
    readers = Table(title="readers", title_justify="left", box=None, pad_edge=False)
    for name in ("reader", "taste now", "latest list", "topic", "why"):
        readers.add_column(name, overflow="ellipsis", no_wrap=True)
    for reader in shot["readers"]:
        first = True
        for place in reader["list"] or [{"title": "(no list yet)", "topics": [], "why": ""}]:
            fits = bool(set(place["topics"]) & set(reader["tastes"]))
            readers.add_row(
                reader["user"] if first else "",
                ", ".join(reader["tastes"]) if first else "",
                place["title"],
                Text(", ".join(place["topics"]), style="green" if fits else ""),
                place["why"],
            )
            first = False
    labels = Table(title="labels", title_justify="left", box=None, pad_edge=False)
    for name in ("asset", "task", "value", "score", "model"):
        labels.add_column(name, overflow="ellipsis", no_wrap=True)
    for label in shot["labels"]:
        labels.add_row(label["asset"], label["task"], label["value"], _score(label), label["model"])
    worker = "worker ready" if shot["ready"] else "worker loading models"
    state = f"{worker} · up {shot['uptime_s']:.0f} s · dead letters {shot['dead_letters']}"
    foot = Text(f"{where} · {state} · Ctrl-C ends it")
    return Group(flows, Text(), readers, Text(), labels, Text(), foot)


def plain_lines(shot: dict[str, Any]) -> list[str]:
    """The same for a log file: a line for the flow, one a reader with a list, one for the newest label."""
    flow = ", ".join(f"{topic} {flow['per_s']:g}/s" for topic, flow in shot["flows"].items())
    lag = ", ".join(f"{topic} {records}" for topic, records in sorted(shot["lag"].items())) or "unknown"
    loading = "" if shot["ready"] else " (loading models)"
    lines = [f"{shot['uptime_s']:.0f} s{loading}: {flow}; lag: {lag}; dead letters: {shot['dead_letters']}"]
    for reader in shot["readers"]:
        if reader["list"]:
            places = "; ".join(
                f"{place['title']} ({', '.join(place['topics'])}: {place['why']})" for place in reader["list"]
            )
            lines.append(f"  {reader['user']} likes {' + '.join(reader['tastes'])} -> {places}")
    lines += [
        f"  {label['asset']}: {label['task']} {label['value']} {_score(label)} ({label['model']})"
        for label in shot["labels"][:1]
    ]
    return lines


def _score(label: dict[str, Any]) -> str:
    return "" if label["score"] is None else f"{label['score']:.2f}"
