"""Asks glibc to keep freed memory. Arrays of megabytes come and go with every batch; handed back to the kernel each
time, they are paid for again in page faults (picture tagging 17 -> 41 a second at batch 64, measured on one core).
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEEP_BYTES = 1 << 30
_FROM_HEAP_BYTES = 32 << 20  # glibc refuses more
_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Set the thresholds for this process; False where the C library has no mallopt (then nothing changes)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_THRESHOLD, _FROM_HEAP_BYTES), (_TRIM_THRESHOLD, _KEEP_BYTES), (_TOP_PAD, _PAD_BYTES))
    taken = [
        mallopt(name, value) == 1 for name, value in wanted
    ]  # each is asked for, whatever the others say
    return all(taken)
