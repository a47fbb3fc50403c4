"""Forward decay in exact powers of two: decayed sums whose bits do not depend on where batches were cut.

With half-life h, an event at time t lies n = t // h whole half-lives and a fraction f = (t % h) / h after
zero. Its weight in the frame of n is c = w * 2**f, a float32 that depends on the event alone. A sum is kept
relative to a reference r, the newest n seen:

    advance   n > r:  sum = sum * 2**(r - n) + c * code;   r = n
    late      n <= r: sum = sum + c * 2**(n - r) * code

Scaling by a power of two is exact and commutes with rounding, so the same additions in the same order give
the same bits in any frame. Only underflow could break this, and four rules, each a function of the user's
events alone, keep every value a normal float32:

1. weights are multiples of 2**-8 up to 255 in size (`snap`), and 0 changes neither sum nor reference;
2. codes are +1 or -1 (the unknown item, which has none, gets weight 0), so every component of a
   contribution has the same size, at least 2**-8;
3. an advance of `REACH` = 32 half-lives or more first sets the sum to zero;
4. an event 32 half-lives or more behind the reference adds nothing.

Why that is enough. A contribution in its own frame is a multiple of 2**-31 (24 bits, size >= 2**-8); a late
one a multiple of 2**-62. Right after an advance the sum is a multiple of 2**-32 whatever it was before:
either the result is at least 2**-9 in size, or it cancelled, and then the old part was within a factor of two
of c and so itself a multiple of 2**-32. Hence a stored sum is a multiple of 2**-62, and in any frame less
than 64 half-lives newer a multiple of 2**-126, the smallest normal float32. What is dropped by 3 and 4 is
2**-32 of what it was, less than float32 resolves beside one fresh click unless the sum exceeds 256 of them.

2**f comes from two tables of 1,024 entries made with decimal arithmetic, not from exp2, whose last bit
differs between processors: f is cut to 20 bits (relative error below 7e-7).

Forward decay: Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009.
"""

import math
from collections.abc import Sequence
from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

REACH = 32  # half-lives; see rules 3 and 4
MAX_AT_MS = 1 << 46  # year 4199
SCALES: F32 = np.append(np.exp2(-np.arange(REACH, dtype=np.float64)), 0.0).astype(np.float32)  # [REACH] is 0

_BITS = 10
_WEIGHT_STEP = np.float32(256)
_MAX_WEIGHT = np.float32(255)


def _powers(count: int, denominator: int) -> F32:
    """2**(i / denominator) for i < count, correctly rounded to float32 on every machine."""
    context = Context(prec=50)
    step = context.power(Decimal(2), context.divide(Decimal(1), Decimal(denominator)))
    values, value = [], Decimal(1)
    for _ in range(count):
        values.append(float(value))
        value = context.multiply(value, step)
    return np.array(values, np.float32)


COARSE: F32 = _powers(1 << _BITS, 1 << _BITS)  # 2**f for the upper ten bits of f ...
FINE: F32 = _powers(1 << _BITS, 1 << 2 * _BITS)  # ... and for the lower ten


def snap(weights: F32) -> F32:
    """Weights as decayed sums take them: the nearest multiple of 1/256, at most 255 in size."""
    snapped: F32 = weights * _WEIGHT_STEP
    np.rint(snapped, out=snapped)
    snapped /= _WEIGHT_STEP
    np.maximum(snapped, -_MAX_WEIGHT, out=snapped)
    return np.minimum(snapped, _MAX_WEIGHT, out=snapped)


def whole_ms(half_lives_s: Sequence[float]) -> tuple[int, ...]:
    """Half-lives in whole milliseconds; 0 stands for infinite. Raises ValueError for one under 1 ms."""
    found = tuple(0 if math.isinf(h) else round(h * 1000) for h in half_lives_s)
    if any(ms < 1 and not math.isinf(h) for ms, h in zip(found, half_lives_s, strict=True)):
        raise ValueError("a half-life must be at least 1 ms")
    return found


def frames(at_ms: I64, weights: F32, half_lives_ms: I64) -> tuple[I64, F32]:
    """n (H, N) and c = w * 2**f (H, N) of events; n is 0 where the weight is 0.

    `half_lives_ms` (H,), 0 for infinite: then n = 0 and c = w.
    """
    finite = np.maximum(half_lives_ms, 1)[:, None]
    whole: I64 = at_ms // finite
    part = ((at_ms - whole * finite) << (2 * _BITS)) // finite
    if not half_lives_ms.all():
        whole[half_lives_ms == 0] = part[half_lives_ms == 0] = 0
    scale = COARSE[part >> _BITS] * FINE[part & ((1 << _BITS) - 1)]
    if np.count_nonzero(weights) < len(weights):
        whole[:, weights == 0] = 0
    return whole, weights * scale


def scale_of(half_lives: I64) -> F32:
    """2**-half_lives for values >= 0, and 0 from REACH on."""
    scales: F32 = SCALES[np.minimum(half_lives, REACH)]
    return scales
