"""Trains a head for spoken digits on strings made up of recordings of single ones, with speakers held out.

    data       `{digit}_{speaker}_{take}.wav`, as the free spoken digit dataset has them (6 speakers, 3,000 clips)
    split      by speaker: one or more are only in the test, and with `validation` others only in the validation; else
               the validation is every tenth take of those that are learnt from
    features   the embedded Whisper tiny.en after its first layers, frozen: it has heard more voices than any data here
    strings    of one to four digits, more or less changed (see `models.train.spoken`), made and encoded once
    head       384 -> 128, a convolution over 5 states, 11 outputs, one every 40 ms: 0.13 M parameters
    training   CTC, AdamW 8e-3, weight decay 0.02, 5 % warm-up then cosine to 0, clip 5; the blank starts unlikely,
               or the head takes long to say anything else
    judged     from three quarters of the steps on, on the validation; the best state is kept

Seeded: the same machine, torch and thread count give the same weights. Minutes on one core.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import BadInput
from models.evaluate.labelled import Share, share_of
from models.evaluate.words import align
from models.inference.ctc_files import OWN, Encoder
from models.inference.weights import Manifest, write_weights
from models.media.edged import features
from models.networks.ctc import BLANK, CtcHead, CtcShape, heard
from models.train.spoken import DIGITS, Clips, Said, Strings, plain_strings, single_clips

NAME = "digits-ctc"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENCODER_LAYERS = 3
SHAPE = CtcShape(tokens=DIGITS + 1)
CLIP_NORM = 5.0
VALIDATION_TAKES = 10  # every tenth
STRINGS = 200  # for judging
ENCODED_ROWS = 10
NORMED = 4  # every fourth string's states give their mean and spread


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained. Shares are of all steps.

    `strings` of each speaker are made, of as many digits as `digits` says in turn; for the share `short` only those of
    one or two are learnt from. `rows`: strings in a batch.
    """

    strings: int = 480
    digits: tuple[int, ...] = (1, 1, 2, 3, 4)
    steps: int = 600
    shape: CtcShape = SHAPE
    learning_rate: float = 8e-3
    weight_decay: float = 0.02
    dropout: float = 0.2
    rows: int = 32
    warm_up: float = 0.05
    short: float = 0.1
    blank_bias: float = -1.0
    judged_from: float = 0.75
    judged: int = 4  # times


@dataclass(frozen=True, slots=True)
class Progress:
    """One line for the person who waits: strings made, and after that steps. `validation`: share of wrong digits,
    towards the end."""

    done: int
    of: int
    loss: float | None = None
    validation: float | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder makes of a recording, (P, W), and its digits."""

    states: Tensor
    digits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of wrong digits (substituted, left out, put in, of those spoken): in strings of 3 to 7, in single clips.

    `confusion`: spoken x heard of single clips; the last column counts nothing or several.
    """

    speakers: tuple[str, ...]
    recordings: int
    strings: Share
    clips: Share
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class TrainedDigits:
    """What was written and how good it is on each part; the test speakers were heard once, at the end."""

    folder: Path
    manifest: Manifest
    steps: int
    train: Split
    validation: Split
    test: Split


