"""Made-up spoken digits: two vowels each, by speakers of different pitch and throat. They sound like nobody."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.tasks.recordings import wav_of

F32 = NDArray[np.float32]
SPEAKERS = {"ada": (110.0, 0.95), "bob": (140.0, 1.0), "cleo": (180.0, 1.05), "dan": (125.0, 1.02)}
"""Name -> pitch in Hz, and what multiplies formants."""
_VOWELS_HZ = ((300, 2300), (700, 1200), (350, 900), (550, 1800))


def digit(number: int, speaker: str, take: int) -> F32:
    """Samples at 16 kHz, half a second or so."""
    pitch_hz, throat = SPEAKERS[speaker]
    rng = np.random.default_rng([number, take, len(speaker), int(pitch_hz)])
    first, second = _VOWELS_HZ[number % 4], _VOWELS_HZ[(number + 1 + number // 4) % 4]
    parts = []
    for formants in (first, second):
        t = np.arange(int(rng.uniform(0.16, 0.24) * 16_000)) / 16_000
        harmonics = np.arange(1, 30) * pitch_hz * rng.uniform(0.97, 1.03)
        loud = sum(np.exp(-(((harmonics - throat * hz) / 150) ** 2)) for hz in formants) + 0.002
        tone = (loud[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t)).sum(0)
        parts.append(tone * np.hanning(t.size) ** 0.3)
    samples = np.concatenate(parts)
    samples = 0.3 * samples / np.abs(samples).max() + rng.normal(0, 1e-3, samples.size)
    return samples.astype(np.float32)


def clips(speakers: Sequence[str], takes: int) -> dict[str, dict[int, list[F32]]]:
    """As `models.train.spoken.read_clips` gives them."""
    return {
        speaker: {number: [digit(number, speaker, take) for take in range(takes)] for number in range(10)}
        for speaker in speakers
    }


def wav(samples: F32) -> bytes:
    """A WAV of samples in -1..1."""
    return wav_of((samples * 32767).astype("<i2"))


def write_tar(path: Path, speakers: Sequence[str], takes: int) -> Path:
    """Recordings as `headrace train digits` reads them."""
    with tarfile.open(path, "w") as tar:
        for speaker, of_digit in clips(speakers, takes).items():
            for number, ones in of_digit.items():
                for take, samples in enumerate(ones):
                    data = wav(samples)
                    entry = tarfile.TarInfo(f"recordings/{number}_{speaker}_{take}.wav")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return path
