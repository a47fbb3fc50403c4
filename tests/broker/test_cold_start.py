"""Cold start on a broker: an upload's vector is in the item table within 2 s of its label, and the upload is listed
before its first click; a new reader's second click has a personal list."""

import asyncio
import json
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from settled import table_settled

WITHIN_S = 2.0
OLD = {
    "goal": "The striker scored twice and the football team won the cup final after extra time.",
    "match": "Our goalkeeper saved a penalty and the football match ended without a winner.",
    "soup": "Chop the onions, add the tomatoes and let the soup simmer with fresh basil.",
    "cake": "Mix butter, sugar and eggs, then bake the chocolate cake for forty minutes.",
}
FRESH = "The football coach praised the striker who scored the winning goal in the cup match."


def upload(asset: str, text: str, author: str | None = None) -> tuple[bytes, bytes]:
    event = {"id": f"u-{asset}", "asset": asset, "at": NOW_MS, "media_type": "text/plain", "text": text}
    return asset.encode(), json.dumps(event | ({"author": author} if author else {})).encode()


@pytest.mark.models
def test_an_upload_is_listed_before_its_first_click(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    agents = ("clicks", "items", "uploads", "content")
    settings = settings_for(
        bootstrap,
        topic_prefix,
        agents,
        media={"uploads": ("sentiment", "embed")},
        taste={"list": {"popularity": 0.0, "taste": 1.0}},
    )

    async def main() -> None:
        async with running(settings, ready_within_s=90) as worker:
            contents = worker.metrics.contents
            await produce(
                bootstrap, f"{topic_prefix}uploads", [upload(name, text) for name, text in OLD.items()]
            )
            await until(lambda: contents._value.get() == len(OLD), 30, "vectors are in the table")
            first = await _listed(bootstrap, topic_prefix, worker, 1, "ada", "goal")
            assert first[0] == "match" and set(first) == {"match", "soup", "cake"}
            mine = upload("mine", "A football match in which I scored a goal.", author="ada")
            await produce(bootstrap, f"{topic_prefix}uploads", [upload("fresh", FRESH, "zoe"), mine])
            await until(lambda: contents._value.get() == len(OLD) + 2, 30, "the new ones are there")
            second = await _listed(bootstrap, topic_prefix, worker, 2, "ada", "match")
            assert second[0] == "fresh" and "mine" not in second
            log = await read_all(bootstrap, f"{topic_prefix}recommendations", 1)
            places = json.loads(max((r for r in log if r.key == b"ada"), key=lambda r: r.offset).value)[
                "items"
            ]
            assert max(places[0]["reasons"], key=lambda one: float(one["share"]))["type"] in (
                "content",
                "taste",
            )
            assert "content" in {one["type"] for one in places[0]["reasons"]}
            await _told_by_other_labels(bootstrap, topic_prefix, worker)
            assert "mine" in await _listed(bootstrap, topic_prefix, worker, 3, "bob", "goal")
        labels = await read_all(bootstrap, f"{topic_prefix}labels")
        labelled = {r.key: r.timestamp for r in labels if b'"embed"' in r.value}  # when the broker took it
        table = await read_all(bootstrap, f"{topic_prefix}item-table")
        known: dict[bytes, int] = {}
        for record in table:
            known[record.key] = min(known.get(record.key, record.timestamp), record.timestamp)
        labelled = {key: at for key, at in labelled.items() if key in known}  # not those that are no vectors
        assert len(labelled) == len(OLD) + 2
        late_s = {key: (known[key] - at) / 1000 for key, at in labelled.items()}
        assert max(late_s.values()) <= WITHIN_S, late_s

    asyncio.run(main())


async def _told_by_other_labels(bootstrap: str, prefix: str, worker: Any) -> None:
    """A transcript becomes a vector too; what cannot become one is counted, and nobody waits for it."""

    def label(asset: str, task: str, value: Any) -> tuple[bytes, bytes]:
        made = {
            "id": f"l-{asset}",
            "asset": asset,
            "task": task,
            "at": NOW_MS,
            "model": {"name": "m", "revision": "1", "dtype": "float32", "sha256": "0" * 64},
            "value": value,
            "because": {"topic": "audio", "partition": 0, "offset": 0},
            "timing": {},
        }
        return asset.encode(), json.dumps(made).encode()

    before, left_out = worker.metrics.contents._value.get(), worker.metrics.contents_left_out
    odd = [label("bad", "embed", [0.0, 0.0]), label("none", "embed", "no numbers"), (b"x", b"{")]
    radio = label("radio", "transcribe", "And now the football: the cup final went to penalties.")
    await produce(bootstrap, f"{prefix}labels", [*odd, label("mood", "sentiment", "positive"), radio])
    await until(lambda: worker.metrics.contents._value.get() == before + 1, 20, "the recording is known")
    for reason, count in (("bad_vector", 2), ("undecodable", 1)):
        of = left_out.labels(reason)._value
        await until(lambda of=of, count=count: of.get() == count, 20, f"{count} of {reason}")


async def _listed(bootstrap: str, prefix: str, worker: Any, sent: int, user: str, item: str) -> list[str]:
    """The list after a click, the `sent`-th of all."""
    await produce(bootstrap, f"{prefix}clicks", [(user.encode(), click(sent, user=user, item=item))])
    applied = worker.metrics.applied.labels("clicks")
    await until(lambda: applied._value.get() == sent, 20, "the click is applied")
    log = await read_all(bootstrap, f"{prefix}recommendations", 1)  # durable, since the click is applied
    newest = max((r for r in log if r.key == user.encode()), key=lambda r: r.offset)
    return [one["item"] for one in json.loads(newest.value)["items"]]


def test_a_new_reader_has_a_personal_list_from_the_second_click_on(
    embedded_broker: Any, topic_prefix: str
) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"))
    pairs = [("a1", "a2"), ("b1", "b2")]

    async def main() -> None:
        async with running(settings) as worker:
            sent = [
                (f"r{n}".encode(), click(2 * n + k, user=f"r{n}", item=pairs[n % 2][k], at=NOW_MS + n))
                for n in range(40)
                for k in (0, 1)
            ]
            await produce(bootstrap, f"{topic_prefix}clicks", sent)
            applied = worker.metrics.applied.labels("clicks")
            await until(lambda: applied._value.get() == 80, 30, "the clicks are applied")
            await table_settled(worker)
            first = await _listed(bootstrap, topic_prefix, worker, 81, "new", "other")
            assert set(first) == {"a1", "a2", "b1", "b2"}
            second = await _listed(bootstrap, topic_prefix, worker, 82, "new", "b1")
            assert second[0] == "b2"
            assert (await _listed(bootstrap, topic_prefix, worker, 83, "newer", "a1"))[
                0
            ] == "a2"  # from the first

    asyncio.run(main())
