"""The same model in a plain Faust agent, as its guide shows it: a typed record, one forward a record, one send.

Once as most would write it, by transformers' own call in the format that weights are published in (`published`), and
once by Headrace's code of the network in the format that the engine runs it in, so that only the batches differ.
"""

from pathlib import Path
from typing import Any

import faust

from models.types import LoadOptions, Payload
from streams.bench.child import Job, Stopwatch
from streams.bench.kinds import by_headrace, by_transformers
from streams.bench.plain_faust import app_of, to_the_end
from streams.topology.topics import LABELS, UPLOADS


class Text(faust.Record, serializer="json"):
    """An upload, as far as the agent looks at it."""

    id: str
    asset: str
    at: int
    media_type: str
    text: str
    language: str | None = None


class Labelled(faust.Record, serializer="json"):
    """The small output."""

    asset: str
    value: str
    score: float


async def label_job(job: Job) -> dict[str, Any]:
    """`options`: `task`, `folder`, `dtype`, `device`, `threads`, `published`: by transformers."""
    import torch

    from models.inference.offline import warm_up
    from models.registry import task_class

    options = job.options
    torch.set_num_threads(options["threads"])
    folder = Path(options["folder"])
    if options["published"]:
        by = by_transformers(folder, options["device"])
        by(Payload("text/plain", b"a fine day"))
    else:
        loaded = LoadOptions(Path("unused"), folder, device=options["device"], dtype=options["dtype"])
        task = task_class(options["task"]).load(loaded)
        warm_up(task)
        by = by_headrace(task)
    app, watch, done = app_of(job), Stopwatch(), 0
    topic = f"{job.prefix}{UPLOADS}"
    texts = app.topic(topic, key_type=str, value_type=Text, key_serializer="raw")
    output = app.topic(f"{job.prefix}{LABELS}", key_type=str, value_type=Labelled, key_serializer="raw")

    async def label(stream: Any) -> None:
        nonlocal done
        async for one in stream:
            watch.start()
            value, score = by(Payload(one.media_type, one.text.encode(), one.language))
            await output.send(key=one.asset, value=Labelled(one.asset, value, score))
            done += 1

    app.agent(texts)(label)
    figures = await to_the_end(app, job, watch, lambda: done, topic)
    return {
        "case": "plain_faust_published" if options["published"] else "plain_faust",
        "texts": done,
        "texts_per_s": round(done / figures["seconds"], 2),
        "cpu_ms_per_text": round(figures["cpu_s_per_million"] / 1000, 3),
    }
