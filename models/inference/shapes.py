"""Checkpoints of real shapes with random weights, in Hugging Face layout: to measure, never to label.

A network's speed does not depend on what its weights say. Written with a seed of their own, so that two runs
measure the same numbers.
"""

import shutil
from pathlib import Path
from typing import Any

import torch

from models.tasks.minilm import minilm_folder

TEXT_SHAPES: dict[str, dict[str, Any]] = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "distilbert": {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
}
"""MiniLM-L6 (22.7 M parameters) and DistilBERT (66 M); both read 512 tokens of one vocabulary."""


def write_text_classifier(folder: Path, shape: str, seed: int = 0) -> Path:
    """A classifier of two classes for the task `sentiment`. Raises KeyError for an unknown shape."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DistilBertConfig,
        DistilBertForSequenceClassification,
    )

    given = TEXT_SHAPES[shape]
    names: dict[str, Any] = {
        "id2label": {0: "negative", 1: "positive"},
        "label2id": {"negative": 0, "positive": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: Any = (
            BertForSequenceClassification(BertConfig(**given, **names))  # type: ignore[no-untyped-call]
            if shape == "minilm"
            else DistilBertForSequenceClassification(DistilBertConfig(**given, **names))
        )
    network.save_pretrained(folder, safe_serialization=True)
    shutil.copyfile(minilm_folder() / "tokenizer.json", folder / "tokenizer.json")
    return folder
