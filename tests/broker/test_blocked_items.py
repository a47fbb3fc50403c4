"""What `safety` blocks is in no list: label, then the item's row, then the lists of every worker, also one that starts
later; an upload that passes lifts it again."""

import asyncio
import json
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until

pytestmark = pytest.mark.models
LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
AGENTS = ("clicks", "items", "uploads", "content")


def upload(number: int, asset: str, text: str) -> tuple[bytes, bytes]:
    event = {"id": f"u{number}", "asset": asset, "at": NOW_MS, "media_type": "text/plain", "text": text}
    return asset.encode(), json.dumps(event).encode()


@pytest.mark.parametrize("lane", LANES)
def test_a_blocked_item_is_in_no_list_until_it_passes(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, AGENTS, media={"uploads": ("safety",)})
    sent = 0

    async def listed(worker: Any, user: str, before: int = 0) -> set[str]:
        nonlocal sent
        sent += 1
        await produce(
            bootstrap, f"{topic_prefix}clicks", [(user.encode(), click(sent, user=user, item="start"))]
        )
        applied = worker.metrics.applied.labels("clicks")
        await until(lambda: applied._value.get() == sent - before, 20, "the click is applied")
        log = await read_all(bootstrap, f"{topic_prefix}recommendations", 1)
        newest = max((one for one in log if one.key == user.encode()), key=lambda one: one.offset)
        return {one["item"] for one in json.loads(newest.value)["items"]}

    async def changed(user: str, worker: Any, wanted: set[str], before: int = 0) -> None:
        for n in range(40):  # the row is on its way: one group commit a second
            if (found := await listed(worker, f"{user}{n}", before)) == wanted:
                return
            await asyncio.sleep(0.25)
        raise AssertionError(f"{found}, not {wanted}")

    async def main() -> None:
        nonlocal sent
        async with running(settings, ready_within_s=90) as worker:
            for n, item in enumerate(("bad", "good", "start")):
                sent += 1
                await produce(
                    bootstrap, f"{topic_prefix}clicks", [(b"ada", click(900 + n, user="ada", item=item))]
                )
            await changed("a", worker, {"bad", "good"})
            texts = [
                upload(1, "bad", "I will kill you"),
                upload(2, "good", "A lovely concert, thanks!"),
                upload(3, "new", "Just kill yourself"),
                upload(4, "harmless", "The council met on Monday."),
            ]
            await produce(bootstrap, f"{topic_prefix}uploads", texts)
            await changed("b", worker, {"good"})
            labels = await read_all(bootstrap, f"{topic_prefix}labels", len(texts))
        assert {(one.key, json.loads(one.value)["value"]) for one in labels} == {
            (b"bad", "block"),
            (b"good", "allow"),
            (b"new", "block"),
            (b"harmless", "allow"),
        }
        before = sent
        async with running(settings, ready_within_s=90) as worker:
            assert await listed(worker, "c", before) == {"good"}
            await produce(bootstrap, f"{topic_prefix}uploads", [upload(5, "bad", "I will call you")])
            await changed("d", worker, {"bad", "good"}, before)

    asyncio.run(main())
