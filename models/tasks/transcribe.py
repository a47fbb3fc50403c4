"""Recordings -> text, by Whisper: the embedded tiny.en (English), or a user's folder.

A recording is cut at its pauses into windows of at most 30 s, each a unit. Silence and steady noise have no
units at all, and what the network itself doubts is left out, so that they give an empty transcript: Whisper
otherwise invents words for them.
"""

import io
import math
import wave
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import BadInput
from models.inference.whisper_files import LoadedWhisper, load_whisper
from models.media.audio import RATE_HZ, AudioLimits, decode_audio
from models.media.mel import FRAMES_PER_S, HOP, log_mel
from models.media.speech import Window, speech_windows, voiced_hops
from models.networks.greedy import Decoded, decode_greedy, likeliest
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Unit

F32 = NDArray[np.float32]

_LONGEST_S = 28.0
# Silence after the last word; without it Whisper drops or repeats the end of short windows.
_TAIL_S = 2.0
# Lengths come in steps so that batches share shapes.
_STEP_FRAMES = 200
_LEAST_FRAMES = 400
_WINDOW_FRAMES = 3000
_BATCH_WINDOWS = 8
_MAX_UNITS = 32

# Whisper's own rule for silence (no speech likely and words unlikely) and for loops (text that packs well).
_NO_SPEECH = 0.6
_LEAST_LOGPROB = -1.0
_MOST_COMPRESSION = 2.4
# Fast speech is 7 tokens a second; beyond this a decoder is in a loop.
_TOKENS_PER_S, _TOKENS_SPARE = 12, 16


@dataclass(frozen=True, slots=True)
class _Piece:
    """One unit: log-mel (mels, frames), and the language code that the payload declares."""

    mel: F32
    language: str | None


@dataclass(frozen=True, slots=True)
class _Recording:
    """What `finish` needs of `prepare`."""

    seconds: float
    speech_s: float
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    """One unit's output."""

    decoded: Decoded
    language: str


