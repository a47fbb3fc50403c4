"""Payloads by value or by claim check: bytes within bounds, from allowed places, with the promised size and hash.

This version opens inline bytes, text and `file:` URIs under allowed roots. `http(s):` and `s3:` are refused by name.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.types import Payload
from streams.errors import Reject
from streams.events import ClaimCheck, Media


def payload_of(event: Media, *, roots: Sequence[Path], max_bytes: int) -> Payload:
    """The bytes that a media event stands for. May read a file: call it off the event loop.

    Raises Reject with `empty`, `too_large`, `payload_unavailable` or `mislabelled`.
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
        raise Reject("payload_unavailable", f"not a URI: {error}") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise Reject("payload_unavailable", f"scheme {parts.scheme or 'none'!r} is not allowed here")
    if claim.size > max_bytes:
        raise Reject("too_large", f"{claim.size} bytes promised, the limit is {max_bytes}")
    try:
        path = Path(unquote(parts.path)).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a NUL, a name too long, a loop of links
        raise Reject("payload_unavailable", f"not a path: {error}") from error
    if not any(path.is_relative_to(root.expanduser().resolve()) for root in roots):
        raise Reject("payload_unavailable", "the file lies outside media.roots")
    try:
        if not path.is_file():  # a pipe would be waited on for ever
            raise Reject("payload_unavailable", "there is no such file")
        with path.open("rb") as file:
            data = file.read(claim.size + 1)
    except OSError as error:
        raise Reject("payload_unavailable", f"cannot read the file: {error.strerror}") from error
    if len(data) != claim.size:
        raise Reject("payload_unavailable", f"the file does not have the promised {claim.size} bytes")
    if hashlib.sha256(data).hexdigest() != claim.sha256:
        raise Reject("payload_unavailable", "the file does not have the promised sha256")
    return data
