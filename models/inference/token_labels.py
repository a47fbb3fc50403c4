"""A user's token classifier in Hugging Face layout as a finder of entities: BERT, DistilBERT, RoBERTa and their kin.

A word's label is that of its first piece, as these are trained. Labels are plain, BIO or BIOES. Long texts are read in
windows that overlap, so that every word but the first and last of a text has context on both sides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.errors import BadInput, WeightsMismatch
from models.inference.devices import upload_to
from models.inference.mentions import Mention
from models.inference.pretrained import load_network, placed
from models.inference.tokens import collate, load_tokenizer, positions_of
from models.inference.weights import user_model_info
from models.networks.precision import dtype_name, torch_dtype
from models.types import LoadOptions, Unit

I64 = NDArray[np.int64]

OUTSIDE = "O"
_CONTEXT_TOKENS = 32  # that a window shares with its neighbour on each side, at most an eighth of the window


@dataclass(frozen=True, slots=True)
class Tag:
    """A label in its parts: `kind` is None outside; `place` is B, I, E or S, or "" of a label without one."""

    place: str
    kind: str | None


@dataclass(frozen=True, slots=True)
class Word:
    """Characters [start, end) of a text, the tag of its first piece, and how likely that is."""

    start: int
    end: int
    tag: Tag
    score: float


@dataclass(frozen=True, slots=True)
class _Window:
    """`ids` (T,) with special tokens; of the words that count here the place of the first piece in `ids`, and where
    they stand in the text."""

    ids: I64
    firsts: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class TokenLabels:
    """See `models.inference.mentions.Finder`. A unit is one window of a text."""

    batch_cost = 2048  # padded tokens, as for other classifiers of texts
    longest = "good "

    def __init__(
        self, network: Any, tokenizer: Tokenizer, most: int, tags: Sequence[Tag], model: Any
    ) -> None:
        self.model = model
        self.languages: frozenset[str] | None = None
        self._network = network
        self._tokenizer = tokenizer
        self._tags = tags
        around = tokenizer.encode("a")
        inner = [at for at, special in enumerate(around.special_tokens_mask) if not special]
        self._before, self._after = around.ids[: inner[0]], around.ids[inner[-1] + 1 :]
        self._most = most - len(self._before) - len(self._after)
        self._pad_id = network.config.pad_token_id or 0

    @classmethod
    def load(cls, options: LoadOptions, folder: Path) -> "TokenLabels":
        """The checkpoint in a folder. Raises WeightsMismatch, also if its labels name no kind of entity."""
        from transformers import AutoModelForTokenClassification

        dtype = torch_dtype(options.dtype, options.device)
        network = placed(load_network(AutoModelForTokenClassification, folder), options.device, dtype)
        config = network.config
        tags = [tag_of(str(config.id2label[at])) for at in sorted(config.id2label)]
        if not any(tag.kind for tag in tags) or all(tag.kind for tag in tags):
            raise WeightsMismatch(
                f"{folder}/config.json names no labels of entities; give O beside labels such as B-PER and I-PER"
            )
        most = positions_of(folder, config)
        tokenizer = load_tokenizer(folder, most)
        tokenizer.no_truncation()
        if most < 8:
            raise WeightsMismatch(f"{folder}/config.json leaves {most} positions for tokens; 8 are needed")
        return cls(network, tokenizer, most, tags, user_model_info(folder, dtype_name(dtype)))

    def pieces(self, text: str) -> list[Unit]:
        """The windows of a text, cut between words."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words: list[
            tuple[int, int, int, int]
        ] = []  # first piece, one behind the last, characters [start, end)
        before = None
        for at, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is not None and word == before:
                first, _, begins, _ = words[-1]
                words[-1] = (first, at + 1, begins, end)
            else:
                words.append((at, at + 1, start, end))
            before = word
        return [self._unit(encoding.ids, *window) for window in self._windows(words, len(encoding.ids))]

    def _windows(
        self, words: Sequence[tuple[int, int, int, int]], tokens: int
    ) -> Iterable[tuple[int, int, Sequence[tuple[int, int, int, int]]]]:
        """Tokens [start, end) of each window, and the words that count in it."""
        if tokens <= self._most:
            yield 0, tokens, words
            return
        context = min(_CONTEXT_TOKENS, self._most // 8)
        core = self._most - 2 * context
        at = 0
        while at < len(words):
            start = words[at][0]
            here = at
            while here < len(words) and words[here][1] - start <= core:
                here += 1
            here = max(here, at + 1)  # a word longer than a window is judged by its beginning
            yield max(0, start - context), min(words[here - 1][1] + context, tokens), words[at:here]
            at = here

    def _unit(
        self, ids: Sequence[int], start: int, end: int, words: Sequence[tuple[int, int, int, int]]
    ) -> Unit:
        inner = list(ids[start : min(end, start + self._most)])
        taken = np.asarray([*self._before, *inner, *self._after], np.int64)
        firsts = tuple(len(self._before) + first - start for first, _, _, _ in words)
        return Unit(len(taken), _Window(taken, firsts, tuple((begins, ends) for _, _, begins, ends in words)))

    def find(self, units: Sequence[Unit]) -> list[list[Mention]]:
        """What each window names. Raises BadInput `not_finite`."""
        device = next(self._network.parameters()).device
        ids, mask = collate(
            [Unit(unit.length, unit.data.ids) for unit in units], self._pad_id, upload_to(str(device))
        )
        with torch.inference_mode():
            logits = self._network(input_ids=ids, attention_mask=mask).logits.float()
            best, labels = (part.cpu().numpy() for part in logits.softmax(-1).max(-1))
        found = []
        for row, unit in enumerate(units):
            window: _Window = unit.data
            firsts = list(window.firsts)
            if not np.isfinite(best[row, firsts]).all():
                raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
            found.append(
                mentions_of(
                    [
                        Word(start, end, self._tags[labels[row, at]], float(best[row, at]))
                        for at, (start, end) in zip(firsts, window.spans, strict=True)
                    ]
                )
            )
        return found


def tag_of(label: str) -> Tag:
    """`B-PER`, `I_PER` and the like; L and U of BILOU are E and S; anything else is a kind without a place."""
    if label == OUTSIDE:
        return Tag("", None)
    place, kind = label[:1], label[2:]
    if label[1:2] in ("-", "_") and place in "BIESLU" and kind:
        return Tag({"L": "E", "U": "S"}.get(place, place), kind)
    return Tag("", label)


def mentions_of(words: Sequence[Word]) -> list[Mention]:
    """Neighbouring words of a kind, joined: a B or S begins a mention, an E or S ends one, and so does another kind.

    A mention's score is the mean of its words'.
    """
    found: list[list[Word]] = []
    open_kind = None  # of the mention that the next word may go on with
    for word in words:
        if word.tag.kind is None:
            open_kind = None
            continue
        if word.tag.kind == open_kind and word.tag.place not in ("B", "S"):
            found[-1].append(word)
        else:
            found.append([word])
        open_kind = None if word.tag.place in ("E", "S") else word.tag.kind
    return [
        Mention(
            ones[0].start, ones[-1].end, str(ones[0].tag.kind), sum(one.score for one in ones) / len(ones)
        )
        for ones in found
    ]
