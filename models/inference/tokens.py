"""Text to token ids, and token ids to padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import WeightsMismatch
from models.inference.devices import Upload
from models.inference.weights import inside
from models.types import Unit

USER_MAX_TOKENS = 512
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer")


@dataclass(frozen=True, slots=True)
class Tokens:
    """`ids` (T,) int64 with the special tokens, at most the limit; `truncated` if text was cut off."""

    ids: NDArray[np.int64]
    truncated: bool


def load_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """The fast tokenizer of a checkpoint folder, cutting at `max_tokens`, never padding.

    Raises WeightsMismatch if the folder has no readable tokenizer.json.
    """
    path = inside(folder, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust binding raises bare Exception
        raise WeightsMismatch(f"{path} is not a tokenizer ({error}); save a fast tokenizer there") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def tokenize(tokenizer: Tokenizer, text: str) -> Tokens:
    """Thread-safe: the tokenizer is only read."""
    encoding = tokenizer.encode(text)
    return Tokens(np.asarray(encoding.ids, np.int64), truncated=bool(encoding.overflowing))


def collate(units: Sequence[Unit], pad_id: int, upload: Upload = torch.from_numpy) -> tuple[Tensor, Tensor]:
    """Ids and mask where `upload` puts them, each (B, T) int64 with T the longest unit; rows are filled with `pad_id`
    under mask 0.

    Each unit's data are ids (T_i,) int64.
    """
    longest = max(len(unit.data) for unit in units)
    ids = np.full((len(units), longest), pad_id, np.int64)
    mask = np.zeros((len(units), longest), np.int64)
    for row, unit in enumerate(units):
        ids[row, : len(unit.data)] = unit.data
        mask[row, : len(unit.data)] = 1
    return upload(ids), upload(mask)


def positions_of(folder: Path, config: Any) -> int:
    """How many tokens a user's checkpoint reads: its positions, at most 512. Raises WeightsMismatch below 2."""
    positions = getattr(config, "max_position_embeddings", USER_MAX_TOKENS)
    if config.model_type in _OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1  # these count from behind the padding token's id
    if positions < 2:
        raise WeightsMismatch(f"{folder}/config.json leaves {positions} positions for tokens; two are needed")
    return min(int(positions), USER_MAX_TOKENS)
