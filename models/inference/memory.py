"""How much memory models take, and which of them give way when another is wanted. The decisions are pure."""

import gc
from collections.abc import Collection, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType

import torch


def weights_bytes(task: object) -> int:
    """Of all tensors that a task holds, in its attributes, their closures and so on; shared memory counts once."""
    found: dict[tuple[str, int], int] = {}
    seen: set[int] = set()
    left: list[object] = [task]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType, BuiltinFunctionType)):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor) and one.is_mkldnn:  # laid out by oneDNN: it shows no storage
            found["packed", id(one)] = one.numel() * one.element_size()
        elif isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            found[str(one.device), storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, FunctionType):  # not its globals: they lead everywhere
            left += one.__closure__ or ()
            left += one.__defaults__ or ()
        else:
            left += gc.get_referents(one)
    return sum(found.values())


def release() -> None:
    """Give back what was freed: to the allocator, and on CUDA to the device."""
    frozen = gc.get_freeze_count() > 0
    if frozen:  # a model that goes is among it
        gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def victims(
    wanted_bytes: int,
    limit_bytes: int,
    loaded: Mapping[str, int],
    used_s: Mapping[str, float],
    busy: Collection[str],
) -> list[str] | None:
    """Whom to unload, longest unused first, so that `wanted_bytes` more fit; None while those who are busy hold the
    room. `loaded`: name -> bytes; `used_s`: when each was last asked for."""
    free = limit_bytes - sum(loaded.values())
    chosen: list[str] = []
    for name in sorted((name for name in loaded if name not in busy), key=lambda name: used_s.get(name, 0.0)):
        if free >= wanted_bytes:
            break
        free += loaded[name]
        chosen.append(name)
    return chosen if free >= wanted_bytes or (wanted_bytes > limit_bytes and not busy) else None
