"""Recordings -> text by a CTC network in a user's folder: `transcribe` where the folder's configuration names one.

As with Whisper a recording is cut at its pauses into windows, each a unit, silence has none, and what is held of it is
bounded whatever its length. Where speech goes on without a pause, windows overlap and are joined at a blank. A
recording may be a single word cut close, as such networks are often trained on.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.inference.ctc_files import Listener, load_listener
from models.media import listen
from models.media.again import Again
from models.media.audio import RATE_HZ, AudioLimits, decode_pieces
from models.media.language import Language
from models.media.speech import Window
from models.networks.ctc import Heard
from models.networks.ctc_joins import Timed, joined
from models.tasks.recordings import accepts_audio, audio_limits, declared_language, syllables_wav
from models.tasks.texts import known_options, languages_option, unsupported
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Unit

F32 = NDArray[np.float32]

# With both margins and the silence that is put around it a window stays within Whisper's 30 s.
_LONGEST_S, _MARGIN_S = 26.0, 1.5
_REACH_S = (
    1.0  # from a cut to where the next window takes over: half a second of context is left on either side
)
_AT_ONCE = 8  # windows that are made at once; the later ones of a long recording when their turn comes
_MAX_UNITS = 64


@dataclass(frozen=True, slots=True)
class _Recording:
    """What `finish` needs of `prepare`. `begins_s`: of each window's sound, its margin included."""

    seconds: float
    speech_s: float
    windows: tuple[Window, ...]
    begins_s: tuple[float, ...]


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
        self._ahead = ThreadPoolExecutor(1, "transcribe-ahead")

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
        """Features of each window, none where nothing can be speech. Raises BadInput as `decode_pieces`."""
        language = declared_language(payload.language)
        foreign = language is not None and self._languages is not None and language not in self._languages
        listener = _listener()
        again = Again(lambda: self._features(payload), self._ahead)
        windows: list[Window] = []
        begins_s: list[float] = []
        units: list[Unit] = []
        for heard in listener.hear(decode_pieces(payload.data, payload.media_type, self._limits)):
            number = len(windows)
            windows.append(heard.window)
            begins_s.append((heard.window.start - heard.lead) / RATE_HZ)
            at_once = number < _AT_ONCE and not foreign
            row = again.item(number, self._listener.features(heard.samples) if at_once else None)
            units.append(Unit(self._listener.cost(heard.samples.size), row))
        if foreign:
            assert language is not None
            return Prepared((), Language(language, 1.0, letters=True))
        seconds = listener.samples / RATE_HZ
        return Prepared(tuple(units), _Recording(seconds, listener.voiced_s, tuple(windows), tuple(begins_s)))

    def _features(self, payload: Payload) -> Iterator[F32]:
        """Of all windows, from the first on."""
        pieces = decode_pieces(payload.data, payload.media_type, self._limits)
        return (self._listener.features(heard.samples) for heard in _listener().hear(pieces))

    def forward(self, units: Sequence[Unit]) -> list[Heard]:
        """The likeliest tokens of each window; a row does not depend on its neighbours."""
        return self._listener.listen([unit.data.get() for unit in units])

    def finish(self, prepared: Prepared, outputs: Sequence[Heard]) -> Outcome:
        """One finding: the text, its tokens' mean probability, and a span for every window with words."""
        recording = prepared.context
        if isinstance(recording, Language):
            return unsupported(self.name, recording)
        cuts_s = [
            before.end / RATE_HZ if before.runs_on and after.start == before.end else None
            for before, after in pairwise(recording.windows)
        ]
        timed = [
            Timed(one.tokens, tuple(begins_s + self._listener.seconds(at) for at in one.at), one.scores)
            for begins_s, one in zip(recording.begins_s, outputs, strict=True)
        ]
        own = joined(timed, cuts_s, _REACH_S, self._listener.ends_word)
        spans: list[Span] = []
        scores: list[float] = []
        runs: list[list[int]] = [[]]  # tokens from one pause to the next: a cut may lie within a word
        for window, one, cut_s in zip(recording.windows, own, [*cuts_s, None], strict=False):
            text = self._listener.text(one.tokens)
            if text:
                score = sum(one.scores) / len(one.scores)
                spans.append(Span(window.start / RATE_HZ, window.end / RATE_HZ, text, score))
                scores += one.scores
            runs[-1] += one.tokens
            if cut_s is None:
                runs.append([])
        only = next(iter(self._languages)) if self._languages and len(self._languages) == 1 else None
        detail: dict[str, Json] = {
            "language": only,
            "seconds": round(recording.seconds, 3),
            "speech_s": recording.speech_s,
            "windows": len(outputs),
        }
        said = " ".join(text for text in map(self._listener.text, runs) if text)
        mean = sum(scores) / len(scores) if scores else None
        return Outcome((Finding(self.name, said, mean, spans=tuple(spans), detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """A syllable and half a minute of them: the shortest and the longest window."""
        return [Payload("audio/wav", syllables_wav(seconds)) for seconds in (1.0, 27.0)]


def _listener() -> listen.Listener:
    return listen.Listener(_LONGEST_S, close_cut=True, margin_s=_MARGIN_S)
