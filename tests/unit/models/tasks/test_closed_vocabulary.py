"""Words of a list: what it is told, what it refuses, and what it hears."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput, WeightsMismatch
from models.tasks.transcribe import Transcribe
from models.types import LoadOptions, Payload

RECORDINGS = Path(__file__).parents[4] / "streams/demo/data/audio"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


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
    task = load(tmp_path, words=DIGITS)
    assert said(task, Payload("audio/wav", silence(2.0))) == ""
    assert said(task, Payload("audio/wav", silence(2.0), "de")) == "unsupported_language"
    with pytest.raises(BadInput):
        task.prepare(Payload("audio/wav", np.random.default_rng(1).bytes(4000)))
    assert task.model.name == "pocketsphinx-en-us" and len(task.model.sha256) == 64


def test_spoken_digits_by_words_and_by_grammar(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    right = {
        "digits-1024-yweweler": "one zero two four",
        "digits-2001-theo": "two zero zero one",
        "digits-90210-lucas": "nine zero two one zero",
    }
    files = [Payload("audio/wav", (RECORDINGS / f"{name}.wav").read_bytes()) for name in right]
    by_words = load(tmp_path, words=DIGITS)
    heard = [said(by_words, file) for file in files]
    assert heard == list(right.values())
    assert [said(by_words, file) for file in reversed(files)] == heard[::-1], "a neighbour changed it"
    grammar = f"#JSGF V1.0; grammar digits; public <digits> = ({' | '.join(DIGITS)})+;"
    by_grammar = load(tmp_path, grammar=grammar)
    assert all(set(said(by_grammar, file).split()) <= set(DIGITS) for file in files)
    assert said(by_grammar, files[1]) == right["digits-2001-theo"]
