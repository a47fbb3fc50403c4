"""Claim checks in S3, against a real S3 server on loopback (moto's, in a thread)."""

import asyncio
import hashlib
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.claims.payloads import Payloads
from streams.errors import Reject, Retry
from streams.events import ClaimCheck, Media
from streams.sections.media import Media as Settings

pytest.importorskip("s3fs", reason="extra s3 is not installed")
moto = pytest.importorskip("moto.server", reason="moto is not installed")

CONTENT = b"an object, " * 20_000  # more than one chunk


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for bucket in ("media", "private"):
        put(f"{url}/{bucket}")
        put(f"{url}/{bucket}/2026/a b?c#d.txt".replace(" ", "%20").replace("?", "%3F").replace("#", "%23"))
    yield url
    server.stop()


def put(url: str) -> None:
    data = CONTENT if url.count("/") > 3 else b""
    plain = {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, data=data, headers=plain, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200


@pytest.fixture(autouse=True)
def rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@asynccontextmanager
async def opened(endpoint: str, **claims: Any) -> AsyncIterator[Payloads]:
    given = {"buckets": "media", "private_networks": "127.0.0.0/8", "s3_endpoint": endpoint}
    payloads = Payloads(Settings.model_validate({"fetch_timeout_s": 5, "claims": given | claims}))
    try:
        yield payloads
    finally:
        await payloads.close()


def event(key: str, data: bytes = CONTENT, **changes: Any) -> Media:
    check = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} | changes
    return Media("e", "a", 0, "text/plain", ClaimCheck(f"s3://{key}", **check))


KEY = "media/2026/a b?c#d.txt"


def test_an_object_is_read_with_the_workers_rights(endpoint: str) -> None:
    async def main() -> None:
        async with opened(endpoint) as payloads:
            payloads.start()
            both = await asyncio.gather(payloads.open(event(KEY)), payloads.open(event(KEY)))
            assert [one.data for one in both] == [CONTENT] * 2

    asyncio.run(main())


def test_what_may_pass_is_told_from_what_cannot(endpoint: str) -> None:
    async def main() -> None:
        async with opened(endpoint) as payloads:
            with pytest.raises(Retry, match="no such object"):
                await payloads.open(event("media/nothing"))
            with pytest.raises(Reject, match="not among"):
                await payloads.open(event(KEY.replace("media", "private")))
            with pytest.raises(Reject, match="no object"):
                await payloads.open(event("media/"))
            with pytest.raises(Reject, match="sha256"):
                await payloads.open(event(KEY, sha256="0" * 64))
            with pytest.raises(Reject, match="promised"):
                await payloads.open(event(KEY, CONTENT[:-1]))
            with pytest.raises(Retry, match="of the promised"):
                await payloads.open(event(KEY, CONTENT + b"!"))

    asyncio.run(main())


def test_the_store_may_lie_in_a_named_network_only(endpoint: str) -> None:
    async def main() -> None:
        async with opened(endpoint, private_networks=()) as payloads:
            with pytest.raises(Reject, match="private network"):
                payloads.start()
        by_name = endpoint.replace("127.0.0.1", "localhost")
        async with opened(by_name, private_networks="10.0.0.0/8") as payloads:
            payloads.start()  # a name: its addresses are checked when it is asked
            with pytest.raises(Reject, match="private network"):
                await payloads.open(event(KEY))

    asyncio.run(main())


def test_a_store_that_is_gone_may_come_back(endpoint: str) -> None:
    async def main() -> None:
        async with opened("http://127.0.0.1:9") as payloads:
            with pytest.raises(Retry, match="cannot be fetched"):
                await payloads.open(event(KEY))

    asyncio.run(main())
