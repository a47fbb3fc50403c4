"""Words of a list: what it is told, what it refuses; the words themselves where the shared recordings are."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput, WeightsMismatch
from models.tasks.transcribe import Transcribe
from models.types import LoadOptions, Payload

CARDS = Path(__file__).parents[5] / "shared/data/speech/cards"
RANKS = [
    "ace",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "jack",
    "queen",
    "king",
]
SUITS = ["clubs", "hearts", "diamonds", "spades"]


def load(tmp_path: Path, **options: object) -> Transcribe:
    told = {"model": "pocketsphinx", **options}
    return Transcribe.load(LoadOptions(cache=tmp_path, options=told))  # type: ignore[arg-type,return-value]


def said(task: Transcribe, payload: Payload) -> str:
    return str(task.finish(task.prepare(payload), []).findings[0].value)


def silence(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes(bytes(2 * int(16_000 * seconds)))
    return out.getvalue()


def test_a_missing_package_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.inference.pocketsphinx_files.find_spec", lambda name: None)
    with pytest.raises(WeightsMismatch, match=r"headrace\[closed-vocabulary\]"):
        load(tmp_path, words=["one"])


@pytest.mark.parametrize("options", [{}, {"words": ["one"], "grammar": "x"}, {"words": 3}, {"words": []}])
def test_options_that_make_no_sense_stop_the_start(tmp_path: Path, options: dict[str, object]) -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(ValueError, match="words"):
        load(tmp_path, **options)


def test_words_that_nobody_can_pronounce_and_broken_grammars_stop_the_start(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(ValueError, match="dictionary: headrace"):
        load(tmp_path, words=["one", "headrace"])
    with pytest.raises(ValueError, match="grammar"):
        load(tmp_path, grammar="no JSGF at all")


def test_silence_has_no_words_other_languages_no_score_and_noise_no_pardon(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    task = load(tmp_path, words=RANKS)
    assert said(task, Payload("audio/wav", silence(2.0))) == ""
    assert said(task, Payload("audio/wav", silence(2.0), "de")) == "unsupported_language"
    with pytest.raises(BadInput):
        task.prepare(Payload("audio/wav", np.random.default_rng(1).bytes(4000)))
    assert task.model.name == "pocketsphinx-en-us" and len(task.model.sha256) == 64


@pytest.mark.skipif(not CARDS.is_dir(), reason="the shared recordings are not here")
def test_spoken_cards_by_grammar_and_by_words(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    right = [
        line.split("</s>")[0][3:].split() for line in (CARDS / "cards.transcription").read_text().splitlines()
    ]
    files = [Payload("audio/wav", (CARDS / f"00{n}.wav").read_bytes()) for n in range(1, 6)]
    by_grammar = load(tmp_path, grammar=(CARDS / "cards.gram").read_text())
    assert [said(by_grammar, file).split() for file in files] == right
    by_words = load(tmp_path, words=["of", *SUITS, *RANKS])
    heard = [said(by_words, file).split() for file in files]
    assert sum(one == other for one, other in zip(heard, right, strict=True)) >= 4
    assert [said(by_words, file).split() for file in reversed(files)] == heard[::-1], "a neighbour changed it"
