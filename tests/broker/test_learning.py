"""The learnt blend on a broker: a worker learns from the choices of its readers, shows it, explains it, keeps it."""

import asyncio
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_records import NOW_MS, click
from models.taste.learnt.knowledge import NAMES
from models.taste.lists.ordering import Ordering
from models.taste.readers.past import Past
from running import produce, read_all, running, settings_for, until
from settled import table_settled
from streams.agents.clicks import ClicksAgent
from streams.settings import Settings
from streams.worker.app import Worker


def settings_with(broker: Any, prefix: str, snapshots: Path | None = None, **taste: Any) -> Settings:
    kept = {} if snapshots is None else {"state": {"snapshots": snapshots}}
    return settings_for(broker.bootstrap, prefix, ("clicks", "items"), taste=taste, **kept)


def agent_of(worker: Worker) -> ClicksAgent:
    agent = worker._lines[0].agent
    assert isinstance(agent, ClicksAgent)
    return agent


def learnt_by(worker: Worker) -> bytes:
    return agent_of(worker)._beside.learning.weights.encode()


def ordering_of(worker: Worker) -> Ordering:
    found = agent_of(worker)._beside.learning.ordering
    assert found is not None
    return found


def test_weights_are_learnt_from_choices_and_outlive_the_worker(
    embedded_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_with(
        embedded_broker,
        topic_prefix,
        tmp_path,
        list={"blend": True, "nearest": 0.5},
        blend={"sample": 1.0},
        item_half_life_s=math.inf,
    )
    draw = random.Random(3)

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")._value
            first = learnt_by(worker)
            sent = 0
            for _ in range(12):
                part: list[tuple[bytes | None, bytes | None]] = []
                for reader in range(30):
                    item = f"i{int(40 * draw.random() ** 2)}"
                    value = click(sent, user=f"u{reader}", item=item, at=NOW_MS + 1000 * sent)
                    part.append((f"u{reader}".encode(), value))
                    sent += 1
                await produce(bootstrap, f"{topic_prefix}clicks", part)
                await until(lambda n=sent: applied.get() == n, 20, "the round is applied")
                if sent == 90:
                    await table_settled(worker)
            choices = worker.metrics.blend_choices
            learnt = choices.labels("learnt")._value.get()
            assert learnt > 20 and choices.labels("left_out")._value.get() == 0
            assert learnt_by(worker) != first
            counts = worker.metrics.blend_weight.labels("counts", "share")._value.get()
            assert counts != 1.0
            kept = learnt_by(worker)
        made = [json.loads(r.value) for r in await read_all(bootstrap, f"{topic_prefix}recommendations", 300)]
        shares = [sum(r["share"] for r in one["reasons"]) for m in made for one in m["items"] if one["score"]]
        types = {r["type"] for m in made for one in m["items"] for r in one["reasons"]}
        assert types >= {"after", "popularity", "nearest"}
        assert len(shares) > 1000 and shares == pytest.approx([1.0] * len(shares), abs=5e-3)
        async with running(settings) as worker:
            assert learnt_by(worker) == kept
            alike = agent_of(worker)._beside._alike
            assert alike is not None and (alike.profiles[:30, 4] >= 0).all()  # read back from the rings
        (tmp_path / f"{topic_prefix}blend.weights").write_bytes(b"something else")
        async with running(settings) as worker:
            assert learnt_by(worker) == first

    asyncio.run(main())


def test_the_learnt_order_is_served_explained_and_outlives_the_worker(
    embedded_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_with(
        embedded_broker,
        topic_prefix,
        tmp_path,
        list={"order": True, "own_first": True},
        blend={"sample": 1.0},
        list_size=10,
    )
    draw = random.Random(5)

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")._value
            at = [draw.randrange(40) for _ in range(20)]
            for nth in range(10):
                part: list[tuple[bytes | None, bytes | None]] = []
                for reader in range(20):
                    at[reader] = (at[reader] + draw.choice((0, 1, 1, 1, 7))) % 40
                    value = click(
                        20 * nth + reader, user=f"u{reader}", item=f"i{at[reader]}", at=NOW_MS + 60_000 * nth
                    )
                    part.append((f"u{reader}".encode(), value))
                await produce(bootstrap, f"{topic_prefix}clicks", part)
                await until(lambda n=nth: applied.get() == 20 * (n + 1), 20, "the round is applied")
                if nth == 2:
                    await table_settled(worker)
            choices = ordering_of(worker).choices
            assert choices == worker.metrics.blend_choices.labels("learnt")._value.get() > 15
            kept = ordering_of(worker).encode()
        made = [json.loads(r.value) for r in await read_all(bootstrap, f"{topic_prefix}recommendations", 150)]
        shares = [sum(r["share"] for r in one["reasons"]) for m in made for one in m["items"] if one["score"]]
        types = {r["type"] for m in made for one in m["items"] for r in one["reasons"]}
        assert types >= {"after", "popularity", "steps", "readers", "now", "own", "order"}
        assert len(shares) > 1000 and shares == pytest.approx([1.0] * len(shares), abs=8e-3)
        async with running(settings) as worker:
            assert ordering_of(worker).encode() == kept
            past = Past(-1, np.array([1], np.int32), np.array([NOW_MS]))
            assert ordering_of(worker).known.scores(past, 41)[NAMES.index("next")].any()  # from the rings

    asyncio.run(main())


def test_a_worker_without_the_setting_learns_nothing(embedded_broker: Any, topic_prefix: str) -> None:
    settings = settings_with(embedded_broker, topic_prefix)

    async def main() -> None:
        async with running(settings) as worker:
            records: list[tuple[bytes | None, bytes | None]] = [
                (b"u", click(n, user="u", item=f"i{n}", at=NOW_MS + n)) for n in range(20)
            ]
            await produce(embedded_broker.bootstrap, f"{topic_prefix}clicks", records)
            await until(lambda: worker.metrics.applied.labels("clicks")._value.get() == 20, 20, "applied")
            learning = agent_of(worker)._beside.learning
            assert learning.weights.choices == 0 and learning.bytes_used() == 0

    asyncio.run(main())
