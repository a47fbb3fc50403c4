"""Secrets that lie in files of their own: read once, never shown, and one line that says which is missing."""

from pathlib import Path

from streams.errors import EnvironmentProblem

MOST_BYTES = 65_536


def secret(path: Path, setting: str) -> bytes:
    """The file's content without the line end that editors add. `setting` names who points to it.

    Raises EnvironmentProblem when it cannot be read, is empty or no secret at all by its size.
    """
    try:
        with path.open("rb") as file:
            found = file.read(MOST_BYTES + 1).rstrip(b"\r\n")
    except OSError as error:
        raise EnvironmentProblem(
            f"{setting}: the secret in {path} cannot be read ({error.strerror}): mend the path or the file's rights"
        ) from error
    if not found or len(found) > MOST_BYTES:
        raise EnvironmentProblem(
            f"{setting}: {path} holds {'no secret, it is empty' if not found else 'more than a secret'}"
        )
    return found
