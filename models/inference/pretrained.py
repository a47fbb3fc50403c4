"""Networks from checkpoint folders in Hugging Face layout, with nothing left to chance.

Left to its defaults the library would load pickles, fetch from a hub, run code from the folder, and fill
missing tensors with random numbers after no more than a log line. Here each of these is refused.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from models.errors import WeightsMismatch
from models.inference.weights import inside, user_weight_files
from models.networks.packed import pack_linears


def load_network(cls: Any, folder: Path, *, may_miss: tuple[str, ...] = (), **options: Any) -> nn.Module:
    """A network of class `cls` (an Auto class or an architecture) from a local folder: fp32, CPU, eval mode.

    `options` go to the network's constructor. Raises WeightsMismatch if the folder holds pickles alone, asks
    for code of its own, lacks tensors (but for names starting with `may_miss`), or has some of another shape.
    """
    config = folder_config(folder)
    if "auto_map" in config:
        raise WeightsMismatch(
            f"{folder}/config.json asks to run code of its own; use a checkpoint without auto_map"
        )
    user_weight_files(folder)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a worker's log is no terminal
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what matters is raised below
    try:
        network, report = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsMismatch(
            f"{folder} cannot be loaded ({error}); check that it is a whole checkpoint"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(may_miss or ("\0",)))
    if missing or report["mismatched_keys"]:
        shapes = sorted(str(key) for key in report["mismatched_keys"])
        raise WeightsMismatch(
            f"{folder} lacks {len(missing)} tensors {missing[:3]} and has {len(shapes)} of another shape "
            f"{shapes[:3]}; use a checkpoint trained for this task: they would be random"
        )
    network.eval()
    network.requires_grad_(False)
    checked: nn.Module = network
    return checked


def placed(network: nn.Module, device: str, dtype: torch.dtype) -> Any:
    """The network on its device; on a CPU its linear layers are laid out for it, and can be neither trained nor saved
    any more."""
    network.to(device, dtype)
    pack_linears(network)
    return network


def folder_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint folder. Raises WeightsMismatch if it is missing or not a JSON object."""
    if not folder.is_dir():
        raise WeightsMismatch(
            f"{folder} is not a folder; name one that holds config.json and model.safetensors"
        )
    path = inside(folder, "config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise WeightsMismatch(f"{path} is not JSON ({error}); fetch the checkpoint anew") from error
    if not isinstance(config, dict):
        raise WeightsMismatch(f"{path} is not a JSON object; fetch the checkpoint anew")
    return config
