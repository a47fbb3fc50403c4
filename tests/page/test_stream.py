"""The page's stream and its doors: a thousand idle pages, a slow one, wrong tokens, hosts, paths and clicks."""

import asyncio
import json
import random
import resource
import socket
from typing import Any

import aiohttp
import pytest

from bad_records import NOW_MS, click
from running import produce, running, settings_for, until
from streams.page.hub import QUEUE, message

pytestmark = pytest.mark.embedded

TOKEN = "a token of sixteen"
PROTECTED = ("/", "/events", "/openapi.json", "/users/u/vector", "/page/app.js", "/page/media/x", "/labels/x")


async def events(reader: asyncio.StreamReader, kind: str) -> dict[str, Any]:
    """The data of the next event of a kind; chunk sizes stand between lines."""
    wanted = f"event: {kind}".encode()
    while True:
        line = await asyncio.wait_for(reader.readline(), 20)
        assert line, "the stream ended"
        if line.strip() == wanted:
            data = b""
            while not data.endswith(b"\n\n"):
                data += await asyncio.wait_for(reader.readline(), 20)
            return dict(json.loads(data[data.index(b"{") : data.rindex(b"}") + 1]))


async def ask_raw(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
    """Status and body of a path as it stands: no client tidies it up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return int(answer.split()[1]), answer


async def throw(port: int, draw: random.Random) -> bytes:
    """Send something like a request; what comes back, perhaps nothing."""
    paths = (
        "/page/click",
        "/events",
        "/page/media/",
        "/page/readers/",
        "/session",
        "/users/",
        "/items/",
        "/",
    )
    path = draw.choice(paths) + "".join(
        draw.choice('ab/%.?=&;\\"<>{}~é☃0') for _ in range(draw.randrange(24))
    )
    method = draw.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "GE T", "\x00"))
    body = draw.randbytes(draw.randrange(200))
    headers = draw.choice(
        (
            f"Content-Length: {len(body)}\r\n",
            "Content-Length: -1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Range: bytes=5-1\r\n",
            "Content-Type: application/json\r\nX-Headrace-Csrf: é\r\n",
            "Cookie: headrace_session=é\r\nAuthorization: Bearer \x7f\r\n",
        )
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode()
            + body
        )
        writer.write_eof()
        return await asyncio.wait_for(reader.read(65_536), 5)
    except (ConnectionError, asyncio.TimeoutError):
        return b""
    finally:
        writer.transport.abort()


def test_many_idle_pages_and_a_slow_one(embedded_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(embedded_broker.bootstrap, topic_prefix, ("clicks",), observe={"clients": 1000})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))

    async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return reader, writer

    async def drain(reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 20):
            pass

    async def main() -> None:
        async with running(settings) as worker:
            port, hub = worker.port.port, worker.face._page._hub
            slow = socket.create_connection(("127.0.0.1", port))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            pages = [await opened(port) for _ in range(999)]
            await until(lambda: len(hub) == 1000, 60, "all are open")
            assert (await ask_raw(port, "/events"))[0] == 503  # one too many
            first, last = pages[0][0], pages[-1][0]
            assert (await events(first, "hello"))["flow"]["nodes"]
            before = await events(first, "tick")
            assert (await events(first, "tick"))["at"] > before["at"]
            assert (await events(last, "tick"))["numbers"] is not None
            for _, writer in pages[3:]:
                writer.transport.abort()
            await until(lambda: len(hub) == 4, 20, "most are gone")
            # Those who read go on; the one who does not is dropped, and no more than its bounds waited for it
            reading = [asyncio.create_task(drain(reader)) for reader, _ in pages[:3]]
            pad = message("tick", b'{"pad": "' + b"x" * 60_000 + b'"}')
            for _ in range(300):
                hub.send(pad)
                await asyncio.sleep(0.005)
                if hub.dropped:
                    break
            assert hub.dropped == 1 and len(hub) == 3
            assert all(client.waiting.qsize() <= QUEUE for client in hub)
            slow.close()
            for one in reading:
                one.cancel()
            for _, writer in pages[:3]:
                writer.transport.abort()
            await until(lambda: len(hub) == 0, 20, "all are gone")
            await until(lambda: (worker.metrics.pages._value.get()) == 0, 20, "and counted so")

    asyncio.run(main())


def test_token_host_and_paths(embedded_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(embedded_broker.bootstrap, topic_prefix, ("clicks",), observe={"token": TOKEN})

    async def main() -> None:
        async with running(settings) as worker:
            port = worker.port.port
            for path in PROTECTED:
                status, answer = await ask_raw(port, path)
                assert status == 401, path
                assert b"Content-Security-Policy: default-src 'none'" in answer
                assert b"unsafe-inline" not in answer
                assert (await ask_raw(port, path, Authorization="Bearer wrong"))[0] == 401
                assert (await ask_raw(port, path, Authorization="Basic eDp5"))[0] == 401
            for path in ("/metrics", "/healthz", "/readyz"):
                assert (await ask_raw(port, path))[0] == 200
            assert (await ask_raw(port, "/", Authorization=f"Bearer {TOKEN}"))[0] == 200
            jar = aiohttp.CookieJar(unsafe=True)
            url = f"http://127.0.0.1:{port}"
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                async with session.post(f"{url}/session", data={"token": "wrong"}) as reply:
                    assert reply.status == 401 and "Set-Cookie" not in reply.headers
                async with session.post(f"{url}/session", data={"token": "x" * 5000}) as reply:
                    assert reply.status == 413
                async with session.post(f"{url}/session", data={"token": TOKEN}) as reply:
                    assert reply.status == 200 and "<h1>Headrace</h1>" in await reply.text()
                cookie = next(iter(jar))
                assert cookie["httponly"] and cookie["samesite"] == "Strict" and TOKEN not in cookie.value

    asyncio.run(main())


def test_wrong_hosts_tricks_and_clicks(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), observe={"clicks": True})

    async def main() -> None:
        async with running(settings) as worker:
            port = worker.port.port
            assert (await ask_raw(port, "/", host="evil.example"))[0] == 421  # DNS rebinding
            assert (await ask_raw(port, "/", host=f"localhost:{port}"))[0] == 200
            for path in (
                "/page/../settings.py",
                "/page/%2e%2e/live.py",
                "/page/..%2flive.py",
                "/page//etc/passwd",
                "/page/page.css/",
                "/page/app.js%00.css",
                "/../../../etc/passwd",
                "/page/media/../../readyz",
                "/page/media/%2e%2e%2f%2e%2e",
            ):
                status, answer = await ask_raw(port, path)
                assert status == 404 and b"Traceback" not in answer and b"/work" not in answer, path

            for n in range(
                150
            ):  # nonsense: an answer that says so, never a stack trace, and the worker goes on
                answer = await throw(port, random.Random(n))
                assert b"Traceback" not in answer and not answer.startswith(b"HTTP/1.1 5"), answer[:500]
            assert (await ask_raw(port, "/healthz"))[0] == 200

            url = f"http://127.0.0.1:{port}"
            asked = {"user": "u1", "item": "i1", "kind": "click"}
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(b"GET /events?reader=u1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            csrf = (await events(reader, "hello"))["csrf"]
            assert (await events(reader, "reader"))["state"] == "unknown"
            async with aiohttp.ClientSession() as session:

                async def post(body: Any, **headers: str) -> int:
                    async with session.post(
                        f"{url}/page/click",
                        data=json.dumps(body),
                        headers={"Content-Type": "application/json", **headers},
                    ) as reply:
                        assert "Traceback" not in await reply.text()
                        return reply.status

                guard = {"X-Headrace-Csrf": csrf}
                assert await post(asked) == 403
                assert await post(asked, **{"X-Headrace-Csrf": "guess"}) == 403
                assert await post(asked, **guard, **{"Content-Type": "text/plain"}) == 400
                assert await post({**asked, "kind": "undo"}, **guard) == 400
                assert await post({**asked, "user": ""}, **guard) == 400
                assert await post({**asked, "user": "x" * 257}, **guard) == 400
                assert await post([1], **guard) == 400
                async with session.get(f"{url}/page/click") as reply:
                    assert reply.status == 405 and reply.headers["Allow"] == "POST"
                assert await post(asked, **guard) == 202
                while (picture := await events(reader, "reader"))["state"] == "unknown":
                    pass
                assert picture["events"][0]["item"] == "i1"
                statuses = [await post(asked, **guard) for _ in range(30)]
                assert set(statuses) <= {202, 429}
                async with session.get(f"{url}/events?reader={'x' * 300}") as reply:
                    assert reply.status == 400
            writer.close()

    asyncio.run(main())


def test_a_page_shows_readers_of_other_workers(kafka_broker: Any, topic_prefix: str) -> None:
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), observe={"token": TOKEN})

    async def main() -> None:
        async with running(settings) as first, running(settings) as second:
            readers = [worker._lines[0].reader for worker in (first, second)]
            await until(lambda: sorted(len(r.owned) for r in readers) == [2, 2], 20, "they share")
            await until(lambda: first.ready and second.ready, 20, "both ready")
            users = [f"u{n}" for n in range(12)]
            await produce(
                bootstrap,
                f"{topic_prefix}clicks",
                [(u.encode(), click(n, user=u, at=NOW_MS)) for n, u in enumerate(users)],
            )
            here = first.face._readers
            far = next(user for user in users if not here.local(user))
            found: dict[str, Any] = {}
            for _ in range(100):
                found = await here.remote(far)
                if found["state"] == "known":
                    break
                await asyncio.sleep(0.2)
            assert found["state"] == "known" and found["user"] == far and found["events"]

    asyncio.run(main())
