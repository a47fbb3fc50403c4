"""Texts -> vectors: where a text lies among others, as 384 numbers at length 1. Feeds the recommender.

The embedded default is all-MiniLM-L6-v2, mean of its tokens; a user's folder may hold any encoder in Hugging
Face layout, with the pooling that a sentence-transformers folder names. Vectors of different revisions do not
compare: keep the label's `model.revision` beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.errors import BadInput, WeightsMismatch
from models.inference.captures import Blank, Captures
from models.inference.configuration import read_json
from models.inference.devices import batch_cost_on, captures_of, upload_to
from models.inference.pretrained import load_network, placed
from models.inference.tokens import collate, load_tokenizer, positions_of, tokenize
from models.inference.weights import inside, user_model_info
from models.media.text import decode_text, normalised
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.minilm import (
    MAX_TOKENS,
    NAME,
    PAD_ID,
    SHA256,
    WIDTH,
    load_minilm,
    load_minilm_tokenizer,
    masked_mean,
)
from models.tasks.texts import accepts_text
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

F32 = NDArray[np.float32]

REVISION = "mean-256-1"
"""Of the embedded vectors: pooling, tokens read, and a number that rises whenever they would change."""

_BATCH_COST = 2048  # padded tokens: enough to fill a core
_DECIMALS = 6  # of a published vector: 3e-6 off in the cosine, a third of the bytes


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A text encoder with its pooling. `pool`: hidden (B, T, D), mask (B, T) -> (B, D) fp32."""

    network: nn.Module
    tokenizer: Tokenizer
    pad_id: int
    width: int
    model: ModelInfo
    pool: Callable[[Tensor, Tensor], Tensor]
    device: str
    runner: Captures = field(init=False)

    def __post_init__(self) -> None:
        blanks = (Blank(self.pad_id), Blank(0))
        object.__setattr__(self, "runner", captures_of(self.pooled, blanks, self.device, _BATCH_COST))

    @classmethod
    def load(cls, options: LoadOptions) -> "SentenceEncoder":
        """The embedded MiniLM, or the encoder in `options.folder`. Raises WeightsMismatch."""
        dtype = torch_dtype(options.dtype, options.device)
        if options.folder is not None:
            return _user(options, options.folder, dtype)
        model = ModelInfo(NAME, REVISION, SHA256, dtype_name(dtype))
        network = placed(load_minilm(), options.device, dtype)
        tokenizer = load_minilm_tokenizer(MAX_TOKENS)
        return cls(network, tokenizer, PAD_ID, WIDTH, model, masked_mean, options.device)

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, D) fp32 on the device, of ids and mask (B, T)."""
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(self.pool(hidden, mask), dim=1)

    def encode(self, units: Sequence[Unit]) -> F32:
        """Unit vectors (B, D) of units whose data are token ids (T_i,) int64."""
        with torch.inference_mode():
            found = self.runner.run(*collate(units, self.pad_id, upload_to(self.device)))
        vectors: F32 = found.float().cpu().numpy()
        return vectors

    def vectors(self, texts: Sequence[str]) -> F32:
        """Unit vectors (N, D) of texts, in order; zeros for a text without a character that can be read.

        By length in batches of 2,048 padded tokens: about 100 sentences a second and core in fp32. A function
        of the texts alone, to rounding (1e-6 in fp32, whatever stands beside a text). Raises BadInput
        `not_finite`.
        """
        found = np.zeros((len(texts), self.width), np.float32)
        read = [normalised(text) for text in texts]
        ids = {at: tokenize(self.tokenizer, text).ids for at, text in enumerate(read) if text}
        order = sorted(ids, key=lambda at: -len(ids[at]))
        while order:
            fit = max(1, _BATCH_COST // len(ids[order[0]]))
            batch, order = order[:fit], order[fit:]
            found[batch] = self.encode([Unit(len(ids[at]), ids[at]) for at in batch])
        if not np.isfinite(found).all():
            raise BadInput("not_finite", f"{self.model.name} gave a vector that is not finite")
        return found


@cache
def default_encoder() -> SentenceEncoder:
    """The embedded encoder in fp32 on the CPU, loaded once a process. Raises WeightsMismatch."""
    return SentenceEncoder.load(LoadOptions(cache=Path()))  # nothing of it is converted


def vectors(texts: Sequence[str]) -> F32:
    """Unit vectors (N, 384) of texts by the embedded encoder, as `SentenceEncoder.vectors`; revision `REVISION`."""
    return default_encoder().vectors(texts)


class Embed:
    """The task; see `models.types.Task`. A unit is one text's token ids (T,) int64, its output a row (D,)."""

    name = "embed"
    batch_cost = _BATCH_COST
    max_units = 256

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.model = encoder.model
        self.encoder = encoder
        self.captures = (encoder.runner,)
        self.batch_cost = batch_cost_on(encoder.device, _BATCH_COST)

    @classmethod
    def load(cls, options: LoadOptions) -> "Embed":
        """Raises WeightsMismatch."""
        return cls(SentenceEncoder.load(options))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text."""
        return accepts_text(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """Raises BadInput: too_large, undecodable, empty."""
        tokens = tokenize(self.encoder.tokenizer, decode_text(payload.data))
        return Prepared((Unit(len(tokens.ids), tokens.ids),), context=tokens.truncated)

    def forward(self, units: Sequence[Unit]) -> list[F32]:
        """One unit vector (D,) a text, in order."""
        return list(self.encoder.encode(units))

    def finish(self, prepared: Prepared, outputs: Sequence[F32]) -> Outcome:
        """One finding whose value is the vector, to six decimals. Raises BadInput `not_finite`."""
        if not np.isfinite(outputs[0]).all():
            raise BadInput("not_finite", f"{self.model.name} gave a vector that is not finite")
        value: Any = [round(float(number), _DECIMALS) for number in outputs[0]]
        detail: Any = {"truncated": prepared.context, "tokens": prepared.units[0].length}
        return Outcome((Finding(self.name, value, detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """One word alone; a full batch of short texts; a batch of the longest."""
        longest = " ".join(["good"] * 2 * MAX_TOKENS)
        texts = ["good", *["a fine day"] * 64, *[longest] * 8]
        return [Payload("text/plain", text.encode()) for text in texts]


def _user(options: LoadOptions, folder: Path, dtype: torch.dtype) -> SentenceEncoder:
    from transformers import AutoModel  # costly to import, and only a user's own checkpoint needs it

    network = load_network(AutoModel, folder, may_miss=("pooler.",))
    config: Any = network.config
    model, pool = user_model_info(folder, dtype_name(dtype)), _user_pooling(folder)
    if pool is _first:
        model = replace(model, revision=f"{model.revision}-cls")  # other vectors of the same files
    return SentenceEncoder(
        network=placed(network, options.device, dtype),
        tokenizer=load_tokenizer(folder, positions_of(folder, config)),
        pad_id=config.pad_token_id or 0,
        width=int(config.hidden_size),
        model=model,
        pool=pool,
        device=options.device,
    )


def _user_pooling(folder: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """What `1_Pooling/config.json` names, else the mean. Raises WeightsMismatch for another than mean or cls."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return masked_mean
    said = read_json(inside(folder, "1_Pooling/config.json"))
    chosen = sorted(name for name, on in said.items() if name.startswith("pooling_mode_") and on is True)
    if chosen == ["pooling_mode_mean_tokens"]:
        return masked_mean
    if chosen == ["pooling_mode_cls_token"]:
        return _first
    raise WeightsMismatch(f"{path} asks for {chosen}; the mean or the first token can be pooled")


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0].float()
