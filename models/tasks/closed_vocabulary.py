"""Recordings -> the words of a closed vocabulary, by pocketsphinx: commands, numbers, names of a desk.

Whisper was made for sentences; a word of a third of a second, or a list of them, it often leaves out or replaces by
what is likelier in a text. A recognizer that knows that only these words can be said hears them better. What else is
said is heard as one of them as well: for recordings of which the vocabulary is known.

It needs no device: all of it runs where payloads are prepared, window by window, so that a long recording takes no
more memory than a short one.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.inference.pocketsphinx_files import INFO, checked_folder, decoder, unknown_words
from models.media.audio import RATE_HZ, AudioLimits, decode_pieces
from models.media.language import Language
from models.media.listen import Listener
from models.tasks.recordings import accepts_audio, declared_language
from models.tasks.texts import unsupported
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Task

F32 = NDArray[np.float32]
_MOST_WORDS = 1000


@dataclass(frozen=True, slots=True)
class _Heard:
    seconds: float
    speech_s: float
    spans: tuple[Span, ...]


class ClosedVocabulary:
    """The task `transcribe` with the option `model = "pocketsphinx"`. See `models.types.Task`."""

    name = "transcribe"
    model = INFO
    batch_cost = 1
    max_units = 1

    def __init__(self, folder: Path, grammar: str, limits: AudioLimits) -> None:
        """Raises ValueError if the grammar cannot be read."""
        self._folder = folder
        self._grammar = grammar
        self._limits = limits
        self._own = threading.local()  # a recognizer is no two threads' at once
        self._recognizer()

    @classmethod
    def load(cls, options: LoadOptions) -> Task:
        """Through `Transcribe.load`, which knows when it is wanted."""
        return cls.of(options.options, AudioLimits())

    @classmethod
    def of(cls, options: dict[str, Json], limits: AudioLimits) -> "ClosedVocabulary":
        """Options: `words`, a list of lower-case English words said in any number and order, or `grammar`, JSGF.

        Raises ValueError, WeightsMismatch.
        """
        words, grammar = options.get("words"), options.get("grammar")
        if (words is None) == (grammar is None):
            raise ValueError("transcribe: pocketsphinx needs either words or grammar")
        folder = checked_folder()
        if grammar is not None:
            if not isinstance(grammar, str):
                raise ValueError(f"transcribe: grammar is {grammar!r}, expected JSGF as a text")
            return cls(folder, grammar, limits)
        if not isinstance(words, list) or not 0 < len(words) <= _MOST_WORDS:
            raise ValueError(f"transcribe: words is {words!r:.80}, expected a list of up to {_MOST_WORDS}")
        named = [str(word) for word in words]
        if unknown := unknown_words(folder, named):
            raise ValueError(f"transcribe: not in pocketsphinx's dictionary: {', '.join(unknown[:10])}")
        return cls(folder, f"#JSGF V1.0; grammar words; public <said> = ( {' | '.join(named)} )+;", limits)

    def prepare(self, payload: Payload) -> Prepared:
        """All there is to do; no units. Raises BadInput as `decode_pieces`."""
        language = declared_language(payload.language) or "en"
        listener, spans = Listener(), []
        for heard in listener.hear(decode_pieces(payload.data, payload.media_type, self._limits)):
            if language == "en" and (text := self._recognize(heard.samples)):
                window = heard.window
                spans.append(Span(window.start / RATE_HZ, window.end / RATE_HZ, text))
        if language != "en":
            return Prepared((), Language(language, 1.0, letters=True))
        return Prepared((), _Heard(listener.samples / RATE_HZ, listener.voiced_s, tuple(spans)))

    def forward(self, units: Sequence[Any]) -> list[Any]:
        """Nothing is left for the device."""
        return [None for _ in units]

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        """The words of all windows."""
        heard = prepared.context
        if isinstance(heard, Language):
            return unsupported(self.name, heard)
        text = " ".join(str(span.value) for span in heard.spans)
        detail: dict[str, Json] = {
            "language": "en",
            "seconds": round(heard.seconds, 3),
            "speech_s": heard.speech_s,
        }
        return Outcome((Finding(self.name, text, spans=heard.spans, detail=detail),))

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Any recording."""
        return accepts_audio(media_type)

    def examples(self) -> Sequence[Payload]:
        """None: no shape is new to it."""
        return ()

    def _recognizer(self) -> Any:
        found = getattr(self._own, "decoder", None)
        if found is None:
            found = self._own.decoder = decoder(self._folder, self._grammar)
        return found

    def _recognize(self, samples: F32) -> str:
        found = self._recognizer()
        found.reinit_feat()  # what it learnt of one recording's level must not change another's words
        found.start_utt()
        found.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        found.end_utt()
        hypothesis = found.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr)
