"""Greedy decoding of recordings with Whisper: rows end apart, others take their places, and none changes another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from models.networks.whisper import Whisper
from models.networks.whisper_cache import Cache


@dataclass(frozen=True, slots=True)
class Rules:
    """Tokens that steer decoding."""

    end: int
    no_speech: int
    never: tuple[int, ...]  # suppressed at every step
    never_first: tuple[int, ...]  # suppressed as the first token as well


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row: text tokens without prompt and end; mean log-probability of them and the end (0 is certain);
    probability that there is no speech; whether the limit of tokens ended it."""

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech: float
    cut: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """Recordings as `Whisper.encode` gives them: states (B, P, D), mask (B, 1, 1, P), and their prompts (B, n)."""

    states: Tensor
    mask: Tensor | None
    prompts: Tensor


Encode = Callable[[Sequence[int]], Encoded]
"""Recordings by their numbers, when their turn comes. All prompts are of one length."""


class Steps(Protocol):
    """How rows are decoded side by side."""

    def hold(self, fresh: Cache) -> Cache:
        """The cache in which these rows go on, and later those that take their places."""
        ...

    def next(self, tokens: Tensor, cache: Cache, reach: int, heard: int) -> Tensor:
        """As `Whisper.step`, (B,) -> (B, vocabulary): for so many rows as were held first, or were kept since."""
        ...

    def lets_go(self, cache: Cache) -> bool:
        """Whether `Cache.keep` may drop rows of it."""
        ...


class FreeSteps:
    """As large as what is decoded, and smaller when rows have ended: for a device to which shapes are all one."""

    def __init__(self, net: Whisper) -> None:
        self._net = net

    def hold(self, fresh: Cache) -> Cache:
        return fresh

    def next(self, tokens: Tensor, cache: Cache, reach: int, heard: int) -> Tensor:
        return self._net.step(tokens, cache, reach, heard)

    def lets_go(self, cache: Cache) -> bool:
        return True


# Places are filled anew once so many of them are free: to encode and begin one row at a time costs more steps' starts.
_FREE_SHARE = 0.25


@dataclass(slots=True)
class _Row:
    number: int
    limit: int
    no_speech: float
    heard: int  # positions of sound
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    done: bool = False
    cut: bool = False

    def add(self, token: int, gain: float, end: int) -> None:
        """Over its limit a row ends where it is: `cut` says so."""
        if self.done:
            return
        self.logprob += gain
        self.cut = token != end and len(self.tokens) >= self.limit
        self.done = token == end or self.cut
        if not self.done:
            self.tokens.append(token)

    def decoded(self) -> Decoded:
        return Decoded(tuple(self.tokens), self.logprob / (len(self.tokens) + 1), self.no_speech, self.cut)