class Transcribe:
    """The task. See `models.types.Task` for what each part promises."""

    name = "transcribe"
    batch_cost = _WINDOW_FRAMES * _BATCH_WINDOWS
    max_units = _MAX_UNITS

    def __init__(self, whisper: LoadedWhisper, limits: AudioLimits | None = None) -> None:
        self._whisper = whisper
        self._limits = limits or AudioLimits()
        self.model = whisper.info
        self._device = whisper.net.tokens.device
        self._dtype = whisper.net.tokens.dtype

    @classmethod
    def load(cls, options: LoadOptions) -> "Transcribe":
        """Option `max_s`: the longest recording accepted. Raises WeightsMismatch, ValueError."""
        limits = AudioLimits()
        max_s = options.options.get("max_s", limits.max_s)
        if isinstance(max_s, bool) or not isinstance(max_s, int | float) or not 0 < max_s <= 86_400:
            raise ValueError(f"transcribe: max_s is {max_s!r}, expected seconds up to 86400")
        return cls(load_whisper(options), AudioLimits(max_s=float(max_s)))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any recording."""
        return media_type.strip().lower().startswith("audio/")

    def prepare(self, payload: Payload) -> Prepared:
        """Log-mel units, none where nothing can be speech. Raises BadInput as `decode_audio`."""
        samples = decode_audio(payload.data, payload.media_type, self._limits)
        windows = tuple(speech_windows(samples, _LONGEST_S))
        language = payload.language.partition("-")[0].lower() if payload.language else None
        units = tuple(self._unit(samples[window.start : window.end], language) for window in windows)
        speech_s = int(voiced_hops(samples).sum()) / 100
        return Prepared(units, _Recording(samples.size / RATE_HZ, speech_s, windows))

    def forward(self, units: Sequence[Unit]) -> list[_Said]:
        """Decode greedily; a row's text does not depend on its neighbours."""
        frames = [unit.length for unit in units]
        mel = np.zeros((len(units), self._whisper.net.shape.mels, max(frames)), np.float32)
        for row, unit in enumerate(units):
            mel[row, :, : unit.length] = unit.data.mel
        with torch.inference_mode():
            batch = torch.from_numpy(mel).to(self._device, self._dtype)
            states, mask = self._whisper.net.encode(batch, torch.tensor(frames, device=self._device))
            languages = self._languages(units, states, mask)
            limits = [_TOKENS_SPARE + _TOKENS_PER_S * count // FRAMES_PER_S for count in frames]
            prompts = torch.tensor([self._prompt(code) for code in languages], device=self._device)
            rows = decode_greedy(self._whisper.net, states, mask, prompts, limits, self._whisper.rules)
        return [_Said(row, language) for row, language in zip(rows, languages, strict=True)]

    def finish(self, prepared: Prepared, outputs: Sequence[_Said]) -> Outcome:
        """The text of all windows that hold speech. Raises BadInput `not_finite`."""
        recording: _Recording = prepared.context
        spans: list[Span] = []
        tokens, logprobs = 0, 0.0
        for window, said in zip(recording.windows, outputs, strict=True):
            decoded = said.decoded
            if not math.isfinite(decoded.avg_logprob):
                raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
            text = self._whisper.tokenizer.decode(list(decoded.tokens)).strip()
            if not text or is_doubtful(decoded, text):
                continue
            spans.append(
                Span(window.start / RATE_HZ, window.end / RATE_HZ, text, math.exp(decoded.avg_logprob))
            )
            tokens += len(decoded.tokens) + 1
            logprobs += decoded.avg_logprob * (len(decoded.tokens) + 1)
        languages = [said.language for said in outputs]
        detail: dict[str, Json] = {
            "language": max(set(languages), key=languages.count) if languages else None,
            "seconds": round(recording.seconds, 3),
            "speech_s": recording.speech_s,
            "avg_logprob": round(logprobs / tokens, 4) if tokens else None,
            "windows": len(outputs),
            "windows_left_out": len(outputs) - len(spans),
        }
        text = " ".join(str(span.value) for span in spans)
        score = math.exp(logprobs / tokens) if tokens else None
        return Outcome((Finding(self.name, text, score, spans=tuple(spans), detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """A syllable and half a minute of them: the shortest and the longest window."""
        return [Payload("audio/wav", _syllables_wav(seconds)) for seconds in (1.0, 27.0)]

    def _unit(self, samples: F32, language: str | None) -> Unit:
        wanted = math.ceil((samples.size / HOP + _TAIL_S * FRAMES_PER_S) / _STEP_FRAMES) * _STEP_FRAMES
        frames = min(max(wanted, _LEAST_FRAMES), _WINDOW_FRAMES)
        return Unit(frames, _Piece(log_mel(samples, frames, self._whisper.net.shape.mels), language))

    def _languages(self, units: Sequence[Unit], states: torch.Tensor, mask: torch.Tensor | None) -> list[str]:
        known = self._whisper.languages
        if not known:
            return ["en"] * len(units)
        codes = {token: code for code, token in known.items()}
        guessed = likeliest(self._whisper.net, states, mask, self._whisper.start, list(codes))
        return [
            unit.data.language if unit.data.language in known else codes[token]
            for unit, token in zip(units, guessed, strict=True)
        ]

    def _prompt(self, language: str) -> list[int]:
        between = [self._whisper.languages[language]] if self._whisper.languages else []
        return [self._whisper.start, *between, *self._whisper.after]


def is_doubtful(decoded: Decoded, text: str) -> bool:
    """Whether the words are more likely invented than heard."""
    if decoded.no_speech > _NO_SPEECH and decoded.avg_logprob < _LEAST_LOGPROB:
        return True
    data = text.encode()
    return len(data) / len(zlib.compress(data)) > _MOST_COMPRESSION


def _syllables_wav(seconds: float) -> bytes:
    """Harmonics of 120 Hz in bursts of a fifth of a second: passes the gate, says nothing."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone: Any = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20))
    bursts = np.sin(2 * np.pi * 2.5 * t) > 0
    samples = (0.1 * tone * bursts * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(samples.tobytes())
    return out.getvalue()