def train_digits(
    clips: Clips,
    encoder: Encoder,
    out: Path,
    *,
    revision: str,
    test: Sequence[str],
    validation: Sequence[str] = (),
    recipe: Recipe = Recipe(),
    seed: int = 1,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainedDigits:
    """Train, and write fp16 weights, their manifest and config.json into the folder `out` (made if absent).

    Takes torch's thread count as it finds it. Raises BadInput `empty` for an unknown speaker, or if none is left.
    """
    parts = split(clips, test, validation)
    # The head's start and dropout draw from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = CtcHead(recipe.shape, recipe.dropout)
        made = made_strings(encoder, parts[0], recipe, seed, progress)
        fit(head, made, to_validate(encoder, parts[1], seed), recipe, seed, progress)
    tensors = {name: value.half() for name, value in head.state_dict().items()}
    head.load_state_dict({name: value.float() for name, value in tensors.items()})  # judged as written
    out.mkdir(parents=True, exist_ok=True)
    learnt = ", ".join(parts[0])
    manifest = write_weights(
        out,
        tensors,
        name=NAME,
        revision=revision,
        licence="of the recordings",
        source=f"models/train/digits.py, seed {seed}, {recipe.steps} steps, speakers {learnt}",
    )
    _write_config(out, recipe.shape, encoder)
    judged = [judge(encoder, head, part, seed + at) for at, part in enumerate(parts, 2)]
    return TrainedDigits(out, manifest, recipe.steps, *judged)


def split(clips: Clips, test: Sequence[str], validation: Sequence[str]) -> tuple[Clips, Clips, Clips]:
    """To train, to validate, to test. Raises BadInput `empty`."""
    unknown = sorted({*test, *validation} - set(clips))
    learnt = {speaker: clips[speaker] for speaker in clips if speaker not in (*test, *validation)}
    if unknown or not learnt or not test or set(test) & set(validation):
        raise BadInput(
            "empty",
            f"cannot test on {', '.join(test) or 'nobody'} and validate on {', '.join(validation) or 'takes'}: "
            f"speakers are {', '.join(sorted(clips))}, of whom some must be left to learn from",
        )
    tested = {speaker: clips[speaker] for speaker in test}
    if validation:
        return learnt, {speaker: clips[speaker] for speaker in validation}, tested
    return _takes(learnt, False), _takes(learnt, True), tested


def _takes(clips: Clips, held_out: bool) -> Clips:
    return {
        speaker: {
            digit: [take for at, take in enumerate(takes) if (at % VALIDATION_TAKES == 0) == held_out]
            or takes[:1]
            for digit, takes in of_digit.items()
        }
        for speaker, of_digit in clips.items()
    }


def made_strings(
    encoder: Encoder, clips: Clips, recipe: Recipe, seed: int, progress: Callable[[Progress], None]
) -> list[Encoded]:
    """Training strings of every speaker, the same whoever the others are; in fp16, since they are of an hour."""
    made: list[Encoded] = []
    for speaker, of_digit in clips.items():
        strings = Strings(of_digit, encoder.net.mels, np.random.default_rng([seed, *speaker.encode()]))
        counts = [recipe.digits[at % len(recipe.digits)] for at in range(recipe.strings)]
        for start in range(0, recipe.strings, ENCODED_ROWS):
            batch = strings.batch(counts[start : start + ENCODED_ROWS])
            states, lengths = encoder.states([one.data for one in batch])
            made += [
                Encoded(row[:length].half(), one.digits)
                for row, length, one in zip(states, lengths.tolist(), batch, strict=True)
            ]
            progress(Progress(len(made), len(clips) * recipe.strings))
    return made


def to_validate(encoder: Encoder, clips: Clips, seed: int) -> list[Encoded]:
    """Strings and a fifth of the single recordings, to choose the best state by."""
    strings = plain_strings(clips, 40, np.random.default_rng(seed))
    return encoded(encoder, [*strings, *single_clips(clips)[::5]])


def fit(
    head: CtcHead,
    made: Sequence[Encoded],
    validation: Sequence[Encoded],
    recipe: Recipe,
    seed: int,
    progress: Callable[[Progress], None],
) -> None:
    """Leaves the head in the state that was best on the validation, in eval mode."""
    rng = np.random.default_rng(seed)
    short = [one for one in made if len(one.digits) <= 2]
    with torch.no_grad():
        head.head.bias[BLANK] = recipe.blank_bias
        states = torch.cat([one.states.float() for one in made[::NORMED]])
        head.mean.copy_(states.mean(0))
        head.spread.copy_(states.std(0))
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.steps
    warm_up = max(1, round(recipe.warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / warm_up, 0.5 + 0.5 * np.cos(np.pi * max(0, step - warm_up) / (steps - warm_up))
        ),
    )
    marks = {round(steps * share) for share in np.linspace(recipe.judged_from, 1.0, recipe.judged)}
    best: dict[str, Tensor] = {}
    lowest = float("inf")
    for step in range(1, steps + 1):
        head.train()
        from_ = short if step <= recipe.short * steps else made
        loss = _loss(head, [from_[row] for row in rng.integers(len(from_), size=recipe.rows)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        wrong = None
        if step in marks:
            wrong = _share(validation, listen(head, validation), seed).value
            if wrong <= lowest:
                lowest, best = wrong, {name: value.clone() for name, value in head.state_dict().items()}
        if step % 10 == 0 or wrong is not None:
            progress(Progress(step, steps, float(loss.detach()), wrong))
    head.load_state_dict(best)
    head.eval()


def _loss(head: CtcHead, batch: Sequence[Encoded]) -> Tensor:
    lengths = torch.tensor([len(one.states) for one in batch])
    return nn.functional.ctc_loss(
        head(_together(batch), lengths).transpose(0, 1),
        torch.tensor([digit + 1 for one in batch for digit in one.digits]),
        lengths,
        torch.tensor([len(one.digits) for one in batch]),
        blank=BLANK,
        zero_infinity=True,
    )


def encoded(encoder: Encoder, said: Sequence[Said]) -> list[Encoded]:
    """Recordings by the features that are served, each encoded alone: fp32."""
    made = []
    for one in said:
        states, _ = encoder.states([features(one.data, encoder.net.mels)])
        made.append(Encoded(states[0], one.digits))
    return made


@torch.inference_mode()
def listen(head: CtcHead, said: Sequence[Encoded]) -> list[tuple[int, ...]]:
    """The digits heard in each."""
    head.eval()
    found: list[tuple[int, ...]] = [()] * len(said)
    order = sorted(range(len(said)), key=lambda at: len(said[at].states))
    for start in range(0, len(order), 32):
        places = order[start : start + 32]
        rows = [said[at] for at in places]
        lengths = [len(one.states) for one in rows]
        for at, one in zip(places, heard(head(_together(rows), torch.tensor(lengths)), lengths), strict=True):
            found[at] = tuple(token - 1 for token in one.tokens)
    return found


def _together(rows: Sequence[Encoded]) -> Tensor:
    return nn.utils.rnn.pad_sequence([one.states.float() for one in rows], batch_first=True)


def judge(encoder: Encoder, head: CtcHead, clips: Clips, seed: int) -> Split:
    """How many digits of some speakers come out wrong."""
    strings = encoded(encoder, plain_strings(clips, STRINGS, np.random.default_rng(seed)))
    single = encoded(encoder, single_clips(clips))
    alone = listen(head, single)
    confusion = np.zeros((DIGITS, DIGITS + 1), np.int64)
    for one, got in zip(single, alone, strict=True):
        confusion[one.digits[0], got[0] if len(got) == 1 else DIGITS] += 1
    return Split(
        tuple(clips),
        len(single),
        _share(strings, listen(head, strings), seed),
        _share(single, alone, seed),
        tuple(tuple(map(int, row)) for row in confusion),
    )


def _share(said: Sequence[Encoded], got: Sequence[tuple[int, ...]], seed: int) -> Share:
    errors = [
        align([WORDS[digit] for digit in one.digits], [WORDS[digit] for digit in heard_]).errors
        for one, heard_ in zip(said, got, strict=True)
    ]
    return share_of(
        np.array(errors, np.float64), np.array([len(one.digits) for one in said], np.float64), seed
    )


def _write_config(folder: Path, shape: CtcShape, encoder: Encoder) -> None:
    config: Mapping[str, object] = {
        "model_type": OWN,
        "words": list(WORDS),
        "languages": ["en"],
        "encoder": encoder.named(),
        "width": shape.width,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
