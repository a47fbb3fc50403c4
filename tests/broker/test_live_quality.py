"""Live meters end to end: clicks through a broker, figures on the page that Prometheus scrapes."""

import asyncio
import re

import aiohttp
import pytest

from bad_records import click
from running import produce, running, settings_for, until
from settled import table_settled

FOLLOWED = 12  # readers from whom it is learnt that b comes after a
ASKED = 10


@pytest.mark.embedded
def test_what_lists_are_worth_is_measured_on_the_clicks_themselves(
    embedded_broker: object, topic_prefix: str
) -> None:
    bootstrap: str = embedded_broker.bootstrap  # type: ignore[attr-defined]
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        quality={"sample": 1.0, "top": 3, "half_life_events": float("inf"), "time_share": 1.0},
        taste={"list_size": 5},
    )

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            number = 0

            async def send(pairs: list[tuple[str, str]]) -> None:
                nonlocal number
                records = []
                for user, item in pairs:
                    records.append((user.encode(), click(number, user=user, item=item)))
                    number += 1
                await produce(bootstrap, f"{topic_prefix}clicks", list(records))
                await until(lambda: applied._value.get() == number, 20, "all applied")

            old, new = [f"old{n}" for n in range(FOLLOWED)], [f"new{n}" for n in range(ASKED)]
            await send([(user, "a") for user in old])
            await send([(user, "b") for user in old])
            before = await scraped(worker.port.port)
            assert before['headrace_quality_left_out_total{reason="first"}'] == FOLLOWED
            await table_settled(worker)
            await send([(user, "a") for user in new])
            await send([(user, "b") for user in new])
            await send([(new[0], "b")])  # had already

            page = await scraped(worker.port.port)
            for layer in ("blend", "list", "counts", "last", "taste", "trending", "own-first"):
                assert page[f'headrace_quality_scored_total{{layer="{layer}"}}'] == FOLLOWED + ASKED
            assert page['headrace_quality_left_out_total{reason="first"}'] == FOLLOWED + ASKED
            assert page['headrace_quality_left_out_total{reason="repeat"}'] == 1
            # when the first b came no list could hold it; of the later ones a was had, so b stood first
            missed = round(FOLLOWED * (1 - before['headrace_recall_at_k{layer="list"}']))
            assert missed >= 1
            for layer in ("blend", "list", "counts", "last"):
                for meter in ("recall", "mrr", "ndcg"):
                    found = page[f'headrace_{meter}_at_k{{layer="{layer}"}}']
                    assert found == pytest.approx(1 - missed / (FOLLOWED + ASKED)), (layer, meter)
            assert page["headrace_quality_top"] == 3
            assert page["headrace_quality_seconds_total"] > 0

    asyncio.run(main())


async def scraped(port: int) -> dict[str, float]:
    """Series of the quality meters -> value."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        page = await reply.text()
    found = re.findall(r"^(headrace_(?:recall|mrr|ndcg|quality)\S*) (\S+)$", page, re.MULTILINE)
    return {name: float(value) for name, value in found}
