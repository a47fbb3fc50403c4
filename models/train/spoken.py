"""Recordings of single spoken digits, and strings made up of them: what `models.train.digits` learns and is judged by.

A training string is clips of one speaker with pauses, each clip faster or slower, louder or quieter, the bands moved as
by a longer or shorter throat (Jaitly and Hinton, Vocal Tract Length Perturbation, 2013) and bent besides, another
microphone's colour, an echo, noise, and groups of bands and stretches of time hidden (Park et al., SpecAugment, 2019).
A string for judging is clips with pauses and nothing else.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.media.audio import RATE_HZ, decode_audio
from models.media.edged import BENT_HZ, edged_power, warped
from models.media.mel import logged

F32 = NDArray[np.float32]
Clips = Mapping[str, Mapping[int, Sequence[F32]]]
"""Samples at 16 kHz by speaker and digit."""

DIGITS = 10
_CLIP = re.compile(r"([0-9])_([A-Za-z0-9-]+)_(\d+)\.wav")
_LIMIT_BYTES = 2 << 20
_LEAST_STRENGTH = 0.3  # 0..1, of what is done to a string
_TEMPO, _TEMPO_OF_CLIP = 0.18, 0.06  # natural logarithms, at most, either way
_THROAT = 0.2
_BEND = 0.05
_LOUDER = 0.6  # powers of ten of amplitude: 12 dB
_TILT = 0.5  # powers of ten of power at the lowest and highest band, 5 dB


@dataclass(frozen=True, slots=True)
class Said:
    """What is heard, log-mel (T, mels) or samples (n,), and its digits."""

    data: F32
    digits: tuple[int, ...]


def read_clips(path: Path) -> dict[str, dict[int, list[F32]]]:
    """Clips of a folder or a tar of `{digit}_{speaker}_{take}.wav`, in the order of their names.

    Raises BadInput `empty` if there are none, `undecodable` for a file that is no tar, and as `decode_audio`.
    """
    found: dict[str, dict[int, list[F32]]] = {}
    for name, data in sorted(_files(path)):
        parts = _CLIP.fullmatch(name)
        if parts:
            of_speaker = found.setdefault(parts[2], {digit: [] for digit in range(DIGITS)})
            of_speaker[int(parts[1])].append(decode_audio(data, "audio/wav"))
    if not found:
        raise BadInput("empty", f"{path} holds no recording called {{digit}}_{{speaker}}_{{take}}.wav")
    for speaker, of_digit in found.items():
        lacking = [digit for digit, takes in of_digit.items() if not takes]
        if lacking:
            raise BadInput("empty", f"{path}: {speaker} says no {lacking[0]}")
    return found


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for entry in path.iterdir():
            if entry.suffix == ".wav" and entry.stat().st_size <= _LIMIT_BYTES:
                yield entry.name, entry.read_bytes()
        return
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() and member.size <= _LIMIT_BYTES else None
                if file is not None:
                    yield Path(member.name).name, file.read()
    except tarfile.TarError as error:
        raise BadInput("undecodable", f"{path} is neither a folder nor a tar ({error})") from None


class Strings:
    """Makes training strings of the clips of one speaker; each call of `batch` draws new ones."""

    def __init__(self, of_digit: Mapping[int, Sequence[F32]], mels: int, rng: np.random.Generator) -> None:
        self._of_digit = of_digit
        self._mels = mels
        self._rng = rng

    def batch(self, counts: Sequence[int]) -> list[Said]:
        """A string of each of so many digits, each changed with a strength of its own."""
        return [self._string(count, float(self._rng.uniform(_LEAST_STRENGTH, 1.0))) for count in counts]

    def _string(self, count: int, strength: float) -> Said:
        rng = self._rng
        digits = tuple(rng.integers(0, DIGITS, count).tolist())
        tempo = strength * rng.uniform(-_TEMPO, _TEMPO)
        parts = [_pause(rng)]
        for digit in digits:
            takes = self._of_digit[digit]
            clip = takes[int(rng.integers(len(takes)))]
            speed = float(np.exp(tempo + strength * rng.uniform(-_TEMPO_OF_CLIP, _TEMPO_OF_CLIP)))
            at = np.arange(0, clip.size - 1, speed)
            loud = 10 ** (strength * rng.uniform(-_LOUDER, _LOUDER))
            parts += [np.interp(at, np.arange(clip.size), clip) * loud, _pause(rng)]
        samples = np.concatenate(parts)
        warp = float(np.exp(tempo + strength * rng.uniform(-_THROAT, _THROAT)))
        bends = tuple((strength * rng.uniform(-_BEND, _BEND, len(BENT_HZ))).tolist())
        power = warped(edged_power(samples.astype(np.float32), self._mels), warp, bends)
        power = _coloured(power, rng, strength)
        if rng.random() < 0.4 * strength:
            power = _echoed(power, float(rng.uniform(0.2, 0.75)))
        power = _noisy(power, rng, float(rng.uniform(2.5 - strength, 10.0)))
        return Said(_hidden(logged(power), rng, strength), digits)


def _pause(rng: np.random.Generator) -> F32:
    seconds = rng.uniform(0.0, 0.1) if rng.random() < 0.3 else rng.uniform(0.05, 0.4)
    return np.zeros(int(seconds * RATE_HZ), np.float32)


def _coloured(power: F32, rng: np.random.Generator, strength: float) -> F32:
    """Another microphone: a smooth curve of loudness over the bands."""
    knots = np.linspace(0, power.shape[1] - 1, 4)
    curve = np.interp(np.arange(power.shape[1]), knots, rng.uniform(-_TILT, _TILT, 4))
    return np.asarray(power * 10 ** (strength * curve), np.float32)


def _echoed(power: F32, kept: float) -> F32:
    """Each frame rings on in the next with the share `kept` of a tenth of its power: a small room."""
    rings = np.zeros_like(power)
    tail = np.zeros(power.shape[1], np.float32)
    for at, frame in enumerate(power):
        rings[at] = tail
        tail = (tail + 0.3 * frame) * kept
    return power + rings


def _noisy(power: F32, rng: np.random.Generator, below: float) -> F32:
    """Noise `below` powers of ten under the loudest, of a smooth colour over the bands, with its own flutter.

    From 8 on nothing of it is left: recordings may be silent between words.
    """
    bands = power.shape[1]
    colour = 10 ** np.interp(np.arange(bands), (0, bands - 1), rng.uniform(-0.7, 0.7, 2))
    level = float(power.max()) * 10**-below
    return (power + level * colour * rng.gamma(3.0, 1 / 3, power.shape)).astype(np.float32)


def _hidden(features: F32, rng: np.random.Generator, strength: float) -> F32:
    frames, bands = features.shape
    mean = features.mean()
    for _ in range(2):
        width = int(strength * rng.integers(0, bands // 5))
        at = int(rng.integers(0, bands - width))
        features[:, at : at + width] = mean
    for _ in range(1 + frames // 120):
        width = int(strength * rng.integers(0, 9))
        at = int(rng.integers(0, max(1, frames - width)))
        features[at : at + width] = mean
    return features


def plain_strings(clips: Clips, count: int, rng: np.random.Generator) -> list[Said]:
    """Recordings (n,) of 3 to 7 digits of one speaker with pauses of 0.1 to 0.4 s, silent but for a faint noise."""
    speakers = list(clips)
    made = []
    for _ in range(count):
        of_speaker = clips[speakers[int(rng.integers(len(speakers)))]]
        digits = tuple(rng.integers(0, DIGITS, rng.integers(3, 8)).tolist())
        parts: list[F32] = [np.zeros(RATE_HZ // 10, np.float32)]
        for digit in digits:
            takes = of_speaker[digit]
            parts += [
                takes[int(rng.integers(len(takes)))],
                np.zeros(int(rng.uniform(0.1, 0.4) * RATE_HZ), np.float32),
            ]
        made.append(Said(_hiss(np.concatenate(parts), rng), digits))
    return made


def single_clips(clips: Clips) -> list[Said]:
    """Every clip by itself, as it was recorded."""
    return [
        Said(clip, (digit,))
        for of_digit in clips.values()
        for digit, takes in of_digit.items()
        for clip in takes
    ]


def _hiss(samples: F32, rng: np.random.Generator) -> F32:
    return (samples + rng.normal(0, 1e-4, samples.size)).astype(np.float32)
