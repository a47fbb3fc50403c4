"""Claim checks over HTTP: each hop is checked before it is asked, and a body is cut where it breaks its promise."""

import asyncio

import aiohttp
from aiohttp import ClientError, ClientResponse, ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from streams.claims.body import CHUNK_BYTES, Body
from streams.claims.guard import UNAVAILABLE, Guard, GuardedResolver
from streams.errors import Reject, Retry
from streams.events import ClaimCheck

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (404, 408, 423, 425, 429)  # not there yet, or not now; and all 5xx
# The promised size and hash are those of the bytes sent, so nothing is to be unpacked on the way.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "headrace"}


class WebClaims:
    """One session a worker; made on its event loop. No cookies, no proxy, no credentials."""

    def __init__(self, guard: Guard, redirects: int) -> None:
        self._guard = guard
        self._redirects = redirects
        # Names are resolved, and checked, for each connection.
        connector = TCPConnector(resolver=GuardedResolver(guard), use_dns_cache=False)
        self._session = ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's, over all hops
        )

    async def read(self, claim: ClaimCheck) -> bytes:
        """The bytes. Raises Reject, and Retry for what may be there later; bound its time outside."""
        url = _url(claim.uri)
        try:
            for _ in range(self._redirects + 1):
                self._guard.check_url(url)
                async with self._session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await _body(response, claim)
                    url = _next_url(response)
        except (ClientError, OSError) as error:
            raise Retry(f"cannot be fetched: {type(error).__name__}", UNAVAILABLE) from error
        raise Reject(UNAVAILABLE, f"more than {self._redirects} redirects")

    async def close(self) -> None:
        """Let the connections go."""
        await self._session.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn


def _url(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as error:
        raise Reject(UNAVAILABLE, "not a URI") from error


def _next_url(response: ClientResponse) -> URL:
    """Raises Reject: no place, or from https to http."""
    try:
        url = response.url.join(URL(response.headers["Location"]))
    except (KeyError, ValueError) as error:
        raise Reject(UNAVAILABLE, "a redirect to nowhere") from error
    if response.url.scheme == "https" and url.scheme != "https":
        raise Reject(UNAVAILABLE, "a redirect from https to something weaker")
    return url


async def _body(response: ClientResponse, claim: ClaimCheck) -> bytes:
    status = response.status
    if status in _PASSING or status >= 500:
        raise Retry(f"the server says {status}", UNAVAILABLE)
    if status != 200:
        raise Reject(UNAVAILABLE, f"the server says {status}")
    body = Body(claim)
    if response.content_length is not None and response.content_length > claim.size:
        raise Reject(UNAVAILABLE, f"the payload does not have the promised {claim.size} bytes")
    async for piece in response.content.iter_chunked(CHUNK_BYTES):
        body.add(piece)
    return body.done()
