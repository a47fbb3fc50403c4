"""Errors of the streaming side, each a decision: retry, dead-letter, stop."""


class HeadraceError(Exception):
    """Base of every error raised on purpose."""


class Retry(HeadraceError):
    """Transient: the same call may succeed later. The caller backs off, a bounded number of times.

    `reason` is one of `REASONS`: what a record is dead-lettered for when it never succeeds.
    """

    def __init__(self, message: str, reason: str = "failed") -> None:
        super().__init__(message)
        self.reason = reason


class Reject(HeadraceError):
    """This record can never be processed; it goes to the dead-letter topic and its batch goes on.

    `reason` is one of `REASONS`: the metric label and the `dlt.reason` header.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fatal(HeadraceError):
    """The worker must stop: going on would lose or corrupt something. The message says what to do."""


class UserMistake(HeadraceError):
    """A wrong command, setting or file: one clear line for the user, exit code 2, no stack trace."""


class EnvironmentProblem(HeadraceError):
    """Something outside is missing (broker, port, model folder, JDK): one clear line, exit code 3."""


class NoBroker(EnvironmentProblem):
    """No answer from the cluster. A command says so and ends; a worker waits."""


REASONS = (
    "undecodable",  # not UTF-8, not JSON, not the framing it claims, a damaged file
    "schema",  # JSON, but not this event: missing field, wrong type, null value
    "unknown_version",  # ce_type names a version this worker does not know
    "unknown_kind",  # a kind of action that is not in the list
    "bad_time",  # far past or far future
    "too_large",  # more bytes, pixels or seconds than the bound
    "empty",  # a payload without content
    "truncated",  # a media file that ends early
    "unsupported",  # a container, codec or media type that no task reads
    "mislabelled",  # the bytes are not what media_type says
    "payload_unavailable",  # a claim check that cannot be fetched
    "poison",  # the model failed on this item alone
    "failed",  # retries used up
)
"""The closed set of reasons; `models.errors.BadInput` uses the same words."""
