"""Payloads by value or by claim check: bytes within bounds, from allowed places, with the promised size and hash.

This version opens inline bytes, text and `file:` URIs under allowed roots. `http(s):` and `s3:` are refused by name.
"""

import errno
import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.types import Payload
from streams.errors import Reject, Retry
from streams.events import ClaimCheck, Media

UNAVAILABLE = "payload_unavailable"
_NEVER = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


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
