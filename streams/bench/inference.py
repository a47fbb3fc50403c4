"""`headrace bench inference`: the engine beside naive batching, its own cost, the whole way, and decoding.

The networks have the shapes of real ones and random weights: speed does not depend on the weights, and nothing has
to be fetched.
"""

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from streams.bench.cluster import produce, settings_for
from streams.bench.kinds import SHORT
from streams.bench.place import Child, Place, contend
from streams.bench.result import Result, Row, machine, ratio
from streams.bench.texts import NAMES, mixed_feed
from streams.clock import SystemClock
from streams.errors import UserMistake
from streams.events import Media
from streams.feed.records import partition_of
from streams.topology import admin
from streams.topology.topics import UPLOADS, prefixed

PARTITIONS = 4
WITHIN_S = 1800.0
DECODED_S = 120
OVERHEAD_ITEMS = 20_000
KERNEL_S = 5.0  # of each case of a GPU's

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` of the mixed feed; each case runs them `rounds` times, turn by turn."""

    texts: int = 512
    device: str = "cpu"
    threads: int = 1
    rounds: int = 2


def run(place: Place, plan: Plan, say: Say) -> Result:
    """Raises UserMistake for a device that is not there, Fatal when a contender fails."""
    _check_device(plan.device)
    found: dict[str, list[Row]] = {}
    with _checkpoint(plan) as folder:
        told = {"folder": str(folder), "device": plan.device, "threads": plan.threads}
        for dtype in dtypes(plan.device):
            say(
                f"{plan.texts} texts in {dtype}: one at a time, in batches as they arrive, sorted, by the engine"
            )
            options = told | {"dtype": dtype, "task": "sentiment", "rounds": plan.rounds}
            rows = _alone(place, "streams.bench.engine:rows_job", plan.texts, options)["rows"]
            found[dtype] = [row | {"case": f"{row['case']}_{SHORT[dtype]}"} for row in rows]
        say("comments, leads and articles each by itself: one at a time, and by the engine")
        told_kinds = told | {"dtypes": dtypes(plan.device), "task": "sentiment", "rounds": plan.rounds}
        kinds = _alone(place, "streams.bench.kinds:kinds_job", max(64, plan.texts // 4), told_kinds)["rows"]
        say("the engine alone")
        overhead = _alone(place, "streams.bench.engine:overhead_job", OVERHEAD_ITEMS, {})
        say("through broker and agents, and the same texts in an offline loop")
        agents = _agents(place, plan, told)
        say(
            "a GPU's targets"
            if plan.device != "cpu"
            else "a GPU's targets, at a size that says nothing on a CPU"
        )
        told |= {"dtype": "auto", "seconds": 0 if plan.device == "cpu" else KERNEL_S}
        kernels = _alone(place, "streams.bench.kernels:kernels_job", 0, told)["rows"]
        say("decoding")
        decoded = _alone(place, "streams.bench.decode:decode_job", DECODED_S, {})["rows"]
    rows = [*(row for rows in found.values() for row in rows), *kinds, *agents]
    rows += [{"case": "engine_overhead", **overhead}, *kernels, *decoded]
    described = place.described() | {"device": plan.device, "cuda": _cuda()}
    return Result("inference", machine(described), rows, _ratios(rows))


def _cuda() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "not run: no GPU here"


def _check_device(name: str) -> None:
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UserMistake(f"there is no device {name!r}; there are cpu, cuda and cuda:N") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserMistake(f"--device {name}: torch finds no GPU here")


def dtypes(device: str) -> list[str]:
    """fp32, and bf16 where the device computes in it."""
    from models.networks.precision import dtype_name, torch_dtype

    return list(dict.fromkeys(("float32", dtype_name(torch_dtype("auto", device)))))


def _ratios(rows: list[Row]) -> dict[str, float | None]:
    found = {row["case"]: row for row in rows}
    ratios: dict[str, float | None] = {}
    for short in SHORT.values():
        engine = f"engine_{short}"
        # Both against fp32 batches of arrival: what a newsroom runs before.
        ratios[f"vs_arrival_{short}"] = ratio(rows, "texts_per_s", engine, "arrival_batches_fp32")
        ratios[f"vs_one_at_a_time_{short}"] = ratio(rows, "texts_per_s", engine, f"one_at_a_time_{short}")
        ratios[f"engine_vs_offline_{short}"] = ratio(rows, "texts_per_s", engine, f"offline_sorted_{short}")
    ratios["padding"] = found["engine_fp32"]["padding"]
    ratios["agents_vs_offline"] = ratio(rows, "texts_per_s", "agents", "offline_beside_agents")
    # by processor time: what is left to compare where other work shares the machine
    ratios["vs_arrival_fp32_by_cpu"] = ratio(rows, "cpu_ms_per_text", "arrival_batches_fp32", "engine_fp32")
    ratios["vs_arrival_bf16_by_cpu"] = ratio(rows, "cpu_ms_per_text", "arrival_batches_fp32", "engine_bf16")
    for plain in ("plain_faust", "plain_faust_published"):
        ratios[f"agents_vs_{plain}"] = ratio(rows, "texts_per_s", "agents", plain)
        ratios[f"agents_vs_{plain}_by_cpu"] = ratio(rows, "cpu_ms_per_text", plain, "agents")
    for kind in NAMES:
        for short in SHORT.values():
            engine = f"{kind}_engine_{short}"
            for plain in (f"one_at_a_time_{short}", "published"):
                ratios[f"{kind}_{short}_vs_{plain.removesuffix(f'_{short}')}_by_cpu"] = ratio(
                    rows, "cpu_ms_per_text", f"{kind}_{plain}", engine
                )
    ratios["agents_vs_offline_by_cpu"] = ratio(rows, "cpu_ms_per_text", "offline_beside_agents", "agents")
    ratios["decode_least_times_real_time"] = min(
        row["times_real_time"] for row in rows if row["case"].startswith("decode_")
    )
    return ratios


@contextlib.contextmanager
def _checkpoint(plan: Plan) -> Iterator[Path]:
    from models.inference.shapes import write_text_classifier

    shape = "minilm" if plan.device == "cpu" else "distilbert"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        yield write_text_classifier(Path(folder), shape)


def _alone(place: Place, contender: str, clicks: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """One that needs no broker: on both cores."""
    told = {"bootstrap": "", "prefix": "", "clicks": clicks, "options": dict(options)}
    arguments = ["streams.bench.child", contender, msgspec.json.encode(told).decode()]
    with Child(contender, arguments, place.cores.contender | place.cores.broker) as child:
        return child.answer(WITHIN_S)


def _agents(place: Place, plan: Plan, told: Mapping[str, Any]) -> list[Row]:
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    asyncio.run(_produce(place, prefix, plan.texts))
    job = {
        "bootstrap": place.bootstrap,
        "prefix": prefix,
        "clicks": plan.texts,
        "partitions": PARTITIONS,
        "options": {**told, "dtype": "auto", "task": "sentiment"},
    }
    rows: list[Row] = contend(place, "streams.bench.labelling:worker_job", job, WITHIN_S, "agents")["rows"]
    plain = "streams.bench.plain_label:label_job"
    rows.append(contend(place, plain, _told(job, prefix, published=False), WITHIN_S, "plain Faust"))
    other = f"b{uuid.uuid4().hex[:8]}-"  # its offsets are those of its application's name
    asyncio.run(_produce(place, other, plan.texts))
    rows.append(
        contend(place, plain, _told(job, other, published=True), WITHIN_S, "plain Faust, as published")
    )
    return rows


def _told(job: dict[str, Any], prefix: str, *, published: bool) -> dict[str, Any]:
    return {**job, "prefix": prefix, "options": {**job["options"], "published": published}}


async def _produce(place: Place, prefix: str, texts: int) -> None:
    settings = settings_for(place.bootstrap, prefix, PARTITIONS, worker={"agents": ("uploads",)})
    await admin.apply(settings)
    at_ms = SystemClock().wall_ms()
    split: list[tuple[list[bytes], list[bytes]]] = [([], []) for _ in range(PARTITIONS)]
    for number, text in enumerate(mixed_feed(texts, seed=1)):
        asset = f"text-{number}"
        event = Media(asset, asset, at_ms, "text/plain", text=text, language="en")
        keys, values = split[partition_of(asset.encode(), PARTITIONS)]
        keys.append(asset.encode())
        values.append(msgspec.json.encode(event))
    topic = prefixed(prefix, UPLOADS)
    for partition, (keys, values) in enumerate(split):
        await produce(place.bootstrap, topic, partition, keys, values)
