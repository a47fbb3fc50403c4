"""Tags by the newsroom's own words: CLIP and SigLIP folders, whose two towers put pictures and texts in one space.

The texts of the labels are embedded once, at the start, and kept in the cache by everything that they hang on; the
text tower is then gone, and a start that finds them never loads it. Radford et al., 2021 (CLIP: one of the labels,
a softmax); Zhai et al., 2023 (SigLIP: each label for itself, a sigmoid).
"""

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipTextModel,
    SiglipVisionModel,
)

from models.errors import WeightsMismatch
from models.inference.configuration import read_json
from models.inference.pretrained import folder_config, load_network
from models.inference.tokens import load_tokenizer
from models.inference.weights import converted, load_checked, user_model_info, user_weight_files
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.tag_folder import Pictures
from models.types import Json, LoadOptions, ModelInfo

FAMILIES = ("clip", "siglip")
DEFAULT_TEMPLATE = "This is a photo of {}."
MOST_LABELS, MOST_TEXTS, MOST_CHARS = 2_000, 20, 300
_CACHE, _CACHE_REVISION = "zero-shot-texts", "1"  # rises when a text would get other numbers
_TEXTS_AT_ONCE = 32
_TOWERS = {
    ("clip", "text"): CLIPTextModelWithProjection,
    ("clip", "vision"): CLIPVisionModelWithProjection,
    ("siglip", "text"): SiglipTextModel,
    ("siglip", "vision"): SiglipVisionModel,
}


@dataclass(frozen=True, slots=True)
class LabelTexts:
    """`texts[n]`: what stands for the label `names[n]`, finished sentences; the mean of several is taken."""

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]

    def key(self) -> str:
        """Of names and texts in their order: equal keys, equal answers."""
        return hashlib.sha256(json.dumps([self.names, self.texts]).encode()).hexdigest()


def label_texts(options: Mapping[str, Json]) -> LabelTexts:
    """Options `labels` (a list of names, or name -> text or texts) and `template` (one or several, each with a {}).

    Raises ValueError.
    """
    labels, template = options.get("labels"), options.get("template", DEFAULT_TEMPLATE)
    if isinstance(labels, list):
        labels = (
            dict(zip(map(str, labels), labels, strict=True))
            if len(set(map(str, labels))) == len(labels)
            else None
        )
    if not isinstance(labels, dict) or not 2 <= len(labels) <= MOST_LABELS:
        raise ValueError(
            f"tag: labels is a list of 2 to {MOST_LABELS} different names, or a table of names with their texts"
        )
    templates = template if isinstance(template, list) else [template]
    if not 1 <= len(templates) <= MOST_TEXTS or any(
        not isinstance(one, str) or one.count("{}") != 1 for one in templates
    ):
        raise ValueError(
            f"tag: template {template!r} is no text, or list of texts, with one {{}} for the label"
        )
    found = []
    for name, said in labels.items():
        words = said if isinstance(said, list) else [said]
        if not name.strip() or not 1 <= len(words) <= MOST_TEXTS or not all(map(_is_words, words)):
            raise ValueError(
                f"tag: label {name!r} has {said!r}, expected a text of up to {MOST_CHARS} characters"
            )
        found.append(tuple(str(one).replace("{}", str(word)) for word in words for one in templates))
    return LabelTexts(tuple(labels), tuple(found))


def _is_words(said: Json) -> bool:
    return isinstance(said, str) and bool(said.strip()) and len(said) <= MOST_CHARS


class ZeroShotTagger:
    """A CLIP or SigLIP folder: config.json, preprocessor_config.json, tokenizer.json, model.safetensors."""

    def __init__(self, options: LoadOptions, folder: Path, max_units: int) -> None:
        """Raises WeightsMismatch, and ValueError as `label_texts` and for a label too long for the text tower."""
        labels = label_texts(options.options)
        dtype, device = torch_dtype(options.dtype, options.device), options.device
        family = str(folder_config(folder)["model_type"])
        # CLIP's softmax is over the labels; SigLIP scores each for itself.
        self.exclusive = family == "clip"
        network = _tower(folder, family, "vision")
        self._network = network.to(device, dtype)
        self._pictures = Pictures(folder, device, dtype)
        self.fit, self.side_px, self.pixels = (
            self._pictures.fit,
            self._pictures.side_px,
            self._pictures.pixels,
        )
        self.max_units, self.classes = max_units, list(labels.names)
        numbers = _scalars(folder, ("logit_scale",) if family == "clip" else ("logit_scale", "logit_bias"))
        self._scale, self._bias = float(np.exp(numbers["logit_scale"])), numbers.get("logit_bias", 0.0)
        info = user_model_info(folder, dtype_name(dtype))
        self._texts = _embedded(options.cache, folder, family, info, labels).to(device)
        self.info = ModelInfo(info.name, f"{info.revision}-{labels.key()[:8]}", info.sha256, info.dtype)

    def scores(self, batch: NDArray[Any]) -> Tensor:
        """(B, ...) as `fit` gives them -> (B, labels)."""
        logits = self.logits(batch)
        return logits.softmax(-1) if self.exclusive else logits.sigmoid()

    def logits(self, batch: NDArray[Any]) -> Tensor:
        """Scaled cosines (B, labels) fp32."""
        found = self._network(pixel_values=self._pictures.to_device(batch))
        seen = (found.image_embeds if self.exclusive else found.pooler_output).float()
        return _unit(seen) @ self._texts.T * self._scale + self._bias


