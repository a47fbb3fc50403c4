"""Small recordings for tests of evaluation."""

from collections.abc import Sequence

import numpy as np

from models.evaluate.recording import Recording
from models.taste import actions


def recording(
    pairs: Sequence[tuple[str, str]],
    at_ms: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
) -> Recording:
    """Of (user, item) in arrival order, a second apart, clicks of weight 1 unless told. `items` fixes the catalogue."""
    users = list(dict.fromkeys(user for user, _ in pairs))
    names = list(items or dict.fromkeys(item for _, item in pairs))
    codes = actions.codes_of(kinds or ["click"] * len(pairs))
    return Recording(
        np.array([users.index(user) for user, _ in pairs], np.int64),
        np.array([names.index(item) for _, item in pairs], np.int64),
        np.array(range(0, 1000 * len(pairs), 1000) if at_ms is None else at_ms, np.int64),
        codes,
        actions.weights_of(codes, np.zeros(len(codes))),
        tuple(names),
    )


def random_pairs(seed: int, events: int, users: int = 6, items: int = 9) -> list[tuple[str, str]]:
    """Events of readers who like some items more than others."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, items + 1)
    chosen = rng.choice(items, events, p=shares / shares.sum())
    return [
        (f"u{u}", f"i{i}")
        for u, i in zip(rng.integers(0, users, events).tolist(), chosen.tolist(), strict=True)
    ]
