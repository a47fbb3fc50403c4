"""What tasks on recordings share: the longest that is accepted, and sounds for the warm-up."""

import io
import wave
from typing import Any

import numpy as np

from models.media.audio import RATE_HZ, AudioLimits
from models.types import LoadOptions


def accepts_audio(media_type: str) -> bool:
    """Any recording."""
    return media_type.strip().lower().startswith("audio/")


def audio_limits(task: str, options: LoadOptions) -> AudioLimits:
    """Option `max_s` of a task, the longest recording in seconds. Raises ValueError."""
    limits = AudioLimits()
    max_s = options.options.get("max_s", limits.max_s)
    if isinstance(max_s, bool) or not isinstance(max_s, int | float) or not 0 < max_s <= 86_400:
        raise ValueError(f"{task}: max_s is {max_s!r}, expected seconds up to 86400")
    return AudioLimits(max_s=float(max_s))


def declared_language(language: str | None) -> str | None:
    """The first part of what a sender declared, such as "en" of "en-GB"."""
    return language.partition("-")[0].lower() if language else None


def syllables_wav(seconds: float) -> bytes:
    """Harmonics of 120 Hz in bursts of a fifth of a second: passes the gate, says nothing."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone: Any = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20))
    bursts = np.sin(2 * np.pi * 2.5 * t) > 0
    return wav_of((0.1 * tone * bursts * 32767).astype("<i2"))


def wav_of(samples: "np.ndarray[Any, np.dtype[np.int16]]") -> bytes:
    """A WAV of samples (n,) at 16 kHz."""
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(samples.tobytes())
    return out.getvalue()