def _embedded(cache: Path, folder: Path, family: str, info: ModelInfo, labels: LabelTexts) -> Tensor:
    """A unit vector a label (labels, width) fp32, from the cache if they have been embedded before."""
    everything = "\n".join((_CACHE_REVISION, info.sha256, info.revision, labels.key()))
    made = converted(
        cache,
        _CACHE,
        hashlib.sha256(everything.encode()).hexdigest()[:24],
        lambda: {"texts": _embed(folder, family, labels)},
        licence="as the checkpoint",
        source=f"{info.name} {info.revision}",
    )
    tensors, _ = load_checked(made)
    return tensors["texts"]


def _embed(folder: Path, family: str, labels: LabelTexts) -> Tensor:
    """On the CPU in fp32, whatever the device: the same vectors for every worker."""
    network = _tower(folder, family, "text")
    positions = int(network.config.max_position_embeddings)
    tokenizer = load_tokenizer(folder, positions)
    said = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    pad = _pad_id(tokenizer, said, network.config)
    sentences = [text for texts in labels.texts for text in texts]
    if family == "siglip":
        sentences = [_as_trained(text, str(said.get("tokenizer_class"))) for text in sentences]
    rows = [tokenizer.encode(text) for text in sentences]
    for text, row in zip(sentences, rows, strict=True):
        if row.overflowing:
            raise ValueError(f"tag: {text!r} is longer than the {positions} tokens that {folder.name} reads")
    # SigLIP was trained on rows filled to the end without a mask, and reads its answer off the last place.
    width = positions if family == "siglip" else max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        mask[at, : len(row.ids)] = 1
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(rows), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            if family == "clip":
                vectors.append(network(input_ids=ids[part], attention_mask=mask[part]).text_embeds)
            else:
                vectors.append(network(input_ids=ids[part]).pooler_output)
    groups = torch.split(_unit(torch.cat(vectors)), [len(texts) for texts in labels.texts])
    found = _unit(torch.stack([group.mean(0) for group in groups]))
    if not found.isfinite().all():
        raise WeightsMismatch(f"{folder} gives label texts that are not finite; fetch the checkpoint anew")
    return found


def _tower(folder: Path, family: str, part: str) -> Any:
    """One of the two networks, with its projection. Raises WeightsMismatch."""
    try:
        whole = (CLIPConfig if family == "clip" else SiglipConfig).from_pretrained(
            folder, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsMismatch(f"{folder}/config.json is no {family} configuration ({error})") from error
    config = getattr(whole, f"{part}_config")
    if family == "clip":
        config.projection_dim = whole.projection_dim  # converted folders leave the parts at a default of 512
    return load_network(_TOWERS[family, part], folder, config=config)


def _as_trained(text: str, tokenizer_class: str) -> str:
    """Lower case, and for the first SigLIP without punctuation, which its own slow tokenizer sees to."""
    text = text.lower()
    if tokenizer_class.startswith("SiglipTokenizer"):
        text = text.translate(str.maketrans("", "", string.punctuation))
    return " ".join(text.split())


def _pad_id(tokenizer: Tokenizer, said: Mapping[str, Any], config: Any) -> int:
    """Of the tokenizer rather than of config.json, which SigLIP 2's folders leave at the first SigLIP's."""
    token = said.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    found = tokenizer.token_to_id(name) if isinstance(name, str) else None
    return int(found if found is not None else config.pad_token_id or 0)


def _scalars(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Single numbers among a checkpoint's tensors. Raises WeightsMismatch if one is not there."""
    found: dict[str, float] = {}
    for path in user_weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in set(names) & set(file.keys()):
                found[name] = float(file.get_tensor(name).float().reshape(-1)[0])
    if len(found) < len(names):
        raise WeightsMismatch(f"{folder} lacks {sorted(set(names) - set(found))}; it is no whole checkpoint")
    return found


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
