"""What `headrace train sequence` trains on: recorded clicks as histories over a vocabulary."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.taste.index import hash_of
from models.train.histories import TEST, TRAIN, VALIDATE, Histories, cut
from streams.errors import UserMistake
from streams.evaluate.files import load


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Histories, the hashes of the vocabulary's names, and for the manifest where they came from."""

    histories: Histories
    hashes: NDArray[np.uint64]  # (V,)
    about: dict[str, Any]


def training_data(
    path: Path,
    form: str,
    split: str,
    *,
    fives: bool = False,
    limit: int | None = None,
    max_items: int = 50_000,
) -> TrainingData:
    """Positive events of a file in the order of time, cut by `split`; the vocabulary holds what is trained on alone.

    Raises UserMistake for what `streams.evaluate.files.load` refuses, and where too little is left.
    """
    loaded = load(path, form, fives, None, limit)
    recording = loaded.recording
    chosen = np.flatnonzero(recording.positive)
    users, items, at_ms = recording.users[chosen], recording.items[chosen], recording.at_ms[chosen]
    order, parts = cut(users, at_ms, split)
    items = items[order]
    counts = np.bincount(items[parts == TRAIN], minlength=len(recording.item_names))
    kept = np.argsort(-counts, kind="stable")[: min(max_items, int(np.count_nonzero(counts)))]
    if len(kept) < 2:
        raise UserMistake(f"{path}: {len(chosen)} events on {len(kept)} items are too few to train on")
    numbers = np.full(len(counts), -1, np.int32)
    numbers[kept] = np.arange(len(kept))
    starts = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
    hashes = np.array([hash_of(recording.item_names[item]) for item in kept.tolist()], np.uint64)
    about = {
        "file": path.name,
        "sha256": _sha256(path),
        "format": form,
        "fives": fives,
        "limit": limit,
        "readers": loaded.users,
        "split": split,
        "events": {
            name: int(np.count_nonzero(parts == part))
            for name, part in (("train", TRAIN), ("validation", VALIDATE), ("test", TEST))
        },
        "until_ms": int(at_ms[order][parts == TRAIN].max()),
    }
    return TrainingData(Histories(numbers[items], at_ms[order], starts, parts), hashes, about)


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
