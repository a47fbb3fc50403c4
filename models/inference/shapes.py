"""Networks of real shapes with random weights, most as checkpoints in Hugging Face layout: to measure, never to label.

A network's speed does not depend on what its weights say. Written with a seed of their own, so that two runs
measure the same numbers.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from models.networks.whisper import Whisper, WhisperShape
from models.tasks.minilm import minilm_folder

TEXT_SHAPES: dict[str, dict[str, Any]] = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "distilbert": {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
    "distilbert-small": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
}
"""MiniLM-L6 (22.7 M parameters) and DistilBERT (66 M); all read 512 tokens of one vocabulary."""

IMAGE_SHAPES: dict[str, dict[str, Any]] = {
    "vit-base": {},
    "vit-small": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
"""ViT-B/16 (86 M parameters, 224 px), and the least of its kind, for where nothing is measured."""

_V3 = {
    "width": 1280,
    "mels": 128,
    "vocabulary": 51_866,
    "encoder_layers": 32,
    "encoder_heads": 20,
    "encoder_inner": 5120,
    "decoder_heads": 20,
    "decoder_inner": 5120,
}
WHISPER_SHAPES: dict[str, WhisperShape] = {
    "whisper-large-v3-turbo": WhisperShape(**_V3, decoder_layers=4),
    "whisper-large-v3": WhisperShape(**_V3, decoder_layers=32),
    "whisper-tiny": WhisperShape(vocabulary=51_865),
    "whisper-small": WhisperShape(
        width=32,
        vocabulary=600,
        encoder_layers=1,
        decoder_layers=1,
        encoder_heads=2,
        decoder_heads=2,
        encoder_inner=64,
        decoder_inner=64,
    ),
}
"""`whisper-small` here is the least of its kind, for where nothing is measured."""


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


def write_image_classifier(folder: Path, shape: str, seed: int = 0) -> Path:
    """A classifier of 1,000 classes for the task `tag`. Raises KeyError for an unknown shape."""
    from transformers import ViTConfig, ViTForImageClassification

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config: Any = ViTConfig(**IMAGE_SHAPES[shape])
        config.num_labels = 1000
        network: Any = ViTForImageClassification(config)
    network.save_pretrained(folder, safe_serialization=True)
    size, mean = {"height": 224, "width": 224}, [0.5] * 3
    fitting = {
        "image_processor_type": "ViTImageProcessor",
        "size": size,
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": mean,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(fitting), encoding="utf-8")
    return folder


def random_whisper(shape: str, device: str, dtype: torch.dtype, seed: int = 0) -> Whisper:
    """Made on the device: the largest has 1.5 billion parameters. Raises KeyError for an unknown shape."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        network = Whisper(WHISPER_SHAPES[shape])
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    return network.to(dtype).eval().requires_grad_(requires_grad=False)
