"""Names of number formats in settings -> torch's."""

import torch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """The dtype that `LoadOptions.dtype` names. Raises ValueError for any other word."""
    try:
        return _DTYPES[name]
    except KeyError:
        raise ValueError(f"dtype {name!r} is none of {', '.join(_DTYPES)}") from None
