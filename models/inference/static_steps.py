"""Whisper's decoding by captured graphs: a key-value cache that never moves, and one graph for each bucket of rows and
positions of sound, all of them views of that one cache. Knows no device of its own.

A step of few rows starts some hundreds of kernels that each take less time than their start. In a graph every tensor
has one shape and address: so each row has its own place in its text (`Whisper.step`), attention reads all the room that
there is for text and masks what has not come yet, and rows that end stay until others take their places.
"""

import logging
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from models.inference.captures import Graph, Recorder, Shape
from models.inference.compiles import captured
from models.networks.whisper import Whisper
from models.networks.whisper_cache import Cache

log = logging.getLogger(__name__)

ROWS = (1, 4, 8, 16, 32, 64)
POSITIONS = (500, 750, 1000, 1500)


class StaticSteps:
    """`models.networks.greedy.Steps` of one network. One decoding at a time: they share the cache.

    `replays`, `eager` (decodings by why: `no_bucket`, `no_capture`) and `failures` (shapes that could not be captured,
    and why) say how it went.
    """

    def __init__(
        self, net: Whisper, record: Recorder, rows: Sequence[int] = ROWS, positions: Sequence[int] = POSITIONS
    ) -> None:
        """Buckets, ascending; positions beyond a network's own are left out, its own is always one."""
        self._net = net
        self._record = record
        most = net.shape.positions
        self._buckets = [
            (one, length) for one in rows for length in (*(p for p in positions if p < most), most)
        ]
        self._graphs: dict[Shape, tuple[Cache, Graph]] = {}
        self._held: tuple[Cache, Graph, int] | None = None  # and the rows that count
        self.replays = 0
        self.eager: Counter[str] = Counter()
        self.failures: dict[Shape, str] = {}

    def warm_up(self) -> None:
        """Capture every bucket, largest first: the smaller ones then fit into its memory."""
        whole: Cache | None = None
        for shape in sorted(self._buckets, key=lambda one: (-one[0], -one[1])):
            rows, positions = shape
            tokens = torch.zeros(rows, dtype=torch.int64, device=self._net.tokens.device)
            try:
                whole = whole or self._net.room(rows)
                part = whole.part(rows, positions)
                graph = self._record(lambda given, cache=part: self._net.step(given, cache), (tokens,))
            except RuntimeError as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                self.failures[shape] = reason
                log.warning(
                    "no graph to decode %d rows of %d positions: %s; they run eagerly", *shape, reason
                )
            else:
                self._graphs[shape] = (part, graph)
                captured()

    def hold(self, fresh: Cache) -> Cache:
        """In the smallest bucket that has room; as it is where there is none."""
        count = fresh.at.shape[0]
        fitting = [
            (rows, positions)
            for rows, positions in self._buckets
            if rows >= count and positions >= fresh.positions
        ]
        shape = min(fitting, key=lambda one: one[0] * one[1], default=None)
        found = None if shape is None else self._graphs.get(shape)
        if found is None:
            self.eager["no_bucket" if shape is None else "no_capture"] += 1
            self._held = None
            return fresh
        cache, graph = found
        cache.put(torch.arange(count, device=fresh.at.device), fresh)
        self._held = (cache, graph, count)
        return cache

    def next(self, tokens: Tensor, cache: Cache, reach: int, heard: int) -> Tensor:
        """By the graph if the cache is a bucket's. What it gives is written over by the next step."""
        if self.lets_go(cache) or self._held is None:
            return self._net.step(tokens, cache, reach, heard)
        _, graph, count = self._held
        graph.inputs[0][:count].copy_(tokens)
        graph.replay()
        self.replays += 1
        return graph.output[:count]

    def lets_go(self, cache: Cache) -> bool:
        """Not of a bucket's rows: their number is fixed."""
        return self._held is None or self._held[0] is not cache
