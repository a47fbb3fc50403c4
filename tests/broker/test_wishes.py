"""What single readers are to be spared, on a broker: own uploads, wishes of a click, what is hidden until an undo."""

import asyncio
import json
from typing import Any

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until


def test_lists_respect_what_a_click_wishes_and_forget_it(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"), taste={"list_size": 200, "ring": 4})

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            sent = 0

            async def listed(user: str, item: str, kind: str = "click", **more: Any) -> dict[str, Any]:
                """The list that this click causes."""
                nonlocal sent
                value = click(sent, user=user, item=item, kind=kind, at=NOW_MS + sent, **more)
                await produce(bootstrap, f"{topic_prefix}clicks", [(user.encode(), value)])
                sent += 1
                await until(lambda: applied._value.get() == sent, 20, "the click is applied")
                log = await read_all(bootstrap, f"{topic_prefix}recommendations", sent)
                newest = max((r for r in log if r.key == user.encode()), key=lambda r: r.offset)
                made: dict[str, Any] = json.loads(newest.value)
                return made

            def items(made: dict[str, Any]) -> set[str]:
                return {one["item"] for one in made["items"]}

            for n in range(8):
                await listed("crowd", f"i{n}")
            entries: list[tuple[bytes | None, bytes | None]] = []
            for n in range(8):
                author = "ada" if n == 1 else "zoe" if n in (2, 3) else None
                entry = {"id": "x", "item": f"i{n}", "at": NOW_MS, "author": author}
                entries.append((f"i{n}".encode(), json.dumps(entry).encode()))
            await produce(bootstrap, f"{topic_prefix}items", entries)
            await until(lambda: worker.metrics.catalogue_items._value.get() == 8, 20, "catalogue read")
            everything = {f"i{n}" for n in range(8)}

            assert items(await listed("bob", "i0")) == everything - {"i0"}
            assert items(await listed("ada", "i0")) == everything - {"i0", "i1"}  # her own
            wishes = {"exclude": ["i4", "never-met"], "exclude_authors": ["zoe", "nobody"]}
            assert items(await listed("bob", "i5", wishes=wishes)) == {"i1", "i6", "i7"}
            assert items(await listed("bob", "i5")) == everything - {"i0", "i5"}  # forgotten
            off = await listed("bob", "i6", wishes={"profile": "off", "exclude": ["i7"]})
            assert items(off) == everything - {"i7"}  # what bob had is not looked at
            assert {r["type"] for one in off["items"] for r in one["reasons"]} <= {"popularity"}
            assert "i1" not in items(await listed("bob", "i1", "hide"))
            assert "i1" in items(await listed("bob", "i1", "undo"))
            undos = worker.metrics.undone
            assert undos.labels("taken_back")._value.get() == 1 and undos.labels("in_vain")._value.get() == 0
            await listed("bob", "i1", "undo")
            assert undos.labels("in_vain")._value.get() == 1
            await listed("cleo", "i7", "hide", author="zoe")
            for _ in range(4):
                await listed("cleo", "i0")  # the ring forgets the hide
            kept = everything - {"i0", "i2", "i3", "i7"}
            assert items(await listed("cleo", "i0")) == kept
        async with running(settings) as worker:  # from the changelog
            applied = worker.metrics.applied.labels("clicks")
            sent = 0
            await until(lambda: worker.metrics.catalogue_items._value.get() == 8, 20, "catalogue read")
            assert items(await listed("cleo", "i0")) == kept
            assert items(await listed("cleo", "i7", "undo", author="zoe")) == everything - {"i0"}
            assert worker.metrics.undone.labels("shown_again")._value.get() == 1

    asyncio.run(main())
