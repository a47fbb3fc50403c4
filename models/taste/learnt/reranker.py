"""A small network that orders a reader's candidates anew, learnt from what readers chose as they choose. NumPy alone.

    h1 = relu(x W1 + b1)    h2 = relu(h1 W2 + b2)    score = base + x v + h2 w3
    P(candidate) = exp score / sum over the candidates of one choice

`base` is the score that chose the candidates; v and w3 start at 0, so that before anything is learnt the order is the
old one. The loss of a choice is -log P of what was chosen (listwise softmax: Cao et al. 2007, "Learning to rank: from
pairwise to listwise approach", top-1 case), steps are Adam's (Kingma and Ba 2015, algorithm 1) on groups of choices:
each new group once, and a few drawn from the choices before it, of which a bounded number is kept. A function of the
choices in their order and the seed. Weights are bounded, since odd choices come from the network.

Steps of one size never settle: weights go on wandering around what they should be. With `average` scores are those
of their running mean over groups (Polyak and Juditsky 1992), whose reach grows with what was learnt up to
1 / (1 - average) groups; the steps themselves stay as they are.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8
_BOUND = 50.0  # of any weight
_HEAD = struct.Struct("<4sHHHqq")  # magic, version, features, hidden units, steps, choices
_MAGIC, _VERSION = b"HRRN", 1


@dataclass(frozen=True, slots=True)
class RerankSettings:
    """How the network learns."""

    candidates: int = 120  # K of a choice
    hidden: int = 64
    rate: float = 2e-3
    group: int = 64  # choices a step
    again: int = 3  # steps a new group on choices before it
    kept: int = 50_000  # choices, the oldest leaves
    average: float = (
        0.0  # what the mean of the weights keeps of itself from one group to the next, at most; 0: no mean
    )


class Reranker:
    """Features (F,) of candidates to scores. Not thread-safe.

    Memory: kept choices K x F float16 each; weights (F + 1) hidden + (hidden + 1) hidden + ... float32, and two of each
    for Adam.
    """

    def __init__(self, features: int, settings: RerankSettings, seed: int = 0) -> None:
        """Raises ValueError unless all numbers are at least 1 (`again` 0) and the rate is above 0."""
        counts = (features, settings.candidates, settings.hidden, settings.group, settings.kept)
        if (
            min(counts) < 1
            or settings.again < 0
            or not 0 < settings.rate < 1
            or not 0 <= settings.average < 1
        ):
            raise ValueError(
                "a reranker needs features, candidates, hidden units, choices, a rate in (0, 1) and a mean in [0, 1)"
            )
        self._how, self._features = settings, features
        self._rng = np.random.default_rng(seed)
        wide = settings.hidden
        self._weights: list[F32] = [
            self._drawn(features, wide),
            np.zeros(wide, np.float32),
            self._drawn(wide, wide),
            np.zeros(wide, np.float32),
            np.zeros(wide, np.float32),
            np.zeros(features, np.float32),
        ]
        self._first = [np.zeros_like(w) for w in self._weights]
        self._second = [np.zeros_like(w) for w in self._weights]
        self._mean = [w.copy() for w in self._weights] if settings.average else self._weights
        self._steps = 0
        self.choices = 0
        self._stored = 0  # choices, those that left included
        size = (min(settings.kept, 1024), settings.candidates)
        self._x: F16 = np.zeros((*size, features), np.float16)
        self._base: F32 = np.full(size, -np.inf, np.float32)
        self._chosen = np.zeros(size[0], np.int32)

    def scores(self, x: F32, base: F32) -> F32:
        """(N,) of candidates with features (N, F) and these scores (N,) so far; `-inf` stays."""
        found: F32 = self._forward(x, self._mean)[0] + base
        return found

    def learn(self, x: F32, base: F32, chosen: int) -> None:
        """A reader took candidate `chosen` of N <= K with features (N, F) and base scores (N,)."""
        place = self._stored % self._how.kept
        if place >= len(self._base):
            self._grow()
        count = len(base)
        self._x[place, :count] = x
        self._x[place, count:] = 0
        self._base[place, :count], self._base[place, count:] = base, -np.inf
        self._chosen[place] = chosen
        self.choices += 1
        self._stored += 1
        if self._stored % self._how.group == 0:
            new = (self._stored - np.arange(self._how.group, 0, -1)) % self._how.kept
            self._step(new)
            held = min(self._stored, self._how.kept)
            for _ in range(self._how.again):
                self._step(self._rng.integers(0, held, self._how.group))
            if self._how.average:
                self._take_mean()

    def bytes_used(self) -> int:
        """Of the choices kept."""
        return self._x.nbytes + self._base.nbytes + self._chosen.nbytes

    def encode(self) -> bytes:
        """Weights and the state of their steps; not the choices that are drawn again."""
        sizes = (self._features, self._how.hidden, self._steps, self.choices)
        arrays = self._arrays()
        return _HEAD.pack(_MAGIC, _VERSION, *sizes) + b"".join(array.tobytes() for array in arrays)

    def load(self, value: bytes) -> None:
        """Take an encoded state. Raises BadInput("reranker_layout") for another layout or numbers that no network has;
        the state is then unchanged."""
        arrays = self._arrays()
        if len(value) != _HEAD.size + sum(array.nbytes for array in arrays):
            raise BadInput(
                "reranker_layout", f"{len(value)} bytes are not a network of {self._features} features"
            )
        magic, version, features, hidden, steps, choices = _HEAD.unpack_from(value)
        numbers = np.frombuffer(value, np.float32, offset=_HEAD.size)
        count = sum(weight.size for weight in self._weights)
        sound = (
            np.isfinite(numbers).all()
            and (np.abs(numbers[:count]) <= _BOUND).all()
            and (np.abs(numbers[3 * count :]) <= _BOUND).all()
            and min(steps, choices) >= 0
        )
        if (magic, version, features, hidden) != (_MAGIC, _VERSION, self._features, self._how.hidden) or not (
            sound and (numbers[2 * count : 3 * count] >= 0).all()
        ):
            raise BadInput("reranker_layout", "not a network, or of another version")
        start = 0
        for array in arrays:
            array[:] = numbers[start : start + array.size].reshape(array.shape)
            start += array.size
        self._steps, self.choices = steps, choices

    def _arrays(self) -> tuple[F32, ...]:
        """The whole state: weights, both of Adam's, and the mean if there is one."""
        mean = self._mean if self._how.average else ()
        return (*self._weights, *self._first, *self._second, *mean)

    def _take_mean(self) -> None:
        """Another group counts in the mean of the weights: a fifth of what there were, or as `average` says."""
        groups = self._steps / (1 + self._how.again)
        share = np.float32(max(1 / (1 + groups / 5), 1 - self._how.average))
        for mean, weight in zip(self._mean, self._weights, strict=True):
            mean += share * (weight - mean)

    def _drawn(self, rows: int, columns: int) -> F32:
        """He et al. 2015, for rectifiers."""
        found: F32 = (self._rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)
        return found

    def _grow(self) -> None:
        more = min(self._how.kept, 2 * len(self._base)) - len(self._base)
        self._x = np.concatenate([self._x, np.zeros((more, *self._x.shape[1:]), np.float16)])
        self._base = np.concatenate([self._base, np.full((more, self._base.shape[1]), -np.inf, np.float32)])
        self._chosen = np.append(self._chosen, np.zeros(more, np.int32))

    def _forward(self, x: F32, weights: list[F32]) -> tuple[F32, F32, F32]:
        w1, b1, w2, b2, w3, v = weights
        h1: F32 = np.maximum(x @ w1 + b1, 0)
        h2: F32 = np.maximum(h1 @ w2 + b2, 0)
        found: F32 = h2 @ w3 + x @ v
        return found, h1, h2

    def _step(self, rows: NDArray[np.intp] | NDArray[np.int64]) -> None:
        """One step of Adam on the mean loss of these choices."""
        base = self._base[rows]
        width = int((base > -np.inf).sum(axis=1).max())  # what stands behind it is padding
        base = base[:, :width]
        x = self._x[rows, :width].astype(np.float32).reshape(-1, self._features)
        learnt, h1, h2 = self._forward(x, self._weights)
        scores = base + learnt.reshape(base.shape)
        chance = np.exp(scores - scores.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        chance[np.arange(len(rows)), self._chosen[rows]] -= 1
        slope = (chance / np.float32(len(rows))).reshape(-1)
        _, _, w2, _, w3, _ = self._weights
        s2 = slope[:, None] * w3
        s2[h2 <= 0] = 0
        s1 = s2 @ w2.T
        s1[h1 <= 0] = 0
        self._adam([x.T @ s1, s1.sum(axis=0), h1.T @ s2, s2.sum(axis=0), slope @ h2, slope @ x])

    def _adam(self, slopes: list[F32]) -> None:
        self._steps += 1
        rate = self._how.rate * np.sqrt(1 - _BETA2**self._steps) / (1 - _BETA1**self._steps)
        for weight, first, second, slope in zip(
            self._weights, self._first, self._second, slopes, strict=True
        ):
            first += np.float32(1 - _BETA1) * (slope - first)
            second += np.float32(1 - _BETA2) * (slope * slope - second)
            weight -= np.float32(rate) * first / (np.sqrt(second) + np.float32(_TINY))
            np.clip(weight, -_BOUND, _BOUND, out=weight)
