"""Experiments end to end: arms and teams in the recommendations, the same points live and read back from the topics."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from bad_records import click
from running import produce, read_all, running, settings_for, until
from settled import table_settled
from streams.cli.experiment import document, lines
from streams.feed.experiments import read
from streams.topology.topics import CLICKS, RECOMMENDATIONS
from streams.worker.app import Worker

READERS, ROUNDS = 60, 5
EXPERIMENTS = {
    "mixed": {
        "show": "interleaved",
        "share": 0.5,
        "arms": [{"name": "follow"}, {"name": "popular", "list": {"counts": False, "taste": 0.0}}],
    },
    "split": {
        "salt": "again",
        "arms": [{"name": "control", "weight": 3}, {"name": "other", "list": {"diversity": "mmr"}}],
    },
}


@pytest.mark.embedded
def test_arms_and_teams_reach_the_topic_and_clicks_their_arms(
    embedded_broker: object, topic_prefix: str
) -> None:
    bootstrap: str = embedded_broker.bootstrap  # type: ignore[attr-defined]
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        experiments=EXPERIMENTS,
        quality={"sample": 1.0, "time_share": 1.0},
        taste={"list_size": 6},
    )
    rng = np.random.default_rng(2)

    async def main() -> None:
        async with running(settings) as worker:
            sent = 0
            for nth in range(ROUNDS):
                lists = await newest(bootstrap, topic_prefix) if nth > 1 else {}
                chosen = {
                    f"u{reader}": str(rng.choice(lists.get(f"u{reader}") or [f"i{rng.integers(25)}"]))
                    for reader in range(READERS)
                }
                sent += len(chosen)
                await send(bootstrap, topic_prefix, chosen, sent)
                await until(partial(all_applied, worker, sent), 20, "all applied")
                if nth < 2:
                    await table_settled(worker)
            published = await read_all(bootstrap, f"{topic_prefix}recommendations", at_least=READERS)
            values = [json.loads(record.value) for record in published]
            _check_lists(values)

            partitions = {CLICKS: 4, RECOMMENDATIONS: 4}
            for name, one in EXPERIMENTS.items():
                arms = [arm["name"] for arm in one["arms"]]  # type: ignore[index,attr-defined]
                found = await read(settings, name, partitions, 7)
                clicks = worker.metrics.arm_clicks
                live = {arm: clicks.labels(name, arm)._value.get() for arm in arms}
                assert found.clicks == live and sum(live.values()) > 10, name
                assert found.lists == sum(value["experiment"] == name for value in values)
                scored = worker.metrics.arm_scored.labels(name, arms[1])._value.get()
                hits = worker.metrics.arm_hits.labels(name, arms[1])._value.get()
                assert scored > 10 and 0 < hits <= scored
                recall = worker.metrics.arm_recall.labels(name, arms[1])._value.get()
                assert recall == pytest.approx(hits / scored, abs=0.02)
                assert len(lines(found)) >= 3
                shown = document(found)
                assert shown["clicks"] == live and json.dumps(shown, allow_nan=False)
                assert bool(shown["rates"]) == (name == "split")
                assert bool(shown["preference"]) == (name == "mixed")

        options = ["--set", f"kafka.bootstrap={bootstrap}", "--set", f"kafka.topic_prefix={topic_prefix}"]
        return await asyncio.to_thread(_check_command, options)

    asyncio.run(main())


async def send(bootstrap: str, prefix: str, chosen: dict[str, str], first: int) -> None:
    records = [
        (user.encode(), click(first + nth, user=user, item=item))
        for nth, (user, item) in enumerate(chosen.items())
    ]
    await produce(bootstrap, f"{prefix}clicks", list(records))


def all_applied(worker: Worker, sent: int) -> bool:
    return bool(worker.metrics.applied.labels("clicks")._value.get() == sent)


async def newest(bootstrap: str, prefix: str) -> dict[str, list[str]]:
    """Reader -> items of the newest list."""
    published = await read_all(bootstrap, f"{prefix}recommendations", at_least=READERS)
    values = [json.loads(record.value) for record in published]
    return {value["user"]: [item["item"] for item in value["items"]] for value in values}


def _check_lists(values: list[dict[str, Any]]) -> None:
    homes = {(value["user"], value["experiment"], value.get("arm")) for value in values}
    assert len(homes) == READERS  # a reader stays where they are
    counts = Counter((experiment, arm) for _, experiment, arm in homes)
    assert set(counts) == {("mixed", None), ("split", "control"), ("split", "other")}
    assert 15 <= counts["mixed", None] <= 45 and counts["split", "control"] > counts["split", "other"]
    for value in values:
        teams = [item.get("team") for item in value["items"]]
        if value["experiment"] == "mixed":
            assert abs(teams.count("follow") - teams.count("popular")) <= 1
            assert len({item["item"] for item in value["items"]}) == len(teams)
        else:
            assert set(teams) <= {None}


def _check_command(options: list[str]) -> None:
    command = [sys.executable, "-m", "streams", *options, "experiment"]
    done = subprocess.run(
        [*command, "mixed", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["preference"]["of"] == "follow"
    done = subprocess.run([*command, "mixt"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "holds no list of experiment mixt" in done.stderr
    assert "mixed (" in done.stderr
