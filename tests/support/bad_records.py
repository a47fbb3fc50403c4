"""Every kind of bad record, once, with the reason it must be given. Shared by unit tests and by those on brokers."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.events import CLICK, MEDIA

NOW_MS = 1_767_225_600_000

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class FakeRecord:
    """What a consumed record offers."""

    offset: int
    value: bytes | None
    key: bytes | None = b"k"
    headers: Headers = field(default_factory=list)
    timestamp: int = NOW_MS


@dataclass(frozen=True)
class Bad:
    """A record that cannot be processed. `reasons`: the one it must get (a second where two are right)."""

    name: str
    value: bytes | None
    reasons: tuple[str, ...]
    key: bytes | None = b"k"
    headers: Headers = field(default_factory=list)


def click(n: int, user: str | None = None, at: int = NOW_MS, **more: Any) -> bytes:
    """A good click."""
    event = {"id": f"c{n}", "user": user or f"u{n % 7}", "item": f"i{n % 11}", "kind": "click", "at": at}
    return json.dumps(event | more).encode()


def _with(n: int, **changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (json.loads(click(n)) | changes).items() if v is not ...}).encode()


def _raw_at(number: bytes) -> bytes:
    return click(0).replace(str(NOW_MS).encode(), number)


STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def structured(data: Any, ce_type: str = CLICK) -> bytes:
    """A CloudEvent in structured mode."""
    envelope = {"specversion": "1.0", "id": "x", "source": "/test", "type": ce_type}
    return json.dumps(envelope | ({} if data is ... else {"data": data})).encode()


def bad_clicks(large_bytes: int = 5_000_000) -> list[Bad]:
    """`large_bytes` is the size of the large value."""
    good = json.loads(click(0))
    return [
        Bad("not JSON", b"\xff\xfe\x00garbage", ("undecodable",)),
        Bad("empty", b"", ("undecodable",)),
        Bad("cut off", click(1)[:-9], ("undecodable",)),
        Bad("invalid UTF-8 in a field", click(1).replace(b"u1", b"\xff1"), ("undecodable",)),
        Bad("half a surrogate pair", click(1).replace(b"u1", b"\\ud800"), ("undecodable",)),
        Bad("NaN", _with(1)[:-1] + b', "dwell_s": NaN}', ("undecodable",)),
        Bad("a number without end", _with(1)[:-1] + b', "dwell_s": 1e999}', ("schema",)),
        Bad("null value (tombstone)", None, ("schema",)),
        Bad("null value, null key", None, ("schema",), key=None),
        Bad("a list", b"[1,2,3]", ("schema",)),
        Bad("JSON null", b"null", ("schema",)),
        Bad("no user", _with(2, user=...), ("schema",)),
        Bad("user is a number", _with(2, user=7), ("schema",)),
        Bad("user is null", _with(2, user=None), ("schema",)),
        Bad("user is empty", _with(2, user=""), ("schema",)),
        Bad("user too long", _with(2, user="u" * 300), ("schema",)),
        Bad("unknown kind", _with(3, kind="teleport"), ("unknown_kind",)),
        Bad("time in seconds", _with(4, at=NOW_MS // 1000), ("bad_time",)),
        Bad("time before 1970", _with(4, at=-5), ("bad_time",)),
        Bad("time far ahead", _with(4, at=NOW_MS + 40 * 365 * 86_400_000), ("bad_time",)),
        Bad("time beyond the state", _raw_at(str(1 << 46).encode()), ("bad_time",)),
        Bad("time beyond 64 bits", _raw_at(b"9" * 30), ("bad_time",)),
        Bad("time of 5000 digits", _raw_at(b"9" * 5000), ("bad_time",)),
        Bad("time is a float", _raw_at(b"1.7e12"), ("schema",)),
        Bad("time is text", _with(4, at="yesterday"), ("schema",)),
        Bad("large", click(5)[:-1] + b', "more": "' + b"x" * large_bytes + b'"}', ("too_large",)),
        Bad("deep", b"[" * 30_000 + b"]" * 30_000, ("undecodable", "schema")),
        Bad("deep in an unknown field", click(5)[:-1] + b', "x": ' + b"[" * 20_000, ("undecodable",)),
        Bad("newer version", click(6), ("unknown_version",), headers=[("ce_type", b"media.click.v9")]),
        Bad("another event", click(6), ("schema",), headers=[("ce_type", b"shop.order.v1")]),
        Bad("null ce_type", click(6), ("schema",), headers=[("ce_type", None)]),
        Bad("ce_type not UTF-8", click(6), ("schema",), headers=[("ce_type", b"\xff\xff")]),
        Bad(
            "structured, newer", structured(good, "media.click.v9"), ("unknown_version",), headers=STRUCTURED
        ),
        Bad("structured, no data", structured(...), ("schema",), headers=STRUCTURED),
        Bad("structured, bad data", structured({"id": "x"}), ("schema",), headers=STRUCTURED),
        Bad("structured, not an envelope", click(6), ("schema",), headers=STRUCTURED),
        Bad("structured, not JSON", b"\x00", ("undecodable",), headers=STRUCTURED),
    ]


def media(asset: str, media_type: str, payload: bytes | dict[str, Any] | None = None, **more: Any) -> bytes:
    """A media event; bytes travel inline."""
    event: dict[str, Any] = {"id": f"e-{asset}", "asset": asset, "at": NOW_MS, "media_type": media_type}
    if isinstance(payload, bytes):
        event["payload"] = base64.b64encode(payload).decode()
    elif payload is not None:
        event["payload"] = payload
    return json.dumps(event | more).encode()


def claim(uri: str, data: bytes = b"", **changes: Any) -> dict[str, Any]:
    """A claim check for `data`."""
    return {"uri": uri, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} | changes


_NOT_THAT = ("mislabelled", "undecodable", "unsupported")


def _bad_claims(root: Path, good_type: str) -> list[Bad]:
    """`root` is the allowed folder; a file is written there and beside it."""
    inside, outside = root / "inside.bin", root.parent / "outside.bin"
    for path in (inside, outside):
        path.write_bytes(b"content")
    loop = root / "loop"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    link = root / "link.bin"
    if not link.is_symlink():
        link.symlink_to(outside)
    uris: dict[str, dict[str, Any]] = {
        "outside the roots": claim(outside.as_uri(), b"content"),
        "out by dots": claim(f"{root.as_uri()}/../outside.bin", b"content"),
        "out by escaped dots": claim(f"{root.as_uri()}/%2e%2e/outside.bin", b"content"),
        "out by a link": claim(link.as_uri(), b"content"),
        "a loop of links": claim(loop.as_uri(), b"content"),
        "wrong hash": claim(inside.as_uri(), b"content", sha256="0" * 64),
        "wrong size": claim(inside.as_uri(), b"content", size=3),
        "missing file": claim(f"{root.as_uri()}/nothing.bin", b"content"),
        "a folder": claim(root.as_uri(), b"content"),
        "a NUL in the path": claim(f"{root.as_uri()}/a%00b", b"content"),
        "a path too long": claim(f"{root.as_uri()}/{'a' * 5000}", b"content"),
        "http": claim("http://169.254.169.254/latest/meta-data", b"content"),
        "s3": claim("s3://bucket/key", b"content"),
        "another host": claim("file://elsewhere/etc/passwd", b"content"),
        "not a URI": claim("http://[::1", b"content"),
        "an empty URI": claim("", b"content"),
    }
    bad = [
        Bad(f"claim check: {name}", media(f"m{n}", good_type, check), ("payload_unavailable",))
        for n, (name, check) in enumerate(uris.items())
    ]
    bad.append(
        Bad("claim check: huge", media("m", good_type, claim(inside.as_uri(), size=1 << 40)), ("too_large",))
    )
    return bad


def _bad_media_events(good_type: str) -> list[Bad]:
    """What is wrong whatever the payload is."""
    v9: Headers = [("ce_type", MEDIA.replace("v1", "v9").encode())]
    return [
        Bad("not JSON", b"\x89PNG", ("undecodable",)),
        Bad("null value, null key", None, ("schema",), key=None),
        Bad(
            "payload is not base64",
            media("m", good_type)[:-1] + b', "payload": "***"}',
            ("schema", "undecodable"),
        ),
        Bad("payload is a number", media("m", good_type)[:-1] + b', "payload": 5}', ("schema",)),
        Bad("no asset", media("m", good_type, b"x").replace(b'"asset"', b'"assets"'), ("schema",)),
        Bad("newer version", media("m", good_type, b"x"), ("unknown_version",), headers=v9),
        Bad("time beyond the state", media("m", good_type, b"x", at=1 << 60), ("bad_time",)),
        Bad("empty payload", media("m", good_type, b""), ("empty",)),
        Bad("neither payload nor text", media("m", good_type), ("empty",)),
        Bad("unknown media type", media("m", "application/x-tar", b"x"), ("unsupported",)),
        Bad("media type is nonsense", media("m", "\U0001f4a9", b"x"), ("unsupported",)),
    ]


def bad_audio(wave: bytes, root: Path) -> list[Bad]:
    """`wave` is a good WAV file."""
    return [
        *_bad_media_events("audio/wav"),
        *_bad_claims(root, "audio/wav"),
        Bad("only a header", media("m", "audio/wav", wave[:44]), ("empty", "truncated", "undecodable")),
        Bad("half a header", media("m", "audio/wav", wave[:20]), ("truncated", "undecodable")),
        Bad("noise", media("m", "audio/wav", bytes(range(256)) * 40), _NOT_THAT),
        Bad("text as audio", media("m", "audio/wav", b"This is a sentence. " * 50), _NOT_THAT),
    ]


def bad_uploads(picture: bytes, root: Path) -> list[Bad]:
    """`picture` is a good JPEG file."""
    damaged = ("truncated", "undecodable")
    return [
        *_bad_media_events("image/jpeg"),
        *_bad_claims(root, "image/jpeg"),
        Bad("truncated picture", media("m", "image/jpeg", picture[: len(picture) // 2]), damaged),
        Bad("only the first bytes", media("m", "image/jpeg", picture[:10]), damaged),
        Bad("text as a picture", media("m", "image/jpeg", b"This is a sentence."), _NOT_THAT),
        Bad("text that is not UTF-8", media("m", "text/plain", b"\xff\xfe\xfa\xfb"), ("undecodable",)),
        Bad("text without words", media("m", "text/plain", b"   \n"), ("empty",)),
        Bad("a large text", media("m", "text/plain", b"word " * 1_000_000), ("too_large",)),
    ]
