"""A worker serves a trained sequence model, takes a new revision without a restart, and refuses a bad one."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_records import NOW_MS, click
from models.sequence import folder
from models.taste.index import hash_of
from models.train.histories import Histories, cut
from models.train.sequence import Recipe, train_sequence
from running import produce, read_all, running, settings_for, until
from settled import clicks_agent, table_settled
from streams.errors import EnvironmentProblem
from streams.worker.app import Worker

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
ITEMS = [f"i{number}" for number in range(12)]
HASHES = np.array([hash_of(name) for name in ITEMS], np.uint64)


@pytest.fixture(scope="module")
def trained() -> dict[int, dict[str, np.ndarray]]:
    """Weights of readers who go round forwards (1) and backwards (-1), as `headrace train sequence` makes them."""
    found = {}
    for direction in (1, -1):
        users = np.repeat(np.arange(24), 12)
        steps = np.tile(np.arange(12), 24)
        items = ((users + direction * steps) % 12).astype(np.int32)
        order, parts = cut(users, steps, "leave-one-out")
        histories = Histories(items[order], steps[order], np.arange(0, 289, 12), parts)
        recipe = Recipe(rounds=16, patience=16, batch=90, dropout=0.0, kept=0.5)
        done = train_sequence(histories, HASHES, recipe, own_out=False)
        assert done.validation.ndcg > 0.9
        found[direction] = done.tensors
    return found


def clicks(user: str, items: Sequence[int], start: int) -> list[tuple[bytes | None, bytes | None]]:
    return [
        (user.encode(), click(start + i, user=user, item=ITEMS[item], at=NOW_MS + 1_000 * (start + i)))
        for i, item in enumerate(items)
    ]


def revisions(worker: Worker, result: str) -> float:
    return float(worker.metrics.sequence_revisions.labels(result)._value.get())


def new_list(log: Sequence[Any], user: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads([record.value for record in log if record.key == user.encode()][-1])
    return found


def first(made: dict[str, Any]) -> str:
    """The best item; the sequence model must be what puts it there."""
    item = made["items"][0]
    shares = {reason["type"]: reason["share"] for reason in item["reasons"]}
    assert shares["sequence"] > 0.5, item
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    return str(item["item"])


@pytest.mark.parametrize("lane", LANES)
def test_a_revision_is_exchanged_while_it_serves(
    lane: str,
    request: pytest.FixtureRequest,
    topic_prefix: str,
    tmp_path: Path,
    trained: dict[int, dict[str, np.ndarray]],
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    model = tmp_path / "model"
    folder.write(model, "recurrence", trained[1], HASHES, revision="forwards")
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        taste={"sequence": {"folder": str(model), "weight": 20.0, "check_s": 0.1}},
    )
    topic, lists = f"{topic_prefix}clicks", f"{topic_prefix}recommendations"

    async def main() -> None:
        async with running(settings) as worker:
            assert revisions(worker, "loaded") == 1
            crowd = [
                one for user in range(12) for one in clicks(f"c{user}", [user, (user + 6) % 12], 2 * user)
            ]
            await produce(bootstrap, topic, crowd)
            applied = worker.metrics.applied.labels("clicks")._value
            await until(lambda: applied.get() == len(crowd), 20, "the crowd's clicks")
            await table_settled(worker)
            agent = clicks_agent(worker)
            assert int(agent._table.present.sum()) == 12  # all items can be listed

            async def lists_after(user: str, items: list[int], start: int, count: int) -> dict[str, Any]:
                await produce(bootstrap, topic, clicks(user, items, start))
                await until(lambda: applied.get() >= count, 20, "the click")
                return new_list(await read_all(bootstrap, lists, 1), user)

            made = await lists_after("u", [3, 4, 5], 100, 27)
            assert (made["model"], first(made)) == ("taste-v1+forwards", "i6")

            good = (model / "manifest.json").read_text()
            (tmp_path / "broken").write_text(good.replace('"sha256": "', '"sha256": "0'))
            (tmp_path / "broken").replace(
                model / "manifest.json"
            )  # at once: half of it would be refused, too
            await until(lambda: revisions(worker, "refused") == 1, 20, "the broken revision is refused")
            made = await lists_after("u", [6], 110, 28)
            assert (made["model"], first(made)) == ("taste-v1+forwards", "i7")

            # the same reader, whose state came from the old model, and one who is new
            folder.write(model, "recurrence", trained[-1], HASHES, revision="backwards")
            await until(lambda: revisions(worker, "loaded") == 2, 20, "the new revision is loaded")
            made = await lists_after("u", [10], 120, 29)
            assert (made["model"], first(made)) == ("taste-v1+backwards", "i9")
            made = await lists_after("v", [9, 8], 130, 31)
            assert (made["model"], first(made)) == ("taste-v1+backwards", "i7")
            assert revisions(worker, "refused") == 1
            # not a number of the old model is in the state: it is the new one's, from the ring alone
            source = agent._revisions.further[0].source
            rows = agent._state.rows
            partition = int(rows.partition_of[rows.names.index("u")])
            row = rows.rows_of(["u"], partition)
            held = np.array([[3, 4, 5, 6, 10]], np.int32)
            loaded = source.loaded  # type: ignore[attr-defined]
            np.testing.assert_allclose(
                source.states.of(loaded, source._codes, row),  # type: ignore[attr-defined]
                loaded.model.replay(held),
                atol=1e-5,
            )

    asyncio.run(main())


@pytest.mark.embedded
def test_a_worker_does_not_start_with_a_model_that_is_not_whole(
    embedded_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    settings = settings_for(
        embedded_broker.bootstrap,
        topic_prefix,
        ("clicks",),
        taste={"sequence": {"folder": str(tmp_path / "nothing")}},
    )

    async def main() -> None:
        with pytest.raises(AssertionError) as told:
            async with running(settings):
                pass
        assert isinstance(told.value.args[0], EnvironmentProblem)
        assert "taste.sequence.folder" in str(told.value)

    asyncio.run(main())


@pytest.mark.embedded
def test_a_worker_trains_its_own_from_an_empty_folder(
    embedded_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    """Readers go round in a circle; once there are enough choices, what comes next is what a model says."""
    bootstrap = embedded_broker.bootstrap
    sequence = {"folder": str(tmp_path / "model"), "weight": 20.0, "check_s": 0.1, "train_every": 288}
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"), taste={"sequence": sequence})
    topic, lists = f"{topic_prefix}clicks", f"{topic_prefix}recommendations"

    async def main() -> None:
        async with running(settings) as worker:
            assert worker.ready and revisions(worker, "loaded") == 0
            crowd = [
                one
                for user in range(24)
                for one in clicks(f"c{user}", [(user + step) % 12 for step in range(12)], 12 * user)
            ]
            await produce(bootstrap, topic, crowd)
            applied = worker.metrics.applied.labels("clicks")._value
            await until(lambda: applied.get() == len(crowd), 20, "the crowd's clicks")
            await until(lambda: revisions(worker, "loaded") == 1, 120, "a model of these clicks")
            await table_settled(worker)
            await produce(bootstrap, topic, clicks("v", [2, 3, 4], 500))
            await until(lambda: applied.get() == len(crowd) + 3, 20, "the clicks of somebody new")
            made = new_list(await read_all(bootstrap, lists, 1), "v")
            assert first(made) == "i5" and made["model"] != "taste-v1"
            assert worker.metrics.sequence_trainings.labels("failed")._value.get() == 0

    asyncio.run(main())
