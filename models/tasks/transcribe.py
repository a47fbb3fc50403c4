"""Recordings -> text, by Whisper: the embedded tiny.en (English) or base (99 languages), or a user's folder.

A recording is cut at its pauses into windows of at most 30 s, each a unit. Silence and steady noise have no
units at all, and what the network itself doubts is left out, so that they give an empty transcript: Whisper
otherwise invents words for them.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import BadInput
from models.inference.ctc_files import is_ctc
from models.inference.whisper_files import EMBEDDED, LoadedWhisper, load_whisper
from models.media.audio import RATE_HZ, AudioLimits, decode_audio
from models.media.language import Language
from models.media.mel import FRAMES_PER_S, HOP, log_mel
from models.media.speech import Window, speech_windows, voiced_hops
from models.networks.greedy import Decoded, decode_greedy, likeliest
from models.tasks.recordings import accepts_audio, audio_limits, declared_language, syllables_wav
from models.tasks.texts import unsupported
from models.tasks.transcribe_ctc import TranscribeCtc
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Unit

F32 = NDArray[np.float32]

_LONGEST_S = 28.0
# Silence after the last word; without it Whisper drops or repeats the end of short windows.
_TAIL_S = 2.0
# Lengths come in steps so that batches share shapes. Given 4 or 6 s tiny.en never ends its answers; from 10 s
# on it errs on strings of spoken digits as it does at 30 s (32 of 219 words both), at a quarter of the work.
_STEP_FRAMES = 500
_LEAST_FRAMES = 1000
_WINDOW_FRAMES = 3000
_BATCH_WINDOWS = 8
_MAX_UNITS = 32

# Whisper's own rules: silence is where no speech is likely and the words are unlikely; loops pack well.
# Its -1 for silence let "you" through on bursts of noise and beeps (no speech 0.83 to 0.93, words -0.66 to
# -0.96), while strings of spoken digits stay below 0.65: words must beat -0.5 to stand against it.
_NO_SPEECH = 0.6
_LEAST_LOGPROB_SILENCE = -0.5
_LEAST_LOGPROB = -1.0
_MOST_COMPRESSION = 2.4
# Fast speech is 7 tokens a second; beyond this a decoder is in a loop.
_TOKENS_PER_S, _TOKENS_SPARE = 12, 16


@dataclass(frozen=True, slots=True)
class _Piece:
    """One unit: log-mel (mels, frames), silence after `seconds`; the language that the payload declares."""

    mel: F32
    seconds: float
    language: str | None

    @property
    def nbytes(self) -> int:
        """Memory that the unit holds while it waits."""
        return self.mel.nbytes


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
    def load(cls, options: LoadOptions) -> "Transcribe | TranscribeCtc":
        """Options: `model`, tiny.en (English, fast; the default) or base (99 languages, better), and `max_s`, the
        longest recording accepted. A folder may hold a CTC network. Raises WeightsMismatch, ValueError.
        """
        if options.folder is not None and is_ctc(options.folder):
            return TranscribeCtc.load(options)
        limits = audio_limits(cls.name, options)
        embedded = options.options.get("model", "tiny.en")
        if embedded not in EMBEDDED:
            raise ValueError(f"transcribe: model is {embedded!r}, expected {' or '.join(EMBEDDED)}")
        return cls(load_whisper(options, str(embedded)), limits)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any recording."""
        return accepts_audio(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """Log-mel units, none where nothing can be speech. Raises BadInput as `decode_audio`."""
        samples = decode_audio(payload.data, payload.media_type, self._limits)
        language = declared_language(payload.language)
        if language is not None and not self._whisper.languages and language != "en":
            return Prepared((), Language(language, 1.0, letters=True))
        windows = tuple(speech_windows(samples, _LONGEST_S))
        units = tuple(self._unit(samples[window.start : window.end], language) for window in windows)
        speech_s = int(voiced_hops(samples).sum()) / 100
        return Prepared(units, _Recording(samples.size / RATE_HZ, speech_s, windows))

    def forward(self, units: Sequence[Unit]) -> list[_Said]:
        """Decode greedily; a row's text does not depend on its neighbours.

        Rows that loop or seem unlikely are decoded once more over the full 30 s that Whisper was trained on.
        """
        said = self._decode(units, [unit.length for unit in units])
        again = [
            row
            for row, unit in enumerate(units)
            if unit.length < _WINDOW_FRAMES and _is_failed(said[row].decoded)
        ]
        if again:
            second = self._decode([units[row] for row in again], [_WINDOW_FRAMES] * len(again))
            for row, other in zip(again, second, strict=True):
                if _preference(other.decoded) > _preference(said[row].decoded):
                    said[row] = other
        return said

    def _decode(self, units: Sequence[Unit], frames: Sequence[int]) -> list[_Said]:
        mel = np.empty((len(units), self._whisper.net.shape.mels, max(frames)), np.float32)
        for row, unit in enumerate(units):
            mel[row] = unit.data.mel.max() - 2.0  # what log_mel gives for silence: 8 decades below the peak
            mel[row, :, : unit.length] = unit.data.mel
        with torch.inference_mode():
            batch = torch.from_numpy(mel).to(self._device, self._dtype)
            states, mask = self._whisper.net.encode(batch, torch.tensor(frames, device=self._device))
            languages = self._languages(units, states, mask)
            limits = [int(_TOKENS_SPARE + _TOKENS_PER_S * unit.data.seconds) for unit in units]
            prompts = torch.tensor([self._prompt(code) for code in languages], device=self._device)
            rows = decode_greedy(self._whisper.net, states, mask, prompts, limits, self._whisper.rules)
        return [_Said(row, language) for row, language in zip(rows, languages, strict=True)]

    def finish(self, prepared: Prepared, outputs: Sequence[_Said]) -> Outcome:
        """The text of all windows that hold speech; `unsupported_language` where the sender declares another than
        an English model's. Raises BadInput `not_finite`.
        """
        if isinstance(prepared.context, Language):
            return unsupported(self.name, prepared.context)
        recording: _Recording = prepared.context
        spans: list[Span] = []
        tokens, logprobs = 0, 0.0
        for window, said in zip(recording.windows, outputs, strict=True):
            decoded = said.decoded
            if not math.isfinite(decoded.avg_logprob):
                raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
            text = self._whisper.tokenizer.decode(list(decoded.tokens)).strip()
            if not text or is_doubtful(decoded):
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
        return [Payload("audio/wav", syllables_wav(seconds)) for seconds in (1.0, 27.0)]

    def _unit(self, samples: F32, language: str | None) -> Unit:
        wanted = math.ceil((samples.size / HOP + _TAIL_S * FRAMES_PER_S) / _STEP_FRAMES) * _STEP_FRAMES
        frames = min(max(wanted, _LEAST_FRAMES), _WINDOW_FRAMES)
        mel = log_mel(samples, frames, self._whisper.net.shape.mels)
        return Unit(frames, _Piece(mel, samples.size / RATE_HZ, language))

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


def is_doubtful(decoded: Decoded) -> bool:
    """Whether the words are more likely invented than heard."""
    if decoded.no_speech > _NO_SPEECH and decoded.avg_logprob < _LEAST_LOGPROB_SILENCE:
        return True
    return decoded.cut or is_loop(decoded.tokens)


def _is_failed(decoded: Decoded) -> bool:
    """Whether a second look over the full window may help. It does not where there is no speech."""
    unlikely = decoded.avg_logprob < _LEAST_LOGPROB and decoded.no_speech < _NO_SPEECH
    return unlikely or decoded.cut or is_loop(decoded.tokens)


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether the text repeats itself more than speech does: it packs to under 1 / 2.4 of its size.

    Measured on token numbers of 2 bytes, which needs no text; short answers never pack that well.
    """
    data = np.asarray(tokens, "<u2").tobytes()
    return len(data) > _MOST_COMPRESSION * len(zlib.compress(data))


def _preference(decoded: Decoded) -> tuple[bool, float]:
    return not (decoded.cut or is_loop(decoded.tokens)), decoded.avg_logprob
