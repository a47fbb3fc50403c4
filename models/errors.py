"""What can go wrong inside `models`, as decisions the caller can act on.

`streams` maps these to retry, dead-letter or stop; nothing here knows how.
"""


class ModelError(Exception):
    """Base of every error that `models` raises on purpose."""


class BadInput(ModelError):
    """This input can never be processed: corrupt, empty, too large, not finite.

    `reason` is a short closed word for a metric label and a dead-letter header
    (`undecodable`, `too_large`, `empty`, ...); the message is for people and holds no payload.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutOfMemory(ModelError):
    """The device had no memory for one unit of work, even alone."""


class WeightsMismatch(ModelError):
    """Weights are missing, have a wrong hash, shape or format. The message names the file and the remedy."""


class DeviceLost(ModelError):
    """The device or its network fails on input that it has handled before: load it anew."""


class DeviceRuined(DeviceLost):
    """What this process has on the device is spoilt (an illegal address, say): only a new process helps."""
