"""Trains a network of spoken digits on strings made up of recordings of single ones, with speakers held out.

    data       `{digit}_{speaker}_{take}.wav`, as the free spoken digit dataset has them (6 speakers, 3,000 clips)
    split      by speaker: one or more are only in the test, and with `validation` others only in the validation; else
               the validation is every tenth take of those that are learnt from
    features   30 log-mel bands of 60 to 3,800 Hz, too wide to show the voice's pitch; see `models.media.bands`
    strings    first single digits, then up to four, ever more changed: see `models.train.spoken`
    network    three 2-D convolutions (frames / 4), bidirectional GRU 2 x 64, 11 outputs: 0.2 M parameters
    training   CTC, AdamW 3e-3, weight decay 0.02, 5 % warm-up then cosine to 0, clip 5; the blank starts unlikely,
               or the network takes hundreds of steps to say anything else
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
from models.inference.ctc_files import OWN, padded, saved_names
from models.inference.weights import Manifest, write_weights
from models.media.bands import features
from models.networks.ctc import BLANK, ConvGruCtc, CtcShape, heard, outputs_of
from models.train.spoken import DIGITS, Clips, Said, Strings, plain_strings, single_clips

NAME = "digits-ctc"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPE = CtcShape(bands=30, tokens=DIGITS + 1, hidden=64)
CLIP_NORM = 5.0
VALIDATION_TAKES = 10  # every tenth
STRINGS = 200  # for judging


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained. Shares are of all steps.

    `rows`: strings of one, two, ... digits in a batch. For the share `alone` digits come singly and little changed;
    in the share `ramp` after that strings get longer and more changed.
    """

    steps: int = 700
    shape: CtcShape = SHAPE
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    dropout: float = 0.15
    rows: tuple[int, ...] = (64, 40, 28, 22)
    warm_up: float = 0.05
    alone: float = 0.13
    ramp: float = 0.35
    blank_bias: float = -2.0
    judged_from: float = 0.75
    judged: int = 4  # times


@dataclass(frozen=True, slots=True)
class Progress:
    """One line for the person who waits. `validation`: share of wrong digits, towards the end."""

    step: int
    steps: int
    loss: float
    validation: float | None = None


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
    with torch.random.fork_rng(
        devices=[]
    ):  # the network's start and dropout draw from torch's global generator
        torch.manual_seed(seed)
        net = ConvGruCtc(recipe.shape, recipe.dropout)
        _fit(net, parts[0], parts[1], recipe, seed, progress)
    names = saved_names(net)
    tensors = {name: value.half() for name, value in net.state_dict().items() if name in names}
    net.load_state_dict(
        {name: value.float() for name, value in tensors.items()}, strict=False
    )  # judged as written
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
    _write_config(out, recipe.shape)
    judged = [judge(net, part, seed + at) for at, part in enumerate(parts, 2)]
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


def _fit(
    net: ConvGruCtc,
    clips: Clips,
    validation: Clips,
    recipe: Recipe,
    seed: int,
    progress: Callable[[Progress], None],
) -> None:
    """Leaves the network in the state that was best on the validation, in eval mode."""
    rng = np.random.default_rng(seed)
    strings = Strings(clips, net.shape.bands, rng)
    judged = [*plain_strings(validation, 40, np.random.default_rng(seed)), *single_clips(validation)[::5]]
    with torch.no_grad():
        net.head.bias[BLANK] = recipe.blank_bias
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
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
        net.train()
        ramp = min(1.0, max(0.0, (step / steps - recipe.alone) / recipe.ramp))
        count = int(rng.integers(1, 1 + max(1, round(ramp * len(recipe.rows)))))
        loss = _loss(net, strings.batch(recipe.rows[count - 1], count, 0.3 + 0.7 * ramp))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        wrong = None
        if step in marks:
            wrong = _share(judged, listen(net, judged), seed).value
            if wrong <= lowest:
                lowest, best = wrong, {name: value.clone() for name, value in net.state_dict().items()}
        if step % 10 == 0 or wrong is not None:
            progress(Progress(step, steps, float(loss.detach()), wrong))
    net.load_state_dict(best)
    net.eval()


def _loss(net: ConvGruCtc, batch: Sequence[Said]) -> Tensor:
    frames = torch.tensor([len(one.data) for one in batch])
    log = net(padded([one.data for one in batch]), frames).transpose(0, 1)
    return nn.functional.ctc_loss(
        log,
        torch.tensor([digit + 1 for one in batch for digit in one.digits]),
        torch.tensor([outputs_of(int(count)) for count in frames]),
        torch.tensor([len(one.digits) for one in batch]),
        blank=BLANK,
        zero_infinity=True,
    )


@torch.inference_mode()
def listen(net: ConvGruCtc, said: Sequence[Said]) -> list[tuple[int, ...]]:
    """The digits heard in recordings, by the features that are served."""
    net.eval()
    rows = [features(one.data, net.shape.bands) for one in said]
    found: list[tuple[int, ...]] = [()] * len(rows)
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    for start in range(0, len(order), 32):
        places = order[start : start + 32]
        frames = torch.tensor([len(rows[at]) for at in places])
        log = net(padded([rows[at] for at in places]), frames)
        for at, one in zip(places, heard(log, [outputs_of(int(count)) for count in frames]), strict=True):
            found[at] = tuple(token - 1 for token in one.tokens)
    return found


def judge(net: ConvGruCtc, clips: Clips, seed: int) -> Split:
    """How many digits of some speakers come out wrong."""
    strings = plain_strings(clips, STRINGS, np.random.default_rng(seed))
    single = single_clips(clips)
    alone = listen(net, single)
    confusion = np.zeros((DIGITS, DIGITS + 1), np.int64)
    for one, got in zip(single, alone, strict=True):
        confusion[one.digits[0], got[0] if len(got) == 1 else DIGITS] += 1
    return Split(
        tuple(clips),
        len(single),
        _share(strings, listen(net, strings), seed),
        _share(single, alone, seed),
        tuple(tuple(map(int, row)) for row in confusion),
    )


def _share(said: Sequence[Said], got: Sequence[tuple[int, ...]], seed: int) -> Share:
    errors = [
        align([WORDS[digit] for digit in one.digits], [WORDS[digit] for digit in heard_]).errors
        for one, heard_ in zip(said, got, strict=True)
    ]
    return share_of(
        np.array(errors, np.float64), np.array([len(one.digits) for one in said], np.float64), seed
    )


def _write_config(folder: Path, shape: CtcShape) -> None:
    config: Mapping[str, object] = {
        "model_type": OWN,
        "words": list(WORDS),
        "languages": ["en"],
        "bands": shape.bands,
        "channels": list(shape.channels),
        "hidden": shape.hidden,
        "layers": shape.layers,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
