"""The networks of a GPU's targets, at their real shapes with random weights: speech, pictures, short texts.

What is measured is the device with its copies: what it is given was decoded before. On a CPU the least of each kind
runs, so that the code is known to; its figures say nothing.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.types import LoadOptions, Payload, Task, Unit
from streams.bench.child import Job
from streams.clock import SystemClock

WINDOW_S, TOKENS = 30.0, 100
SST2_WORDS = (4, 49)  # from and to; 19 on average, as the sentences of SST-2
WHISPERS = {
    "cuda": {"whisper-large-v3-turbo": 64, "whisper-large-v3": 64, "whisper-tiny": 256},
    "cpu": {"whisper-small": 2},
}
TEXTS = {"cuda": ("distilbert", 20_000), "cpu": ("distilbert-small", 64)}
PICTURES = {"cuda": ("vit-base", 4_096), "cpu": ("vit-small", 8)}


async def kernels_job(job: Job) -> dict[str, Any]:
    """`options`: `device`, `dtype`, `threads`."""
    import torch

    options = job.options
    torch.set_num_threads(options["threads"])
    kind = torch.device(options["device"]).type
    rows = [
        _speech(shape, windows, TOKENS if kind == "cuda" else 4, options)
        for shape, windows in WHISPERS[kind].items()
    ]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        rows.append(_pictures(Path(folder), *PICTURES[kind], options))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        rows += _texts(Path(folder), *TEXTS[kind], options)
    return {"rows": rows}


def _speech(shape: str, windows: int, tokens: int, options: dict[str, Any]) -> dict[str, Any]:
    """Windows of 30 s, each decoded to so many tokens: the end is never chosen."""
    import torch

    from models.inference.compiles import compiles
    from models.inference.devices import recorder_on
    from models.inference.shapes import WHISPER_SHAPES, random_whisper
    from models.inference.static_steps import StaticSteps
    from models.networks.greedy import Encoded, GreedyDecoder, Rules
    from models.networks.precision import dtype_name, torch_dtype

    device, dtype = options["device"], torch_dtype(options["dtype"], options["device"])
    net, sizes = random_whisper(shape, device, dtype), WHISPER_SHAPES[shape]
    mel = np.random.default_rng(1).standard_normal((windows, sizes.mels, 2 * sizes.positions), np.float32)
    frames: Any = torch.full((windows,), 2 * sizes.positions)
    rules = Rules(end=0, no_speech=1, never=(0,), never_first=())
    spent = {"copy": 0.0, "encode": 0.0, "decode": 0.0}
    record = recorder_on(device)
    steps = None if record is None else StaticSteps(net, record, (windows,), ())
    if steps is not None:
        with torch.inference_mode():
            steps.warm_up()

    def once() -> None:
        with torch.inference_mode():
            given = _timed(spent, "copy", device, lambda: torch.from_numpy(mel).to(device, dtype))
            states, mask = _timed(spent, "encode", device, lambda: net.encode(given, frames))
            encoded = Encoded(states, mask, torch.full((windows, 2), 2, device=device))
            decoder = GreedyDecoder(net, rules, windows, steps)
            _timed(spent, "decode", device, lambda: decoder.decode(lambda _: encoded, [tokens] * windows))

    once()  # kernels are chosen
    before = compiles()
    seconds, rounds = _repeated(once, spent, options)
    return {
        "case": shape,
        "dtype": dtype_name(dtype),
        "rows": windows,
        "tokens": tokens,
        "times_real_time": round(rounds * windows * WINDOW_S / seconds, 1),
        "replays": 0 if steps is None else steps.replays,
        "captures_after_warm_up": compiles() - before,
        **_shares(spent, seconds),
    }


def _pictures(folder: Path, shape: str, count: int, options: dict[str, Any]) -> dict[str, Any]:
    from models.inference.offline import warm_up
    from models.inference.shapes import write_image_classifier
    from models.registry import task_class

    loaded = LoadOptions(folder, write_image_classifier(folder, shape), options["device"], options["dtype"])
    task = task_class("tag").load(loaded)
    warm_up(task)
    units = list(task.prepare(task.examples()[0]).units) * count
    batches = [units[start : start + task.max_units] for start in range(0, count, task.max_units)]
    return _batches(f"{shape}_pictures", task, batches, options)


def _texts(folder: Path, shape: str, count: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """At the lengths of SST-2, by budget; then eight at a time, where starting a kernel costs most."""
    from models.inference.offline import warm_up
    from models.inference.shapes import write_text_classifier
    from models.registry import task_class

    loaded = LoadOptions(folder, write_text_classifier(folder, shape), options["device"], options["dtype"])
    task = task_class("sentiment").load(loaded)
    warm_up(task)
    random = np.random.default_rng(1)
    lengths = random.integers(*SST2_WORDS, size=count, endpoint=True)
    payloads = [Payload("text/plain", b" ".join([b"good"] * int(n)), "en") for n in sorted(lengths)]
    units = [task.prepare(payload).units[0] for payload in payloads]
    by_budget: list[list[Unit]] = [[]]
    for unit in units:
        full = (
            unit.length * (len(by_budget[-1]) + 1) > task.batch_cost or len(by_budget[-1]) >= task.max_units
        )
        if full:
            by_budget.append([])
        by_budget[-1].append(unit)
    eights = [units[start : start + 8] for start in range(0, min(count, 1024), 8)]
    return [
        _batches(f"{shape}_texts", task, by_budget, options),
        _batches(f"{shape}_eight_texts", task, eights, options),
        _batches(f"{shape}_eight_texts_eager", _without_captures(task), eights, options),
    ]


def _without_captures(task: Task) -> Task:
    from models.inference.captures import Eager

    classifier: Any = task
    classifier._scores = Eager(classifier.classifier.score)
    return task


def _batches(
    case: str, task: Task, batches: Sequence[Sequence[Unit]], options: dict[str, Any]
) -> dict[str, Any]:
    from models.inference.compiles import compiles
    from models.inference.engine import run_batch

    before = compiles()

    def once() -> None:
        for batch in batches:
            run_batch(task, batch)

    once()
    seconds, rounds = _repeated(once, {}, options)
    real = sum(unit.length for batch in batches for unit in batch)
    padded = sum(max(unit.length for unit in batch) * len(batch) for batch in batches)
    return {
        "case": case,
        "dtype": task.model.dtype,
        "rows": max(map(len, batches)),
        "items_per_s": round(rounds * sum(map(len, batches)) / seconds, 1),
        "padding": round(1 - real / padded, 4),
        "captures_after_warm_up": compiles() - before,
    }


def _repeated(
    once: Callable[[], None], spent: dict[str, float], options: dict[str, Any]
) -> tuple[float, int]:
    """Seconds of so many rounds: as many as fill `seconds` of the options, at least one."""
    clock = SystemClock()
    spent.update(dict.fromkeys(spent, 0.0))
    _wait_for(options["device"])
    began_s, rounds = clock.monotonic_s(), 0
    while not rounds or clock.monotonic_s() - began_s < options["seconds"]:
        once()
        rounds += 1
        _wait_for(options["device"])
    return clock.monotonic_s() - began_s, rounds


def _timed(spent: dict[str, float], name: str, device: str, work: Callable[[], Any]) -> Any:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    done = work()
    _wait_for(device)
    spent[name] += clock.monotonic_s() - began_s
    return done


def _shares(spent: dict[str, float], seconds: float) -> dict[str, float]:
    return {f"{name}_share": round(of / seconds, 4) for name, of in spent.items()}


def _wait_for(device: str) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