class GreedyDecoder:
    """Decodes any number of recordings in `places` rows: whose text ends leaves, and those that wait take its place.

    What is asked for last has no more positions of sound than what is asked for first: the first rows make the room.
    `steps`: how many the decoder has run, each of them a pass over all its weights.
    """

    def __init__(self, net: Whisper, rules: Rules, places: int, steps: Steps | None = None) -> None:
        """`places`, at least 1: how many rows memory allows. `steps` of this network; None: free ones."""
        self._net = net
        self._steps = steps or FreeSteps(net)
        self._rules = rules
        self._places = places
        device = net.tokens.device
        self._banned = torch.tensor(rules.never, device=device)
        self._banned_first = torch.tensor([*rules.never, *rules.never_first], device=device)
        self.steps = 0

    def decode(self, encode: Encode, limits: Sequence[int]) -> list[Decoded]:
        """So many recordings as there are limits, in order; recording b gets at most limits[b] tokens."""
        if not limits:
            return []
        waiting = list(range(len(limits)))[::-1]
        answers: dict[int, Decoded] = {}
        room = max(limits)
        rows, fresh_cache, tokens = self._begin(encode, limits, waiting, self._places, room)
        prompt, cache = int(fresh_cache.at[0]), self._steps.hold(fresh_cache)
        while True:
            answers.update((row.number, row.decoded()) for row in rows if row.done)
            free = [place for place, row in enumerate(rows) if row.done]
            if waiting and len(free) >= _FREE_SHARE * len(rows):
                fresh, other, first = self._begin(encode, limits, waiting, len(free), room)
                places = torch.tensor(free[: len(fresh)], device=tokens.device)
                cache.put(places, other)
                tokens[places] = first
                for place, row in zip(free, fresh, strict=False):
                    rows[place] = row
                continue  # some may have ended at once
            left = [place for place, row in enumerate(rows) if not row.done]
            if not left:
                return [answers[number] for number in range(len(limits))]
            if not waiting and len(left) <= (1 - _FREE_SHARE) * len(rows) and self._steps.lets_go(cache):
                kept = torch.tensor(left, device=tokens.device)
                cache.keep(kept)
                tokens, rows = tokens[kept], [rows[place] for place in left]
            live = [row for row in rows if not row.done]
            reach = prompt + max(len(row.tokens) for row in live)
            logits = self._steps.next(tokens, cache, reach, max(row.heard for row in live))
            self.steps += 1
            gains, tokens = _best(logits, self._banned)
            for row, token, gain in zip(rows, tokens.tolist(), gains, strict=True):
                row.add(token, gain, self._rules.end)

    def _begin(
        self, encode: Encode, limits: Sequence[int], waiting: list[int], most: int, room: int
    ) -> tuple[list[_Row], Cache, Tensor]:
        """The next ones that wait, at most so many, with room for `room` tokens, and the first token of each (B,)."""
        numbers = [waiting.pop() for _ in range(min(most, len(waiting)))]
        given = encode(numbers)
        width = given.prompts.shape[1]
        longest = self._net.shape.longest_text - width
        cache = self._net.start(given.states, given.mask, width + min(room, longest))
        logits = self._net.prompt(given.prompts, cache)
        no_speech = logits[:, 0].softmax(-1)[:, self._rules.no_speech].tolist()
        gains, tokens = _best(logits[:, -1], self._banned_first)
        heard = given.states.shape[1]
        rows = [
            _Row(number, min(limits[number], longest), p, heard)
            for number, p in zip(numbers, no_speech, strict=True)
        ]
        for row, token, gain in zip(rows, tokens.tolist(), gains, strict=True):
            row.add(token, gain, self._rules.end)
        return rows, cache, tokens


def decode_greedy(
    net: Whisper, states: Tensor, mask: Tensor | None, prompts: Tensor, limits: Sequence[int], rules: Rules
) -> list[Decoded]:
    """States and mask of `Whisper.encode`, prompts (B, n) -> B rows in order, all at once."""
    given = Encoded(states, mask, prompts)
    return GreedyDecoder(net, rules, states.shape[0]).decode(lambda _: given, limits)


def _best(logits: Tensor, banned: Tensor) -> tuple[list[float], Tensor]:
    """The likeliest token of each row (B, vocabulary) but the banned ones, and its log-probability. Overwrites them."""
    logits.index_fill_(1, banned, -torch.inf)
    if logits.device.type == "cpu":  # where torch's search takes 13 times as long as NumPy's
        places = torch.from_numpy(logits.numpy().argmax(1))
        largest = logits.gather(1, places[:, None])
    else:
        largest, places = logits.max(-1)
        largest = largest[:, None]
    # Less the largest, a sum of exponentials can neither overflow nor vanish: one pass less than logsumexp.
    rest = logits.sub_(largest).exp_().sum(-1).log()
    return rest.neg().tolist(), places


def likeliest(
    net: Whisper, states: Tensor, mask: Tensor | None, start: int, among: Sequence[int]
) -> list[int]:
    """Which of the tokens `among` each row would say first after `start`: Whisper's guess of the language."""
    tokens = torch.full((states.shape[0], 1), start, device=states.device)
    logits = net.prompt(tokens, net.start(states, mask, 1))[:, 0, list(among)]
    return [among[n] for n in logits.argmax(-1).tolist()]
