"""Sequence models that nobody trained, for what does not depend on how good one is."""

from collections.abc import Sequence

import numpy as np

from models.sequence import attention, recurrence
from models.sequence.attention import Attention
from models.sequence.folder import Loaded, Manifest
from models.sequence.recurrence import Recurrence
from models.taste.index import hash_of


def random_model(names: Sequence[str], kind: str = "recurrence", seed: int = 1) -> Loaded:
    """Weights drawn at random, over a vocabulary of these names."""
    draw = np.random.default_rng(seed)
    shapes = (recurrence if kind == "recurrence" else attention).shapes(len(names))
    tensors = {name: draw.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    hashes = np.array([hash_of(name) for name in names], np.uint64)
    made = Recurrence(tensors, hashes) if kind == "recurrence" else Attention(tensors, hashes)
    manifest = Manifest(kind, f"random-{seed}", f"{seed:064x}"[::-1], "", len(names), {})
    return Loaded(made, manifest)
