"""Fetches that hang are given up, are bounded, and do not keep the process from ending."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streams.claims.fetches import Fetches
from streams.errors import Reject, Retry

ROOT = Path(__file__).parents[3]
HANGS = """
import asyncio, threading
from streams.errors import Retry
from streams.claims.fetches import Fetches

async def main():
    try:
        await Fetches(1).run(threading.Event().wait, 0.1, "failed")
    except Retry as error:
        print(error)

asyncio.run(main())
"""


def test_what_it_returns_or_raises_comes_back() -> None:
    def refuse() -> None:
        raise Reject("empty", "no bytes")

    async def main() -> None:
        fetches = Fetches(1)
        for n in range(20):  # a place is given back each time
            assert await fetches.run(lambda n=n: n * n, 5, "failed") == n * n  # type: ignore[misc]
            with pytest.raises(Reject, match="no bytes"):
                await fetches.run(refuse, 5, "failed")

    asyncio.run(main())


def test_those_that_hang_are_bounded_and_their_places_come_back() -> None:
    hanging = threading.Event()

    async def main() -> None:
        fetches = Fetches(2)
        for _ in range(2):
            with pytest.raises(Retry, match="not fetched within"):
                await fetches.run(hanging.wait, 0.05, "payload_unavailable")
        with pytest.raises(Retry, match="2 fetches hang already") as refused:
            await fetches.run(lambda: 1, 5, "payload_unavailable")
        assert refused.value.reason == "payload_unavailable"
        hanging.set()
        for _ in range(100):
            await asyncio.sleep(0.05)
            try:
                assert await fetches.run(lambda: 1, 5, "failed") == 1
                return
            except Retry:
                continue
        raise AssertionError("the places were not given back")

    asyncio.run(main())


def test_a_process_ends_although_a_fetch_hangs() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "not fetched within 0.1 s\n"), ended.stderr
