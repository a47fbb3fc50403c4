"""Comments, leads and articles each by itself: a batch gains most where a text alone leaves the processor waiting.

Three ways to run one network: as most would write it, by transformers' own call, one text, in the format that weights
are published in; by Headrace's code of it, one text; and by the engine. What a batch saves is what a call costs beside
its tokens: a call of one and one of many texts of 16 tokens tell both, seconds = a x tokens + b.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.types import LoadOptions, Payload, Task
from streams.bench.child import Job, cpu_s
from streams.bench.engine import GROUP, by_engine, serving
from streams.bench.texts import NAMES, texts_of

SHORT = {"float32": "fp32", "bfloat16": "bf16"}
CURVE_TOKENS = 16
CURVE_TEXTS = (1, 64)
CURVE_ROUNDS = 8


Label = Callable[[Payload], tuple[str, float]]


def by_transformers(folder: Path, device: str) -> Label:
    """As its documentation shows it: fp32, one text."""
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    network: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(device)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"), model_input_names=["input_ids", "attention_mask"]
    )

    def label(payload: Payload) -> tuple[str, float]:
        given = tokenizer(payload.data.decode(), truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            scores = network(**given.to(device)).logits.softmax(-1)[0]
        best = int(scores.argmax())
        return str(network.config.id2label[best]), float(scores[best])

    return label


def by_headrace(task: Task) -> Label:
    """Of a loaded task: its own network and number format."""
    from models.inference.engine import run_batch

    def label(payload: Payload) -> tuple[str, float]:
        prepared = task.prepare(payload)
        found = task.finish(prepared, run_batch(task, prepared.units).outputs).findings[0]
        return str(found.value), found.score or 0.0

    return label


async def kinds_job(job: Job) -> dict[str, Any]:
    """`clicks` is the texts of each kind; `options`: `task`, `folder`, `dtypes`, `device`, `threads`, `rounds`."""
    import torch

    from models.registry import task_class

    options = job.options
    torch.set_num_threads(options["threads"])
    folder, rounds = Path(options["folder"]), options["rounds"]
    used: dict[str, list[float]] = {}
    published = by_transformers(folder, options["device"])
    rows: list[dict[str, Any]] = []
    feeds = {
        name: [Payload("text/plain", text.encode(), "en") for text in texts_of(kind, job.clicks, seed=1)]
        for kind, name in enumerate(NAMES)
    }
    for dtype in options["dtypes"]:
        short = SHORT[dtype]
        loaded = LoadOptions(Path("unused"), folder, device=options["device"], dtype=dtype)
        task = task_class(options["task"]).load(loaded)
        alone = by_headrace(task)
        async with serving(options["task"], task, options["threads"]) as service:
            for _ in range(rounds):
                for name, feed in feeds.items():
                    if dtype == options["dtypes"][0]:
                        _note(used, f"{name}_published", _one_by_one(published, feed))
                    _note(used, f"{name}_one_at_a_time_{short}", _one_by_one(alone, feed))
                    before_s = cpu_s()
                    await by_engine(service, options["task"], feed, GROUP)
                    _note(used, f"{name}_engine_{short}", (cpu_s() - before_s) / len(feed))
        rows.append({"case": f"cost_of_a_call_{short}", **_curve(task)})
    texts = [
        {"case": name, "texts": job.clicks, "cpu_ms_per_text": round(min(seconds) * 1000, 3)}
        for name, seconds in used.items()
    ]
    return {"rows": [*texts, *rows]}


def _note(used: dict[str, list[float]], case: str, seconds: float) -> None:
    used.setdefault(case, []).append(seconds)


def _one_by_one(label: Label, feed: Sequence[Payload]) -> float:
    before_s = cpu_s()
    for payload in feed:
        label(payload)
    return (cpu_s() - before_s) / len(feed)


def _curve(task: Task) -> dict[str, float]:
    """The line through a batch of one and one of many texts, each the quickest of some."""
    text = Payload("text/plain", " ".join(["the"] * (CURVE_TOKENS - 2)).encode(), "en")
    unit = task.prepare(text).units[0]
    few, many = (_least(lambda n=n: task.forward([unit] * n)) for n in CURVE_TEXTS)  # type: ignore[misc]
    a = (many - few) / ((CURVE_TEXTS[1] - CURVE_TEXTS[0]) * unit.length)
    return {
        "a_us_per_token": round(a * 1e6, 2),
        "b_ms_per_call": round((few - a * unit.length * CURVE_TEXTS[0]) * 1e3, 3),
    }


def _least(call: Callable[[], object]) -> float:
    import torch

    found = []
    with torch.inference_mode():
        for _ in range(CURVE_ROUNDS):
            before_s = cpu_s()
            call()
            found.append(cpu_s() - before_s)
    return min(found)
