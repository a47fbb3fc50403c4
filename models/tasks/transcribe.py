"""Recordings -> text, by Whisper: the embedded tiny.en (English) or base (99 languages), or a user's folder.

A recording is cut at its pauses into windows of at most 30 s, each a unit. Silence and steady noise have no
units at all, and what the network itself doubts is left out, so that they give an empty transcript: Whisper
otherwise invents words for them.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import BadInput
from models.inference.ctc_files import is_ctc
from models.inference.devices import batch_cost_on, recorder_on
from models.inference.static_steps import StaticSteps
from models.inference.whisper_files import EMBEDDED, LoadedWhisper, load_whisper
from models.media.again import Again, Item
from models.media.audio import RATE_HZ, AudioLimits, decode_pieces
from models.media.language import Language
from models.media.listen import Listener
from models.media.mel import FRAMES_PER_S, HOP, log_mel
from models.media.speech import Window
from models.networks.doubt import is_doubtful, is_failed, preference
from models.networks.greedy import Decoded, Encoded, FreeSteps, GreedyDecoder, likeliest
from models.networks.silence import sampled_positions
from models.tasks.closed_vocabulary import ClosedVocabulary
from models.tasks.recordings import accepts_audio, audio_limits, declared_language, syllables_wav
from models.tasks.texts import unsupported
from models.tasks.transcribe_ctc import TranscribeCtc
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Task, Unit

F32 = NDArray[np.float32]

_LONGEST_S = 28.0
# Lengths come in steps so that the windows of a long recording, nearly all full, are asked for in order.
_STEP_FRAMES, _SHORT_STEP_FRAMES, _SHORT_S = 100, 20, 10.0
_WINDOW_FRAMES = 3000
# Windows of a recording that are made at once; the later ones of a long one when their turn comes.
_AT_ONCE = 8
# Each step of decoding reads all weights once, for however many rows: as many are decoded at once as memory allows,
# and others of the batch take the places of those that end.
_PLACES, _PLACES_WINDOWS = 32, 16
_GPU_PLACES = 64  # an estimate: no GPU was at hand to measure it
_MAX_UNITS, _BATCH_WINDOWS = 96, 32

# Fast speech is 7 tokens a second; beyond this a decoder is in a loop.
_TOKENS_PER_S, _TOKENS_SPARE = 12, 16


@dataclass(frozen=True, slots=True)
class Silence:
    """What is encoded of the silence that fills a window: all of its first `tail_s`, then one position for `stride`;
    for `mean` see `Whisper.encode`."""

    tail_s: float
    stride: int
    mean: bool = False


WHOLE = Silence(0.0, 1)
# Measured against whole windows, by words and by how far the next token's chances move: docs/speech.md.
_SILENCES = {"whisper-tiny.en": Silence(0.5, 8, mean=True)}
_SILENCE = Silence(1.0, 4)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One unit: log-mel (mels, frames) of sound and silence; the language that the payload declares."""

    frames: int
    seconds: float
    language: str | None
    mel: Item[F32]

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
    max_units = _MAX_UNITS

    def __init__(
        self, whisper: LoadedWhisper, limits: AudioLimits | None = None, silence: Silence | None = None
    ) -> None:
        """`silence`, None: as is known to do for this model. `decoder_steps` counts up."""
        self._whisper = whisper
        self._limits = limits or AudioLimits()
        self._silence = silence or _SILENCES.get(whisper.info.name, _SILENCE)
        self._ahead = ThreadPoolExecutor(1, "transcribe-ahead")
        self.model = whisper.info
        self._device = whisper.net.tokens.device
        record = recorder_on(str(self._device))
        self._steps = FreeSteps(whisper.net) if record is None else StaticSteps(whisper.net, record)
        self.captures = (self._steps,) if isinstance(self._steps, StaticSteps) else ()
        self.places, windows = (_PLACES, _PLACES_WINDOWS) if record is None else (_GPU_PLACES, _GPU_PLACES)
        self.places_cost = _WINDOW_FRAMES * windows
        self.batch_cost = batch_cost_on(str(self._device), _WINDOW_FRAMES * _BATCH_WINDOWS)
        self.decoder_steps = 0
        self._dtype = whisper.net.tokens.dtype

    @classmethod
    def load(cls, options: LoadOptions) -> Task:
        """Options: `model`: tiny.en (English, fast; the default), base (99 languages, better) or pocketsphinx (with
        `words` or `grammar`, see `models.tasks.closed_vocabulary`). `max_s`: the longest recording accepted.
        `whole_windows`, true: encode all of the silence that fills short windows, as the reference does, at up to
        three times the cost. A folder may hold a CTC network. Raises WeightsMismatch, ValueError.
        """
        if options.folder is not None and is_ctc(options.folder):
            return TranscribeCtc.load(options)
        limits = audio_limits(cls.name, options)
        embedded = options.options.get("model", "tiny.en")
        if embedded == "pocketsphinx":
            return ClosedVocabulary.of(options.options, limits)
        if embedded not in EMBEDDED:
            raise ValueError(
                f"transcribe: model is {embedded!r}, expected {', '.join(EMBEDDED)} or pocketsphinx"
            )
        whole = options.options.get("whole_windows", False)
        if not isinstance(whole, bool):
            raise ValueError(f"transcribe: whole_windows is {whole!r}, expected true or false")
        whisper = load_whisper(options, str(embedded))
        return cls(whisper, limits, WHOLE if whole else None)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any recording."""
        return accepts_audio(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """Units of log-mel, none where nothing can be speech. Raises BadInput as `decode_pieces`.

        The recording is decoded once to its end, so that what is wrong with it is known before anything is said. What
        is held of it is bounded whatever its length: `_AT_ONCE` windows, and later the few that `Again` keeps.
        """
        language = declared_language(payload.language)
        foreign = language is not None and not self._whisper.languages and language != "en"
        listener = Listener(_LONGEST_S)
        windows: list[Window] = []
        units: list[Unit] = []
        again = Again(lambda: self._mels(payload), self._ahead)
        for heard in listener.hear(decode_pieces(payload.data, payload.media_type, self._limits)):
            number, samples = len(windows), heard.samples
            windows.append(heard.window)
            frames = self._frames(samples.size)
            at_once = number < _AT_ONCE and not foreign
            piece = _Piece(
                frames,
                samples.size / RATE_HZ,
                language,
                again.item(number, self._mel(samples) if at_once else None),
            )
            positions = self._whisper.net.shape.positions
            units.append(Unit(2 * sampled_positions(frames, positions, self._silence.stride), piece))
        if foreign:
            assert language is not None
            return Prepared((), Language(language, 1.0, letters=True))
        recording = _Recording(listener.samples / RATE_HZ, listener.voiced_s, tuple(windows))
        return Prepared(tuple(units), recording)

    def _mels(self, payload: Payload) -> Iterator[F32]:
        """Of all windows, from the first on."""
        pieces = decode_pieces(payload.data, payload.media_type, self._limits)
        return (self._mel(heard.samples) for heard in Listener(_LONGEST_S).hear(pieces))

    def _mel(self, samples: F32) -> F32:
        return log_mel(samples, self._frames(samples.size), self._whisper.net.shape.mels)

    def _frames(self, samples: int) -> int:
        """Of sound, and the silence after it that is encoded in full."""
        if self._silence.stride == 1:
            return _WINDOW_FRAMES
        step = _SHORT_STEP_FRAMES if samples < _SHORT_S * RATE_HZ else _STEP_FRAMES
        wanted = math.ceil((samples / HOP + self._silence.tail_s * FRAMES_PER_S) / step) * step
        return min(wanted, _WINDOW_FRAMES)

    def forward(self, units: Sequence[Unit]) -> list[_Said]:
        """Decode greedily; a row's text does not depend on its neighbours.

        Rows that loop or seem unlikely are decoded once more over the full 30 s that Whisper was trained on.
        """
        said = self._decode(units, [unit.data.frames for unit in units])
        again = [
            row
            for row, unit in enumerate(units)
            if unit.data.frames < _WINDOW_FRAMES and is_failed(said[row].decoded)
        ]
        if again:
            second = self._decode([units[row] for row in again], [_WINDOW_FRAMES] * len(again))
            for row, other in zip(again, second, strict=True):
                if preference(other.decoded) > preference(said[row].decoded):
                    said[row] = other
        return said

    def _decode(self, units: Sequence[Unit], frames: Sequence[int]) -> list[_Said]:
        """Longest first: the rows that come later fit into the places of those that end."""
        order = sorted(range(len(units)), key=lambda row: -frames[row])
        languages: list[str] = []

        def encode(places: Sequence[int]) -> Encoded:
            rows = [order[place] for place in places]
            chosen = [units[row] for row in rows]
            batch = self._batch(chosen, [frames[row] for row in rows])
            states, mask = self._whisper.net.encode(
                batch, [frames[row] for row in rows], self._silence.stride, self._silence.mean
            )
            spoken = self._languages(chosen, states, mask)
            languages.extend(spoken)
            prompts = torch.tensor([self._prompt(code) for code in spoken], device=self._device)
            return Encoded(states, mask, prompts)

        limits = [int(_TOKENS_SPARE + _TOKENS_PER_S * units[row].data.seconds) for row in order]
        with torch.inference_mode():
            longest = max(unit.length for unit in units)
            places = max(1, min(self.places, self.places_cost // longest))
            decoder = GreedyDecoder(self._whisper.net, self._whisper.rules, places, self._steps)
            decoded = decoder.decode(encode, limits)
            self.decoder_steps += decoder.steps
        said = dict(zip(order, map(_Said, decoded, languages), strict=True))
        return [said[row] for row in range(len(units))]

    def _batch(self, units: Sequence[Unit], frames: Sequence[int]) -> torch.Tensor:
        """Log-mel (B, mels, T), filled up with silence."""
        mel = np.empty((len(units), self._whisper.net.shape.mels, max(frames)), np.float32)
        for row, unit in enumerate(units):
            made = unit.data.mel.get()
            mel[row, :, : unit.data.frames] = made
            mel[row, :, unit.data.frames :] = made.max() - 2.0  # log_mel's silence: 8 decades below the peak
        return torch.from_numpy(mel).to(self._device, self._dtype)

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

    def _languages(self, units: Sequence[Unit], states: torch.Tensor, mask: torch.Tensor | None) -> list[str]:
        known = self._whisper.languages
        if not known:
            return ["en"] * len(units)
        declared = [unit.data.language if unit.data.language in known else None for unit in units]
        if all(declared):
            return [code for code in declared if code]
        codes = {token: code for code, token in known.items()}
        guessed = likeliest(self._whisper.net, states, mask, self._whisper.start, list(codes))
        return [code or codes[token] for code, token in zip(declared, guessed, strict=True)]

    def _prompt(self, language: str) -> list[int]:
        between = [self._whisper.languages[language]] if self._whisper.languages else []
        return [self._whisper.start, *between, *self._whisper.after]
