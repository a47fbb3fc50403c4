"""Values of dead letters that only a key opens. Fernet: AES-128 in CBC mode and HMAC-SHA256, from `cryptography`.

The file of keys has one Fernet key a line, newest first: the first one seals, all of them open.
"""

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from streams.effects import Header
from streams.errors import EnvironmentProblem
from streams.secrecy.files import secret

SETTING = "privacy.dead_letter_keys_file"
SEALED = "dlt.sealed"
FORM = b"fernet"


class Seal:
    """Closes and opens values."""

    def __init__(self, keys: list[bytes]) -> None:
        """Raises ValueError for what is no key."""
        self._keys = MultiFernet([Fernet(key) for key in keys])

    @classmethod
    def read(cls, path: Path | None) -> "Seal | None":
        """None without a file. Raises EnvironmentProblem for one that cannot be used."""
        if path is None:
            return None
        try:
            return cls([line.strip() for line in secret(path, SETTING).splitlines() if line.strip()])
        except ValueError as error:
            raise EnvironmentProblem(
                f"{SETTING}: a line of {path} is no Fernet key (32 bytes in URL-safe base64)"
            ) from error

    def close(self, value: bytes) -> bytes:
        return self._keys.encrypt(value)

    def open(self, value: bytes) -> bytes | None:
        """None when no key of ours closed it, or somebody changed it."""
        try:
            return self._keys.decrypt(value)
        except InvalidToken:
            return None


def is_sealed(headers: "list[Header] | tuple[Header, ...]") -> bool:
    """Whether the headers say that the value is sealed."""
    return any(name == SEALED and value == FORM for name, value in headers)
