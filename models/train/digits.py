"""Trains the network of spoken digits on strings that are made up from recordings of single ones.

    data       `{digit}_{speaker}_{take}.wav`, as the free spoken digit dataset has them (6 speakers, 3,000 clips)
    split      by speaker: one or more are only in the test; of the others a tenth of the takes are the validation
    strings    1 to 6 clips of one speaker with pauses of 0 to 0.4 s, at five speeds (0.8 to 1.2), the bands moved by
               up to 25 % as those of a longer or shorter throat (Jaitly and Hinton, Vocal Tract Length Perturbation,
               2013), through a smooth filter of its own (6 dB) as other microphones are, noise 10 to 60 dB below, two
               groups of bands and a stretch of time hidden (Park et al., SpecAugment, 2019)
    training   CTC, AdamW 3e-3 one-cycle, batches of 32 strings; the state best on the validation part is kept

What is put together is mel power, not sound: a batch takes a millisecond a string. Seeded.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import BadInput
from models.inference.weights import Manifest, write_weights
from models.media.audio import decode_audio
from models.media.mel import HOP, mel_power
from models.networks.ctc import greedy
from models.networks.digits import BLANK, MELS, WORDS, DigitNet, features, from_power, steps

BATCH_ROWS = 32
LEARNING_RATE = 3e-3
SPEEDS = (0.8, 0.9, 1.0, 1.1, 1.2)
LONGEST = 6
WARPS = np.linspace(0.8, 1.25, 10)
VALIDATION_TAKES = 10  # every tenth
NAME = "digits-ctc"
_CLIP = re.compile(r"([0-9])_([A-Za-z0-9-]+)_(\d+)\.wav")
_LIMIT_BYTES = 2 << 20

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Progress:
    """One line for the person who waits. `validation`: share of wrong digits, from half of the steps on at times."""

    step: int
    steps: int
    loss: float
    validation: float | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Share of wrong digits (substituted, left out and put in, of those spoken) on strings of 3 to 7; `clips` alone."""

    speakers: tuple[str, ...]
    strings: float
    strings_ci95: tuple[float, float]
    clips: float
    confusion: tuple[
        tuple[int, ...], ...
    ]  # spoken x heard of single clips; the last column: nothing or several


@dataclass(frozen=True, slots=True)
class TrainedDigits:
    """What was written and how good it is on each part; the test speakers were heard once, at the end."""

    folder: Path
    manifest: Manifest
    steps: int
    train: Split
    validation: Split
    test: Split


Clips = Mapping[str, Mapping[int, Sequence[F32]]]
"""Samples at 16 kHz by speaker and digit."""


def read_clips(path: Path) -> dict[str, dict[int, list[F32]]]:
    """Clips of a folder or a tar of `{digit}_{speaker}_{take}.wav`, in the order of their names.

    Raises BadInput `empty` if there are none, and whatever `decode_audio` raises.
    """
    found: dict[str, dict[int, list[F32]]] = {}
    for name, data in sorted(_files(path)):
        parts = _CLIP.fullmatch(name)
        if parts:
            of_speaker = found.setdefault(parts[2], {digit: [] for digit in range(10)})
            of_speaker[int(parts[1])].append(decode_audio(data, "audio/wav"))
    if not found:
        raise BadInput("empty", f"{path} holds no recording called {{digit}}_{{speaker}}_{{take}}.wav")
    return found


