"""Files of recordings, pictures and texts as `Media` events: inline while small, else a claim check.

What a file is, its first bytes tell, never its name. Files have no recorded time: they are played one a second at
speed 1, and `at` is the present.
"""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.media.sniff import HEAD_BYTES, sniff
from streams.clock import Clock
from streams.errors import EnvironmentProblem
from streams.events import ClaimCheck, Media
from streams.feed.clicks import BadLines
from streams.feed.records import Outgoing, outgoing

INLINE_BYTES = 512 << 10
"""In base64 683 KiB: below the 1 MiB that brokers take by default."""
_NAMESPACE = uuid.UUID("5d1e9a0c-1d0b-5a53-8f53-0d2a6f3f4f10")
_READ_BYTES = 1 << 20
_MEDIA_TYPES = {"utf-8": "text/plain", "mp3": "audio/mpeg", "matroska": "audio/x-matroska"}
"""Containers whose media type is not their family and name."""


def media_files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Files under the paths, by name, each with its asset id: the path below the folder that was named.

    Raises EnvironmentProblem for a path that is not there.
    """
    for path in paths:
        if path.is_dir():
            for file in sorted(found for found in path.rglob("*") if found.is_file()):
                if not any(part.startswith(".") for part in file.relative_to(path).parts):
                    yield file, file.relative_to(path).as_posix()
        elif path.is_file():
            yield path, path.name
        else:
            raise EnvironmentProblem(f"there is no file or folder {path}")


def read_media(
    paths: Sequence[Path],
    bad: BadLines,
    clock: Clock,
    source: str,
    topic: str | None = None,
    inline_bytes: int = INLINE_BYTES,
) -> Iterator[Outgoing]:
    """A record a file; `bad` numbers the files from 1 and takes what is no media."""
    for number, (path, asset) in enumerate(media_files(paths), 1):
        try:
            media_type = media_type_of(path)
            if media_type is None:
                bad.add(number, f"{path}: neither a recording, a picture nor a text, by its content")
                continue
            event = media_event(path, asset, media_type, clock.wall_ms(), inline_bytes)
        except (OSError, UnicodeDecodeError) as error:
            bad.add(number, f"{path}: {error}")
            continue
        yield outgoing(event, source=source, topic=topic, play_ms=number * 1000)


def media_event(
    path: Path, asset: str, media_type: str, at_ms: int, inline_bytes: int = INLINE_BYTES
) -> Media:
    """The event of one file. The id follows from the asset and the content, so a second play repeats it."""
    asset = asset if len(asset) <= 256 else hashlib.sha256(asset.encode()).hexdigest()
    size, digest = _measured(path)
    event = Media(
        id=str(uuid.uuid5(_NAMESPACE, f"{asset}\0{digest}")), asset=asset, at=at_ms, media_type=media_type
    )
    if size > inline_bytes:
        event.payload = ClaimCheck(path.resolve().as_uri(), size, digest)
    elif media_type.startswith("text/"):
        event.text = path.read_bytes().decode("utf-8")
    else:
        event.payload = path.read_bytes()
    return event


def media_type_of(path: Path) -> str | None:
    """`image/jpeg` and the like, told by the file's beginning; None for nothing known. Raises OSError."""
    with path.open("rb") as file:
        found = sniff(file.read(HEAD_BYTES))
    if found is None:
        return None
    return _MEDIA_TYPES.get(found.container, f"{found.family}/{found.container}")


def _measured(path: Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            size += len(block)
            digest.update(block)
    return size, digest.hexdigest()
