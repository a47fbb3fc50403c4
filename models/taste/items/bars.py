"""Items that a `block` label keeps out of all lists: who barred an item stands beside its content vector.

A label bars in the name of its step (a picture's own judgement, that of the text in it), and a later label of the same
step that does not block lifts that bar alone: what one step blocks, no other lets through. Bars and vectors come in
any order and do not touch each other.

Told, as a record: kind u1 (3 bars, 4 lifts) · step 4 bytes. Kept, in the place of an item's content: version u1 = 2 ·
count u1 · count times 4 bytes · the vector as packed, or nothing. An item without bars has its vector alone.
"""

from hashlib import blake2b

from models.errors import BadInput

BAR, LIFT = b"\x03", b"\x04"
MOST = 8  # steps that bar one item; further ones change nothing, it is barred
_KEPT = b"\x02"
_STEP_BYTES = 4
LARGEST_BYTES = 2 + MOST * _STEP_BYTES


def told(step: str, blocked: bool) -> bytes:
    """The record that bars an item in a step's name, or lifts that bar."""
    return (BAR if blocked else LIFT) + blake2b(step.encode(), digest_size=_STEP_BYTES).digest()


def is_lift(value: bytes) -> bool:
    """Whether a record takes a bar away: of an item that nobody knows there is none."""
    return value[:1] == LIFT


def kept(before: bytes, value: bytes) -> bytes:
    """What an item keeps after a record: a vector, as packed (b"" for none), or a bar. Raises BadInput."""
    steps, vector = split(before)
    if value[:1] not in (BAR, LIFT):
        return _joined(steps, value)
    step = value[1:]
    if len(step) != _STEP_BYTES:
        raise BadInput("content_layout", "a bar is cut off")
    left = [one for one in steps if one != step]
    return _joined([*left, step][:MOST] if value[:1] == BAR else left, vector)


def split(value: bytes) -> tuple[list[bytes], bytes]:
    """Who bars an item, and its vector as packed. Raises BadInput("content_layout")."""
    if value[:1] != _KEPT:
        return [], value
    count = value[1] if len(value) > 1 else 0
    end = 2 + count * _STEP_BYTES
    if not 0 < count <= MOST or len(value) < end:
        raise BadInput("content_layout", "an item's bars are cut off")
    return [value[at : at + _STEP_BYTES] for at in range(2, end, _STEP_BYTES)], value[end:]


def _joined(steps: list[bytes], vector: bytes) -> bytes:
    return _KEPT + bytes([len(steps)]) + b"".join(steps) + vector if steps else vector
