"""Payloads by value or by claim check: bytes within bounds, from allowed places, with the promised size and hash.

Inline bytes, text and `file:` URIs under allowed roots are read here; `streams.claims` fetches `http(s):` and `s3:`.
"""

import asyncio
import errno
import hashlib
import ipaddress
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.types import Payload
from streams.claims.fetches import Fetches
from streams.claims.guard import UNAVAILABLE, Guard
from streams.claims.objects import ObjectClaims
from streams.claims.web import WebClaims
from streams.errors import Reject, Retry
from streams.events import ClaimCheck, Media
from streams.sections.media import Media as MediaSettings

_FILES_AT_ONCE = 64
_NEVER = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


class Payloads:
    """Opens what media events stand for, each within `media.fetch_timeout_s`. Make it on the loop that uses it."""

    def __init__(self, media: MediaSettings) -> None:
        claims = media.claims
        self._roots = media.roots
        self._max_bytes = media.max_payload_bytes
        self._timeout_s = media.fetch_timeout_s
        self._schemes = frozenset(claims.schemes)
        self._slots = asyncio.Semaphore(_FILES_AT_ONCE)
        self._fetches = Fetches(2 * _FILES_AT_ONCE)  # those that hang hold no slot
        networks = tuple(ipaddress.ip_network(network) for network in claims.private_networks)
        guard = Guard(self._schemes & {"http", "https"}, claims.hosts, networks)
        self._web = WebClaims(guard, claims.redirects)
        self._objects = ObjectClaims(
            guard,
            claims.buckets,
            claims.s3_endpoint,
            anonymous=claims.s3_anonymous,
            timeout_s=media.fetch_timeout_s,
        )

    def start(self) -> None:
        """Raises EnvironmentProblem when S3 is asked for and its library is missing."""
        self._objects.start()

    async def open(self, event: Media) -> Payload:
        """Raises Reject with `empty`, `too_large`, `payload_unavailable`; Retry for what may be there later."""
        claim = event.payload
        if isinstance(claim, ClaimCheck):
            if claim.size > self._max_bytes:
                raise Reject("too_large", f"{claim.size} bytes promised, the limit is {self._max_bytes}")
            if not claim.size:
                raise Reject("empty", "the payload has no bytes")
            scheme = claim.uri.partition(":")[0].lower()
            if scheme not in self._schemes:
                raise Reject(UNAVAILABLE, f"scheme {scheme[:20]!r} is not allowed here")
            if scheme != "file":
                source = self._objects if scheme == "s3" else self._web
                return Payload(event.media_type, await self._in_time(source, claim), event.language)
        fetch = partial(payload_of, event, roots=self._roots, max_bytes=self._max_bytes)
        if not isinstance(claim, ClaimCheck):
            return fetch()
        async with self._slots:
            return await self._fetches.run(fetch, self._timeout_s, UNAVAILABLE)

    async def _in_time(self, source: WebClaims | ObjectClaims, claim: ClaimCheck) -> bytes:
        try:
            return await asyncio.wait_for(source.read(claim), self._timeout_s)
        except asyncio.TimeoutError as error:
            raise Retry(f"not fetched within {self._timeout_s:g} s", UNAVAILABLE) from error

    async def close(self) -> None:
        """Let the connections go."""
        await self._web.close()
        await self._objects.close()


def size_of(event: Media) -> int:
    """Bytes that its payload takes or is said to take, before anything is opened."""
    if isinstance(event.payload, ClaimCheck):
        return event.payload.size
    if event.payload is not None:
        return len(event.payload)
    return 4 * (len(event.text or "") + len(event.title or ""))


def payload_of(event: Media, *, roots: Sequence[Path], max_bytes: int) -> Payload:
    """The bytes that a media event stands for. May read a file: call it off the event loop.

    Raises Reject with `empty`, `too_large`, `payload_unavailable` or `mislabelled`; Retry for what may be there later.
    """
    if isinstance(event.payload, ClaimCheck):
        data = _claimed(event.payload, roots, max_bytes)
    elif event.payload is not None:
        data = event.payload
    elif event.text is not None:
        data = "\n".join(part for part in (event.title, event.text) if part).encode()
    else:
        raise Reject("empty", "neither payload nor text")
    if not data:
        raise Reject("empty", "the payload has no bytes")
    if len(data) > max_bytes:
        raise Reject("too_large", f"{len(data)} bytes, the limit is {max_bytes}")
    return Payload(media_type=event.media_type, data=data, language=event.language)


def _claimed(claim: ClaimCheck, roots: Sequence[Path], max_bytes: int) -> bytes:
    try:
        parts = urlsplit(claim.uri)
    except ValueError as error:
        raise Reject(UNAVAILABLE, f"not a URI: {error}") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise Reject(UNAVAILABLE, f"scheme {parts.scheme or 'none'!r} is not allowed here")
    if claim.size > max_bytes:
        raise Reject("too_large", f"{claim.size} bytes promised, the limit is {max_bytes}")
    try:
        path = Path(unquote(parts.path)).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a NUL, a name too long, a loop of links
        raise Reject(UNAVAILABLE, f"not a path: {error}") from error
    if not any(path.is_relative_to(root.expanduser().resolve()) for root in roots):
        raise Reject(UNAVAILABLE, "the file lies outside media.roots")
    data = _read(path, claim.size + 1)
    if len(data) < claim.size:  # somebody may still be writing it
        raise Retry(f"the file has {len(data)} of the promised {claim.size} bytes", UNAVAILABLE)
    if len(data) > claim.size:
        raise Reject(UNAVAILABLE, f"the file does not have the promised {claim.size} bytes")
    if hashlib.sha256(data).hexdigest() != claim.sha256:
        raise Reject(UNAVAILABLE, "the file does not have the promised sha256")
    return data


def _read(path: Path, at_most: int) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited on for ever
            raise Reject(UNAVAILABLE, "there is no such file: it is a folder, a pipe or a device")
        with path.open("rb") as file:
            return file.read(at_most)
    except FileNotFoundError as error:
        raise Retry("there is no such file", UNAVAILABLE) from error
    except OSError as error:
        if error.errno in _NEVER:
            raise Reject(UNAVAILABLE, f"not a path: {error.strerror}") from error
        raise Retry(f"cannot read the file: {error.strerror or error!r}", UNAVAILABLE) from error
