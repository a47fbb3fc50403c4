"""Claim checks over HTTP, against a real server on loopback: what is asked, what is refused, what is cut off."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from aiohttp import web
from yarl import URL

from streams.claims.guard import Guard
from streams.claims.payloads import Payloads
from streams.claims.web import WebClaims
from streams.errors import Reject, Retry
from streams.events import ClaimCheck, Media
from streams.sections.media import Media as Settings

CONTENT = b"content of a file, " * 500
BOTH = frozenset(("http", "https"))
LOOPBACK = (ip_network("127.0.0.0/8"),)


class Server:
    """Answers by path, and remembers what it was asked and how much it has sent of an endless body."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sent_bytes = 0
        self.port = 0
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers.append(dict(request.headers))
        kind, _, more = request.path.strip("/").partition("/")
        if kind == "status":
            return web.Response(status=int(more))
        if kind == "to":
            raise web.HTTPFound(request.query["where"])
        if kind == "round":
            raise web.HTTPTemporaryRedirect("/round")
        if kind in ("endless", "slow"):
            return await self._stream(request, 0.0 if kind == "endless" else 0.05)
        if kind == "short":
            return web.Response(body=CONTENT[:-1])
        if kind == "packed":
            return web.Response(body=CONTENT, headers={"Content-Encoding": "gzip"})
        return web.Response(body=CONTENT + b"!" if kind == "long" else CONTENT)

    async def _stream(self, request: web.Request, pause_s: float) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        piece = b"x" * (65_536 if not pause_s else 1)
        while True:
            await response.write(piece)
            self.sent_bytes += len(piece)
            await asyncio.sleep(pause_s)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


@asynccontextmanager
async def serving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    assert site._server is not None
    server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def web_claims(guard: Guard, redirects: int = 3) -> AsyncIterator[WebClaims]:
    made = WebClaims(guard, redirects)
    try:
        yield made
    finally:
        await made.close()


def guard(server: Server, *hosts: str, networks: Any = LOOPBACK) -> Guard:
    names = hosts or ("127.0.0.1",)
    return Guard(BOTH, tuple(f"{name}:{server.port}" for name in names), networks)


