"""Recordings -> text by a CTC network in a user's folder: `transcribe` where the folder's configuration names one.

As with Whisper a recording is cut at its pauses into windows, each a unit, and silence has none. A recording
may be a single word cut close, as such networks are often trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.inference.ctc_files import Listener, load_listener
from models.media.audio import RATE_HZ, AudioLimits, decode_audio
from models.media.language import Language
from models.media.speech import Window, speech_windows, voiced_hops
from models.networks.ctc import Heard
from models.tasks.recordings import accepts_audio, audio_limits, declared_language, syllables_wav
from models.tasks.texts import known_options, languages_option, unsupported
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Unit

_LONGEST_S = 28.0
_MAX_UNITS = 64


@dataclass(frozen=True, slots=True)
class _Recording:
    """What `finish` needs of `prepare`."""

    seconds: float
    speech_s: float
    windows: tuple[Window, ...]


class TranscribeCtc:
    """The task; see `models.types.Task`. A unit is one window's features, its output `Heard`."""

    name = "transcribe"
    max_units = _MAX_UNITS

    def __init__(self, listener: Listener, languages: frozenset[str] | None, limits: AudioLimits) -> None:
        self.model = listener.info
        self.batch_cost = listener.batch_cost
        self._listener = listener
        self._languages = languages
        self._limits = limits

    @classmethod
    def load(cls, options: LoadOptions) -> "TranscribeCtc":
        """Options: `max_s`, the longest recording accepted; `languages`, what the network hears.

        Raises WeightsMismatch, ValueError.
        """
        assert options.folder is not None, "there is no embedded network of this kind"
        known_options(cls.name, options, "max_s", "languages")
        limits = audio_limits(cls.name, options)
        languages = languages_option(cls.name, options)
        listener = load_listener(options, options.folder)
        return cls(listener, languages or listener.languages, limits)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any recording."""
        return accepts_audio(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """Features of each window, none where nothing can be speech. Raises BadInput as `decode_audio`."""
        samples = decode_audio(payload.data, payload.media_type, self._limits)
        language = declared_language(payload.language)
        if language is not None and self._languages is not None and language not in self._languages:
            return Prepared((), Language(language, 1.0, letters=True))
        windows = tuple(speech_windows(samples, _LONGEST_S, close_cut=True))
        rows = [self._listener.features(samples[window.start : window.end]) for window in windows]
        speech_s = int(voiced_hops(samples, close_cut=True).sum()) / 100
        units = tuple(Unit(len(row), row) for row in rows)
        return Prepared(units, _Recording(samples.size / RATE_HZ, speech_s, windows))

    def forward(self, units: Sequence[Unit]) -> list[Heard]:
        """The likeliest tokens of each window; a row does not depend on its neighbours."""
        return self._listener.listen([unit.data for unit in units])

    def finish(self, prepared: Prepared, outputs: Sequence[Heard]) -> Outcome:
        """One finding: the text, its tokens' mean probability, and a span for every window with words."""
        recording = prepared.context
        if isinstance(recording, Language):
            return unsupported(self.name, recording)
        spans: list[Span] = []
        scores: list[float] = []
        for window, one in zip(recording.windows, outputs, strict=True):
            text = self._listener.text(one.tokens)
            if text:
                score = sum(one.scores) / len(one.scores)
                spans.append(Span(window.start / RATE_HZ, window.end / RATE_HZ, text, score))
                scores += one.scores
        only = next(iter(self._languages)) if self._languages and len(self._languages) == 1 else None
        detail: dict[str, Json] = {
            "language": only,
            "seconds": round(recording.seconds, 3),
            "speech_s": recording.speech_s,
            "windows": len(outputs),
        }
        said = " ".join(str(span.value) for span in spans)
        mean = sum(scores) / len(scores) if scores else None
        return Outcome((Finding(self.name, said, mean, spans=tuple(spans), detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """A syllable and half a minute of them: the shortest and the longest window."""
        return [Payload("audio/wav", syllables_wav(seconds)) for seconds in (1.0, 27.0)]
