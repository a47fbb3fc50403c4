"""What a threshold on a score lets through and holds back."""

import numpy as np
from numpy.typing import NDArray


def flagged(
    scores: NDArray[np.float64], labels: NDArray[np.int64], threshold: float
) -> dict[str, float | None]:
    """Of scores (N,) from the threshold on: `precision`, the share that is of class 1, None where there is none;
    `recall`, the share of class 1 that is among them; `flagged`, their share of all. `labels` (N,) are 0 and 1."""
    held = scores >= threshold
    found = int((held & (labels == 1)).sum())
    return {
        "threshold": threshold,
        "precision": round(found / int(held.sum()), 4) if held.any() else None,
        "recall": round(found / max(1, int((labels == 1).sum())), 4),
        "flagged": round(float(held.mean()), 4),
    }