def claim(uri: str, data: bytes = CONTENT, **changes: Any) -> ClaimCheck:
    return ClaimCheck(uri, **{"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes})


def run(test: Callable[[Server], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving() as server:
            await asyncio.wait_for(test(server), 90)

    asyncio.run(main())


def test_a_body_as_promised_is_read_and_nothing_of_ours_is_told() -> None:
    async def test(server: Server) -> None:
        async with web_claims(guard(server)) as claims:
            assert await claims.read(claim(server.url("good"))) == CONTENT
            assert await claims.read(claim(server.url("packed"))) == CONTENT  # as sent, not unpacked
        assert {name.lower() for name in server.headers[0]} == {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
        }

    run(test)


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("long", Reject, "promised"),
        ("short", Retry, "of the promised"),
        ("status/404", Retry, "404"),
        ("status/429", Retry, "429"),
        ("status/503", Retry, "503"),
        ("status/403", Reject, "403"),
        ("status/410", Reject, "410"),
        ("status/206", Reject, "206"),
        ("round", Reject, "more than 0 redirects"),
    ],
)
def test_what_may_pass_is_told_from_what_cannot(path: str, kind: type[Exception], words: str) -> None:
    async def test(server: Server) -> None:
        async with web_claims(guard(server), redirects=0) as claims:
            with pytest.raises(kind, match=words) as refused:
                await claims.read(claim(server.url(path)))
            assert refused.value.reason == "payload_unavailable"  # type: ignore[attr-defined]

    run(test)


def test_another_hash_is_refused() -> None:
    async def test(server: Server) -> None:
        async with web_claims(guard(server)) as claims:
            with pytest.raises(Reject, match="sha256"):
                await claims.read(claim(server.url("good"), sha256="0" * 64))

    run(test)


def test_a_server_that_is_not_there_may_come_back() -> None:
    async def test(server: Server) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with web_claims(Guard(BOTH, (f"127.0.0.1:{port}",), LOOPBACK)) as claims:
            with pytest.raises(Retry, match="cannot be fetched"):
                await claims.read(claim(f"http://127.0.0.1:{port}/"))

    run(test)


def test_an_endless_body_is_cut_where_it_breaks_its_promise() -> None:
    async def test(server: Server) -> None:
        async with web_claims(guard(server)) as claims:
            with pytest.raises(Reject, match="promised"):
                await claims.read(claim(server.url("endless"), b"x" * 100_000))
        sent_bytes = -1
        while sent_bytes < server.sent_bytes:  # hung up, not left to go on
            sent_bytes = server.sent_bytes
            assert sent_bytes < 32 << 20  # what the sockets' buffers took
            await asyncio.sleep(0.1)

    run(test)


def test_a_slow_body_is_given_up_in_time() -> None:
    async def test(server: Server) -> None:
        payloads = Payloads(
            Settings.model_validate(
                {
                    "fetch_timeout_s": 1.0,
                    "claims": {
                        "schemes": "http",
                        "hosts": f"127.0.0.1:{server.port}",
                        "private_networks": "127.0.0.0/8",
                    },
                }
            )
        )
        try:
            with pytest.raises(Retry, match="not fetched within"):
                await payloads.open(event(claim(server.url("slow"))))
            opened = await payloads.open(event(claim(server.url("good"))))
            assert opened.data == CONTENT
        finally:
            await payloads.close()

    run(test)


def event(check: ClaimCheck) -> Media:
    return Media("e", "a", 0, "text/plain", check)


def test_redirects_are_followed_and_each_is_checked_like_the_first() -> None:
    async def test(server: Server) -> None:
        async with serving("127.0.0.2") as other, web_claims(guard(server)) as claims:
            assert await claims.read(claim(server.url("to/x?where=/good"))) == CONTENT
            for where in (
                other.url("good", "127.0.0.2"),  # a host that is not listed
                "http://169.254.169.254/latest/meta-data",
                f"http://[::1]:{server.port}/good",
                "file:///etc/passwd",
                "//user:secret@127.0.0.1/",
                "http://",
            ):
                with pytest.raises(Reject):
                    await claims.read(claim(str(URL(server.url("to/x")).with_query(where=where))))
            assert other.asked == []

    run(test)


def test_redirects_are_bounded() -> None:
    async def test(server: Server) -> None:
        async with web_claims(guard(server), redirects=2) as claims:
            with pytest.raises(Reject, match="more than 2 redirects"):
                await claims.read(claim(server.url("round")))
            assert len(server.asked) == 3

    run(test)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "LOCALHOST.",
    ],
)
def test_no_spelling_of_loopback_reaches_the_server(host: str) -> None:
    async def test(server: Server) -> None:
        url = server.url("good", host)
        name = (URL(url).host or "").rstrip(".").lower()
        listed = Guard(BOTH, (f"{name}:{server.port}",))  # the operator listed the host, but no network
        async with web_claims(listed) as claims:
            with pytest.raises((Reject, Retry)):
                await claims.read(claim(url))
            assert server.asked == []

    run(test)


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.8.8.8", "0.0.0.0"),
        *(
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%lo",
            "fd00::1",
            "ff02::1",
        ),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "not an address"),
    ],
)
def test_addresses_inside_are_refused(address: str) -> None:
    with pytest.raises(Reject):
        Guard(BOTH, ("*",)).check_address(address)


def test_public_addresses_and_named_networks_pass() -> None:
    Guard(BOTH, ()).check_address("93.184.215.14")
    Guard(BOTH, ()).check_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    Guard(BOTH, (), (ip_network("10.1.0.0/16"),)).check_address("10.1.2.3")
    Guard(BOTH, (), (ip_network("10.1.0.0/16"),)).check_address("::ffff:10.1.2.3")
    with pytest.raises(Reject):
        Guard(BOTH, (), (ip_network("10.1.0.0/16"),)).check_address("10.2.0.1")


