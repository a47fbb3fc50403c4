"""Python's garbage collector, as a worker wants it. Reference counts free nearly all; only cycles are the collector's.

A group of clicks makes some 100,000 small objects that all die with it. By default the collector walks over the young
ones each time 700 have come: a third of what lists cost.
"""

import gc

YOUNG = 50_000  # objects after which the young ones are looked through: some milliseconds, and rare


def settle() -> None:
    """What lives now lives for ever: spare every later collection the walk over it. Call it after each large load."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
