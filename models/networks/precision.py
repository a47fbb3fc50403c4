"""Number formats: their names in settings and on labels, and which one a device is quick in."""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str, device: str) -> torch.dtype:
    """The dtype that a setting names; `auto` is bfloat16 where the device computes in it, else float32.

    On a CPU without bf16 instructions bf16 is 20 to 30 times slower than fp32; with them twice as fast.
    Raises ValueError for one that networks are not run in.
    """
    if name == "auto":
        return torch.bfloat16 if _computes_bf16(device) else torch.float32
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """As a label tells it: `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _computes_bf16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # No public question answers this as of torch 2.13.
    return torch.cpu._is_avx512_bf16_supported()