@pytest.mark.parametrize(
    ("url", "passes"),
    [
        ("https://cdn.example.org/a", True),
        ("https://CDN.Example.org./a", True),
        ("https://a.b.media.example/x", True),
        ("https://media.example/x", False),  # `*.` asks for a part before it
        ("https://evilmedia.example/x", False),
        ("https://cdn.example.org:8443/a", False),
        ("https://ports.example:8443/a", True),
        ("https://ports.example/a", False),
        ("http://cdn.example.org/a", True),
        ("ftp://cdn.example.org/a", False),
        ("https://user@cdn.example.org/a", False),
        ("https://cdn.example.org@evil.example/a", False),
        ("https://evil.example/cdn.example.org", False),
        ("https://cdn.example.org.evil.example/", False),
    ],
)
def test_hosts_are_listed_exactly(url: str, passes: bool) -> None:
    listed = Guard(BOTH, ("cdn.example.org", "*.media.example", "ports.example:8443"))
    if passes:
        listed.check_url(URL(url))
    else:
        with pytest.raises(Reject):
            listed.check_url(URL(url))


def test_a_name_that_resolves_to_something_else_a_moment_later_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the connection goes to the address that was checked, and the name is not asked again for it."""
    answers = ["127.0.0.1", "127.0.0.2", "127.0.0.2"]

    async def resolved(_loop: Any, host: str, port: int, **_: Any) -> Any:
        assert host == "rebind.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (answers.pop(0), port))]

    async def test(server: Server) -> None:
        async with serving("127.0.0.2", server.port) as inside:
            monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
            only_first = guard(server, "rebind.example", networks=(ip_network("127.0.0.1/32"),))
            async with web_claims(only_first) as claims:
                assert await claims.read(claim(server.url("good", "rebind.example"))) == CONTENT
            assert len(answers) == 2
            async with web_claims(only_first) as claims:  # a new connection: checked anew
                with pytest.raises(Reject, match="private network"):
                    await claims.read(claim(server.url("good", "rebind.example")))
            assert (server.asked, inside.asked) == (["/good"], [])
            monkeypatch.undo()

    run(test)


def test_one_forbidden_address_among_several_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(_loop: Any, host: str, port: int, **_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (at, port)) for at in ("127.0.0.1", "10.0.0.1")]

    async def test(server: Server) -> None:
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
        async with web_claims(guard(server, "both.example")) as claims:
            with pytest.raises(Reject, match="private network"):
                await claims.read(claim(server.url("good", "both.example")))
        assert server.asked == []
        monkeypatch.undo()

    run(test)


def test_only_listed_schemes_are_opened() -> None:
    async def main() -> None:
        payloads = Payloads(Settings())
        try:
            for uri in (
                "http://cdn.example.org/a",
                "ftp://a/b",
                "data:,x",
                "gopher://a",
                "",
                "HTTP://a",
                "\0://",
            ):
                with pytest.raises(Reject, match="not allowed here"):
                    await payloads.open(event(claim(uri)))
            with pytest.raises(Reject, match="hosts"):  # no host is listed by default
                await payloads.open(event(claim("https://cdn.example.org/a")))
            with pytest.raises(Reject, match="buckets"):
                await payloads.open(event(claim("s3://bucket/key")))
        finally:
            await payloads.close()

    asyncio.run(main())


def test_the_size_of_a_claim_is_known_before_anything_is_opened() -> None:
    async def main() -> None:
        payloads = Payloads(Settings(max_payload_bytes=100))
        try:
            with pytest.raises(Reject) as refused:
                await payloads.open(event(claim("https://cdn.example.org/a", b"x" * 101)))
            assert refused.value.reason == "too_large"
            with pytest.raises(Reject) as refused:
                await payloads.open(event(claim("https://cdn.example.org/a", b"")))
            assert refused.value.reason == "empty"
        finally:
            await payloads.close()

    asyncio.run(main())


def test_events_and_structs_agree() -> None:
    made = msgspec.json.decode(msgspec.json.encode(event(claim("https://a/b"))), type=Media)
    assert made.payload == claim("https://a/b")