def train_digits(
    clips: Clips,
    out: Path,
    *,
    revision: str,
    test: Sequence[str],
    steps_: int = 1000,
    seed: int = 1,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainedDigits:
    """Train, and write fp32 weights with their manifest into the folder `out` (made if absent).

    Raises BadInput `empty` for an unknown speaker, or if none is left to train on.
    """
    learnt = [speaker for speaker in clips if speaker not in test]
    unknown = sorted(set(test) - set(clips))
    if unknown or not learnt or not test:
        raise BadInput(
            "empty", f"no speaker {unknown}; there are {sorted(clips)}, some to train and some to test"
        )
    train, validation = _parted({speaker: clips[speaker] for speaker in learnt})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DigitNet()
        best = _fit(net, train, validation, steps_, seed, progress)
    net.load_state_dict(best)
    net.eval()
    tested = {speaker: clips[speaker] for speaker in test}
    parts = [_judged(net, part, seed) for part in (train, validation, tested)]
    out.mkdir(parents=True, exist_ok=True)
    source = f"models/train/digits.py, seed {seed}, {steps_} steps, speakers {', '.join(learnt)}"
    manifest = write_weights(
        out, best, name=NAME, revision=revision, licence="of the recordings", source=source
    )
    return TrainedDigits(out, manifest, steps_, *parts)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for entry in path.iterdir():
            if entry.suffix == ".wav" and entry.stat().st_size <= _LIMIT_BYTES:
                yield entry.name, entry.read_bytes()
        return
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() and member.size <= _LIMIT_BYTES else None
            if file is not None:
                yield Path(member.name).name, file.read()


def _parted(clips: Clips) -> tuple[dict[str, dict[int, list[F32]]], dict[str, dict[int, list[F32]]]]:
    """Every tenth take of each digit, the first of them included, is the second part."""
    train, validation = (
        {
            speaker: {
                digit: [take for at, take in enumerate(takes) if (at % VALIDATION_TAKES == 0) == second]
                for digit, takes in of_digit.items()
            }
            for speaker, of_digit in clips.items()
        }
        for second in (False, True)
    )
    return train, validation


class Strings:
    """Makes training strings of the clips of some speakers; each call of `batch` draws new ones."""

    def __init__(self, clips: Clips, rng: np.random.Generator) -> None:
        self._rng = rng
        self._power = {
            speaker: [[_speeds(clip) for clip in of_digit[digit]] for digit in range(10)]
            for speaker, of_digit in clips.items()
        }
        self._speakers = list(self._power)
        self._warps = [_warp(factor) for factor in WARPS]

    def batch(self, rows: int) -> tuple[Tensor, I64, list[list[int]]]:
        """Features (B, 40, T), frames of each row (B,), digits of each row."""
        made = [self._string() for _ in range(rows)]
        frames = np.array([mel.shape[1] for mel, _ in made], np.int64)
        padded = np.full((rows, MELS, int(frames.max())), -1.0, np.float32)
        for row, (mel, _) in enumerate(made):
            padded[row, :, : mel.shape[1]] = mel
        return torch.from_numpy(padded), frames, [digits for _, digits in made]

    def _string(self) -> tuple[F32, list[int]]:
        rng = self._rng
        of_speaker = self._power[self._speakers[int(rng.integers(len(self._speakers)))]]
        digits = rng.integers(0, 10, rng.integers(1, LONGEST + 1)).tolist()
        speed = rng.integers(len(SPEEDS))
        parts = [np.zeros((MELS, rng.integers(5, 40)), np.float32)]
        for digit in digits:
            takes = of_speaker[digit]
            clip = takes[int(rng.integers(len(takes)))][speed]
            parts += [
                clip * np.float32(10 ** rng.uniform(-0.6, 0.6)),
                np.zeros((MELS, rng.integers(0, 40)), np.float32),
            ]
        power = self._warps[rng.integers(len(self._warps))] @ np.concatenate(parts, 1)
        knots = rng.normal(0, 0.6, 6)
        power *= (10 ** np.interp(np.arange(MELS), np.linspace(0, MELS - 1, 6), knots))[:, None].astype(
            np.float32
        )
        loudest = float(power.max())
        # Noise of a random colour: a smooth line over the bands, and its own flutter.
        colour = 10 ** np.interp(np.arange(MELS), (0, MELS - 1), rng.uniform(-1, 1, 2))[:, None]
        level = loudest * 10 ** (-rng.uniform(1.0, 6.0))
        power += (level * colour * rng.exponential(1.0, power.shape)).astype(np.float32)
        mel = from_power(power)
        for _ in range(2):
            band = rng.integers(0, MELS - 6)
            mel[band : band + rng.integers(0, 7)] = -1.0
        at = rng.integers(0, mel.shape[1])
        mel[:, at : at + rng.integers(0, 8)] = -1.0
        return mel, digits


def _speeds(clip: F32) -> list[F32]:
    """Mel power (40, frames) of a clip at each of `SPEEDS`; resampled, so pitch moves as well."""
    made = []
    for speed in SPEEDS:
        at = np.arange(0, clip.size - 1, speed)
        samples = np.interp(at, np.arange(clip.size), clip).astype(np.float32)
        made.append(mel_power(samples, max(1, -(-samples.size // HOP)), MELS))
    return made


def _warp(factor: float) -> F32:
    """(40, 40): band i reads from band i * factor, between the two nearest."""
    at = np.minimum(np.arange(MELS) * factor, MELS - 1)
    low = at.astype(np.int64)
    matrix = np.zeros((MELS, MELS), np.float32)
    matrix[np.arange(MELS), low] += 1 - (at - low)
    matrix[np.arange(MELS), np.minimum(low + 1, MELS - 1)] += at - low
    return matrix


def _fit(
    net: DigitNet,
    clips: Clips,
    validation: Clips,
    steps_: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> dict[str, Tensor]:
    """The state that was best on the validation part."""
    strings = Strings(clips, np.random.default_rng(seed))
    judged = made_strings(validation, 96, np.random.default_rng(seed + 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps_, pct_start=0.15
    )
    best, lowest = {}, float("inf")
    for step in range(1, steps_ + 1):
        net.train()
        mel, frames, digits = strings.batch(BATCH_ROWS)
        log = net(mel).log_softmax(2).transpose(0, 1)
        sizes = torch.tensor([steps(int(count)) for count in frames])
        flat = torch.tensor([digit for row in digits for digit in row])
        lengths = torch.tensor([len(row) for row in digits])
        loss = nn.functional.ctc_loss(log, flat, sizes, lengths, blank=BLANK, zero_infinity=True)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        wrong = None
        if step == steps_ or (step % max(1, steps_ // 20) == 0 and step >= steps_ // 2):
            net.eval()
            wrong, _ = _wrong(net, judged, seed)
            if wrong <= lowest:
                lowest = wrong
                best = {name: value.detach().clone() for name, value in net.state_dict().items()}
        if step % 10 == 0 or wrong is not None:
            progress(Progress(step, steps_, float(loss.detach()), wrong))
    return best


def made_strings(clips: Clips, count: int, rng: np.random.Generator) -> list[tuple[F32, list[int]]]:
    """Recordings (n,) of 3 to 7 digits of one speaker with pauses of 0.1 to 0.4 s, and what they say."""
    speakers = list(clips)
    made = []
    for _ in range(count):
        of_speaker = clips[speakers[int(rng.integers(len(speakers)))]]
        digits = rng.integers(0, 10, rng.integers(3, 8)).tolist()
        parts: list[F32] = []
        for digit in digits:
            takes = of_speaker[digit]
            parts += [
                takes[int(rng.integers(len(takes)))],
                np.zeros(int(rng.uniform(0.1, 0.4) * 16_000), np.float32),
            ]
        made.append((np.concatenate(parts), digits))
    return made


@torch.inference_mode()
def _heard(net: DigitNet, samples: Sequence[F32]) -> list[tuple[int, ...]]:
    mels = [features(one) for one in samples]
    heard: list[tuple[int, ...]] = [()] * len(mels)
    order = sorted(range(len(mels)), key=lambda at: mels[at].shape[1])
    for start in range(0, len(order), BATCH_ROWS):
        rows = order[start : start + BATCH_ROWS]
        padded = np.full((len(rows), MELS, mels[rows[-1]].shape[1]), -1.0, np.float32)
        for row, at in enumerate(rows):
            padded[row, :, : mels[at].shape[1]] = mels[at]
        found = net(torch.from_numpy(padded)).softmax(2).numpy()
        for row, at in enumerate(rows):
            heard[at] = greedy(found[row, : steps(mels[at].shape[1])], BLANK).classes
    return heard


def _wrong(
    net: DigitNet, strings: Sequence[tuple[F32, list[int]]], seed: int
) -> tuple[float, tuple[float, float]]:
    """Share of wrong digits and its 95 % interval (bootstrap over strings)."""
    heard = _heard(net, [samples for samples, _ in strings])
    errors = np.array(
        [distance(said, got) for (_, said), got in zip(strings, heard, strict=True)], np.float64
    )
    lengths = np.array([len(said) for _, said in strings], np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(strings), (1000, len(strings)))
    low, high = np.quantile(errors[drawn].sum(1) / lengths[drawn].sum(1), [0.025, 0.975])
    return float(errors.sum() / lengths.sum()), (float(low), float(high))


def _judged(net: DigitNet, clips: Clips, seed: int) -> Split:
    wrong, interval = _wrong(net, made_strings(clips, 256, np.random.default_rng(seed + 2)), seed)
    said = [(digit, clip) for of_digit in clips.values() for digit in range(10) for clip in of_digit[digit]]
    confusion = np.zeros((len(WORDS), len(WORDS) + 1), np.int64)
    for (digit, _), got in zip(said, _heard(net, [clip for _, clip in said]), strict=True):
        confusion[digit, got[0] if len(got) == 1 else len(WORDS)] += 1
    alone = 1 - float(np.trace(confusion[:, :-1])) / len(said)
    return Split(tuple(clips), wrong, interval, alone, tuple(tuple(map(int, row)) for row in confusion))


def distance(said: Sequence[int], got: Sequence[int]) -> int:
    """Levenshtein's: the fewest substitutions, deletions and insertions."""
    row = list(range(len(got) + 1))
    for at, one in enumerate(said, 1):
        before, row[0] = row[0], at
        for place, other in enumerate(got, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (one != other))
    return row[-1]
