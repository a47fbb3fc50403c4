"""Which benchmarks there are, and what the command line asked of them."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from streams.bench import clicks, delivery, inference, latency, recommend, recovery, scale, speech, transport
from streams.bench.clicks import PARTITIONS
from streams.bench.place import Place, lane_of, running_place
from streams.bench.result import Result
from streams.errors import UserMistake
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sizes; None means each benchmark's own."""

    broker: str | None = None
    clicks: int | None = None
    faust_clicks: int | None = None
    users: int = 50_000
    items: int = 4_000
    seconds: float = 30.0
    rate: float = 1000.0
    repetitions: int = 1
    texts: int | None = None
    device: str = "cpu"
    recordings: Path | None = None
    partitions: int = PARTITIONS
    linger_ms: int = 0


Say = Callable[[str], None]


def _clicks(place: Place, wanted: Wanted, say: Say) -> Result:
    default = clicks.Plan()
    count = wanted.clicks or default.clicks
    plan = clicks.Plan(
        clicks=count,
        users=wanted.users,
        items=wanted.items,
        lists_clicks=min(count, default.lists_clicks),
        faust_clicks=min(count, wanted.faust_clicks or default.faust_clicks),
        repetitions=wanted.repetitions,
    )
    return clicks.run(place, plan, say)


def _transport(place: Place, wanted: Wanted, say: Say) -> Result:
    default = transport.Plan()
    count = wanted.clicks or default.records
    plan = transport.Plan(count, min(count, wanted.faust_clicks or default.faust_records), wanted.repetitions)
    return transport.run(place, plan, say)


def _latency(place: Place, wanted: Wanted, say: Say) -> Result:
    plan = latency.Plan(
        wanted.rate,
        wanted.seconds,
        users=wanted.users,
        items=wanted.items,
        partitions=wanted.partitions,
        linger_ms=wanted.linger_ms,
    )
    return latency.run(place, plan, say)


def _delivery(place: Place, wanted: Wanted, say: Say) -> Result:
    default = delivery.Plan()
    plan = delivery.Plan(
        clicks=wanted.clicks or default.clicks,
        lists_clicks=min(wanted.clicks or default.clicks, default.lists_clicks),
        users=wanted.users,
        items=wanted.items,
        rate_per_s=wanted.rate,
        seconds=wanted.seconds,
        repetitions=wanted.repetitions,
    )
    return delivery.run(place, plan, say)


def _recovery(place: Place, wanted: Wanted, say: Say) -> Result:
    return recovery.run(place, recovery.Plan(readers=2 * wanted.users, repetitions=wanted.repetitions), say)


def _recommend(place: Place, wanted: Wanted, say: Say) -> Result:
    default = recommend.Plan()
    plan = recommend.Plan(
        clicks=min(wanted.clicks or default.clicks, default.clicks),
        users=wanted.users,
        items=wanted.items,
        memory_users=20 * wanted.users,
        rate_per_s=wanted.rate,
        seconds=wanted.seconds,
        repetitions=wanted.repetitions,
    )
    return recommend.run(place, plan, say)


def _inference(place: Place, wanted: Wanted, say: Say) -> Result:
    default = inference.Plan()
    plan = inference.Plan(wanted.texts or default.texts, wanted.device)
    return inference.run(place, plan, say)


def _speech(place: Place, wanted: Wanted, say: Say) -> Result:
    if wanted.recordings is None:
        raise UserMistake("speech needs a folder of it; name one with --recordings")
    return speech.run(place, speech.Plan(wanted.recordings, device=wanted.device), say)


def _scale(place: Place, wanted: Wanted, say: Say) -> Result:
    clicks = wanted.clicks or scale.Plan().clicks
    return scale.run(place, scale.Plan(clicks, wanted.users, wanted.items), say)


BENCHMARKS: dict[str, Callable[[Place, Wanted, Say], Result]] = {
    "transport": _transport,
    "clicks": _clicks,
    "latency": _latency,
    "recommend": _recommend,
    "delivery": _delivery,
    "recovery": _recovery,
    "inference": _inference,
    "speech": _speech,
    "scale": _scale,
}


def run_benchmarks(name: str, wanted: Wanted, settings: Settings, say: Say) -> Iterator[Result]:
    """Run the named one, or all, on one broker. Raises UserMistake, EnvironmentProblem, Fatal."""
    if name != "all" and name not in BENCHMARKS:
        raise UserMistake(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its retries on fresh topics are no news
    with running_place(lane_of(wanted.broker), settings.demo) as place:
        for one in BENCHMARKS if name == "all" else [name]:
            if name == "all" and one == "delivery" and place.lane != "kafka":
                say("delivery is left out: this broker has no transactions (set HEADRACE_KAFKA_LIB)")
                continue
            if name == "all" and one == "speech" and wanted.recordings is None:
                say("speech is left out: it needs a folder of it (--recordings)")
                continue
            yield BENCHMARKS[one](place, wanted, say)
