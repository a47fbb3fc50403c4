"""Why a payload got no answer, where it was not the payload's doing."""

from streams.errors import Retry


class InferenceFailed(Exception):
    """The device thread is gone; this process will label nothing more. Stop the worker."""


class InferenceClosed(InferenceFailed):
    """The service is stopping and has not labelled this payload; whoever reads it next will."""


class InferenceInterrupted(Retry):
    """The device thread died twice with this payload on the device. It was started anew, and the payload may be tried
    again: later, since it may be what kills it."""


def again(failure: InferenceFailed) -> InferenceFailed:
    """A copy to raise: one object raised many times gathers a traceback each time."""
    copy = type(failure)(*failure.args)
    copy.__cause__ = failure.__cause__
    return copy


def same(error: BaseException) -> BaseException:
    """The same error for another caller, without the traceback that the first one gathered."""
    copied = type(error).__new__(type(error))  # `copy` would call its __init__ with args alone
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied
