"""Readers' names replaced at the edge by a keyed hash, so that nothing behind it holds them.

The file of keys has one a line, `name secret` (a short name without a dot, and any text), newest first; lines that
begin with # are skipped. New events carry the newest key's pseudonym, `name.hash`; readers are forgotten under the
pseudonyms of all keys. A new first line (a rotation) makes every reader a new one, whose state begins anew; take old
lines out once what they named is gone.
"""

import hmac
import re
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from streams.errors import EnvironmentProblem
from streams.events import Click, Privacy
from streams.secrecy.files import secret

SETTING = "privacy.pseudonym_keys_file"
HASH_CHARS = 40  # of hex: 160 bits
LEAST_SECRET_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9_-]{1,16}")

E = TypeVar("E", bound=Click | Privacy)


class Pseudonyms:
    """Names to pseudonyms. Given one of its own pseudonyms it gives that back, so that a replay changes nothing."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        """By name, newest first; at least one."""
        self._keys = keys

    @classmethod
    def read(cls, path: Path | None) -> "Pseudonyms | None":
        """None without a file. Raises EnvironmentProblem for one that cannot be used, and tells nothing of it."""
        if path is None:
            return None
        keys: dict[str, bytes] = {}
        for number, line in enumerate(secret(path, SETTING).splitlines(), 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            name, _, key = line.strip().partition(b" ")
            text = name.decode(errors="replace")
            if not _NAME.fullmatch(text) or len(key.strip()) < LEAST_SECRET_BYTES or text in keys:
                raise EnvironmentProblem(
                    f"{SETTING}: line {number} of {path} is not a new name and a secret of at least "
                    f"{LEAST_SECRET_BYTES} bytes"
                )
            keys[text] = key.strip()
        if not keys:
            raise EnvironmentProblem(f"{SETTING}: {path} holds no key")
        return cls(keys)

    def of(self, user: str) -> str:
        """Under the newest key."""
        return user if self._is_one(user) else self._made(next(iter(self._keys)), user)

    def all_of(self, user: str) -> list[str]:
        """Under each key: what a reader may be known by."""
        return [user] if self._is_one(user) else [self._made(name, user) for name in self._keys]

    def renamed(self, event: E) -> E:
        """The event under its reader's pseudonym."""
        return msgspec.structs.replace(event, user=self.of(event.user))

    def _made(self, name: str, user: str) -> str:
        return f"{name}.{hmac.new(self._keys[name], user.encode(), sha256).hexdigest()[:HASH_CHARS]}"

    def _is_one(self, user: str) -> bool:
        name, _, digest = user.partition(".")
        return name in self._keys and len(digest) == HASH_CHARS and set(digest) <= set("0123456789abcdef")
