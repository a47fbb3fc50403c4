"""Greedy decoding of a batch of recordings with Whisper: rows end apart and never change each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.whisper import Whisper


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


def decode_greedy(
    net: Whisper, states: Tensor, mask: Tensor | None, prompts: Tensor, limits: Sequence[int], rules: Rules
) -> list[Decoded]:
    """States and mask of `Whisper.encode`, prompts (B, n) -> B rows in order.

    Row b gets at most limits[b] tokens.

    Finished rows leave the batch once they are a quarter of it, so that a long row does not pay for them.
    """
    device = states.device
    rows, width = prompts.shape
    longest = min(max(limits), net.shape.longest_text - width)
    cache = net.start(states, mask, width + longest)
    logits = net.step(prompts, cache)
    no_speech = logits[:, 0].softmax(-1)[:, rules.no_speech].cpu()
    banned = torch.tensor(rules.never, device=device)
    banned_first = torch.tensor([*rules.never, *rules.never_first], device=device)

    texts: list[list[int]] = [[] for _ in range(rows)]
    sums, done = [0.0] * rows, [False] * rows
    active = list(range(rows))  # row of the batch -> row of the answer
    for n in range(longest + 1):
        gains, best = _best(logits[:, -1], banned if n else banned_first)
        chosen = best.tolist()
        for place, row in enumerate(active):
            if done[row]:
                continue
            sums[row] += gains[place]
            # Over its limit a row ends where it is: `cut` says so.
            if chosen[place] == rules.end or len(texts[row]) >= limits[row] or n == longest:
                done[row] = True
                if chosen[place] != rules.end:
                    texts[row].append(-1)
            else:
                texts[row].append(chosen[place])
        left = [place for place, row in enumerate(active) if not done[row]]
        if not left:
            break
        tokens = best[:, None]
        if len(left) <= 0.75 * len(active):
            kept = torch.tensor(left, device=device)
            cache.keep(kept)
            tokens, active = tokens[kept], [active[place] for place in left]
        logits = net.step(tokens, cache)
    return [_decoded(text, total, float(p)) for text, total, p in zip(texts, sums, no_speech, strict=True)]


def _best(logits: Tensor, banned: Tensor) -> tuple[list[float], Tensor]:
    """The likeliest token of each row (B, vocabulary) but the banned ones, and its log-probability. Overwrites them."""
    best = logits.index_fill_(1, banned, -torch.inf).max(-1)
    # Less the largest, a sum of exponentials can neither overflow nor vanish: one pass less than logsumexp.
    rest = logits.sub_(best.values[:, None]).exp_().sum(-1).log()
    return rest.neg().tolist(), best.indices


def likeliest(
    net: Whisper, states: Tensor, mask: Tensor | None, start: int, among: Sequence[int]
) -> list[int]:
    """Which of the tokens `among` each row would say first after `start`: Whisper's guess of the language."""
    tokens = torch.full((states.shape[0], 1), start, device=states.device)
    logits = net.step(tokens, net.start(states, mask, 1))[:, 0, list(among)]
    return [among[n] for n in logits.argmax(-1).tolist()]


def _decoded(text: list[int], total: float, no_speech: float) -> Decoded:
    cut = bool(text) and text[-1] == -1
    steps = len(text) + (0 if cut else 1)
    return Decoded(tuple(text[:-1] if cut else text), total / steps, no_speech, cut)
