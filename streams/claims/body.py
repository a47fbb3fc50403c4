"""A body as it arrives: never more than was promised is held, and at its end it is what was promised."""

import hashlib

from streams.claims.guard import UNAVAILABLE
from streams.errors import Reject, Retry
from streams.events import ClaimCheck

CHUNK_BYTES = 1 << 16


class Body:
    """Feed it pieces in order, then take `done`."""

    def __init__(self, claim: ClaimCheck) -> None:
        self._claim = claim
        self._hash = hashlib.sha256()
        self._held = bytearray()

    @property
    def missing_bytes(self) -> int:
        """How much is still to come."""
        return self._claim.size - len(self._held)

    def add(self, piece: bytes) -> None:
        """Raises Reject once there is more than was promised."""
        if len(piece) > self.missing_bytes:
            raise Reject(UNAVAILABLE, f"the payload does not have the promised {self._claim.size} bytes")
        self._held += piece
        self._hash.update(piece)

    def done(self) -> bytes:
        """All of it. Raises Retry when some is missing (it may still be written), Reject for another hash."""
        if self.missing_bytes:
            raise Retry(
                f"the payload has {len(self._held)} of the promised {self._claim.size} bytes", UNAVAILABLE
            )
        if self._hash.hexdigest() != self._claim.sha256:
            raise Reject(UNAVAILABLE, "the payload does not have the promised sha256")
        return bytes(self._held)
