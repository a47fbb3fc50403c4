"""Spoken digits: splits by speaker, a recipe that learns, and the folder that it writes being served."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made_up_digits
from models.errors import BadInput, WeightsMismatch
from models.inference.ctc_files import Encoder
from models.inference.offline import label_all
from models.media.audio import decode_audio
from models.media.edged import features, warped
from models.media.mel import log_mel, mel_power
from models.media.speech import speech_windows
from models.networks.ctc import CtcHead, CtcShape
from models.tasks.transcribe import Transcribe
from models.tasks.transcribe_ctc import TranscribeCtc
from models.train.digits import WORDS, Recipe, TrainedDigits, encoded, listen, split, train_digits
from models.train.spoken import Said, Strings, plain_strings, read_clips
from models.types import LoadOptions, Outcome, Payload, Task
from streams.cli.run import run

LAYERS = 1
RECIPE = Recipe(
    strings=54, digits=(1,), steps=100, shape=CtcShape(tokens=11, width=64), dropout=0.0, rows=20, judged=1
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def encoder(cache: Path) -> Encoder:
    return Encoder.load(LoadOptions(cache=cache), LAYERS)


@pytest.fixture(scope="module")
def trained(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> TrainedDigits:
    clips = made_up_digits.clips(["ada", "bob", "cleo", "dan"], takes=4)
    out = tmp_path_factory.mktemp("digits") / "mine"
    return train_digits(clips, encoder, out, revision="t-1", test=["dan"], recipe=RECIPE)


def texts(task: Task, *recordings: bytes) -> list[Outcome]:
    found = dict(label_all(task, [Payload("audio/wav", data) for data in recordings]))
    outcomes = [found[at] for at in range(len(recordings))]
    assert all(isinstance(one, Outcome) for one in outcomes), outcomes
    return [one for one in outcomes if isinstance(one, Outcome)]


def test_a_speaker_that_was_not_heard_is_understood_better_than_by_chance(trained: TrainedDigits) -> None:
    assert trained.test.speakers == ("dan",) and trained.test.recordings == 40
    assert trained.train.speakers == ("ada", "bob", "cleo") and trained.validation.recordings == 30
    assert trained.test.clips.value < 0.3, "chance is 0.9"
    assert trained.test.clips.low <= trained.test.clips.value <= trained.test.clips.high
    table = np.array(trained.test.confusion)
    assert table.shape == (10, 11) and table.sum(1).tolist() == [4] * 10
    # A single clip taken for one other digit is one error; nothing or several heard is one or more.
    assert trained.test.clips.value * 40 >= 40 - np.trace(table) - 1e-9


def test_the_folder_is_served_by_transcribe_with_the_same_answers(
    trained: TrainedDigits, encoder: Encoder, cache: Path
) -> None:
    task = Transcribe.load(LoadOptions(cache=cache, folder=trained.folder))
    assert isinstance(task, TranscribeCtc) and task.model.revision == "t-1"
    assert task.model.sha256 == trained.manifest.sha256
    said = [made_up_digits.digit(number, "bob", 0) for number in range(10)]
    silence = np.zeros(16_000, np.float32)
    outcomes = texts(task, *map(made_up_digits.wav, [*said, silence]))

    head = CtcHead(RECIPE.shape)
    head.load_state_dict({name: t.float() for name, t in _tensors(trained.folder).items()})
    decoded = [decode_audio(made_up_digits.wav(samples)) for samples in said]
    windows = [(samples, *speech_windows(samples, close_cut=True)) for samples in decoded]
    wanted = listen(
        head,
        encoded(encoder, [Said(samples[window.start : window.end], (0,)) for samples, window in windows]),
    )
    heard = [str(one.findings[0].value) for one in outcomes[:10]]
    assert heard == [" ".join(WORDS[number] for number in numbers) for numbers in wanted]
    assert sum(word == WORDS[number] for number, word in enumerate(heard)) >= 8
    first = next(one.findings[0] for one in outcomes if one.findings[0].value)
    assert first.score is not None and 0 < first.score <= 1 and first.detail["language"] == "en"
    assert [span.value for span in first.spans] == [first.value]
    assert outcomes[10].findings[0].value == "" and outcomes[10].findings[0].spans == ()


def test_other_languages_and_hostile_recordings_are_refused(trained: TrainedDigits, cache: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=cache, folder=trained.folder))
    wav = made_up_digits.wav(made_up_digits.digit(1, "ada", 0))
    german = task.prepare(Payload("audio/wav", wav, language="de-AT"))
    assert task.finish(german, []).findings[0].value == "unsupported_language"
    for data in (b"", b"just words", wav[:60], wav[: len(wav) // 2]):
        with pytest.raises(BadInput):
            task.prepare(Payload("audio/wav", data))
    with pytest.raises(BadInput) as caught:
        short = LoadOptions(cache=cache, folder=trained.folder, options={"max_s": 0.1})
        Transcribe.load(short).prepare(Payload("audio/wav", wav))
    assert caught.value.reason == "too_long"


def test_a_row_does_not_depend_on_its_neighbours(trained: TrainedDigits, cache: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=cache, folder=trained.folder))
    strings = plain_strings(made_up_digits.clips(["cleo"], 2), 5, np.random.default_rng(3))
    units = [
        u for one in strings for u in task.prepare(Payload("audio/wav", made_up_digits.wav(one.data))).units
    ]
    assert len({unit.length for unit in units}) > 2
    together = task.forward(units)
    for unit, one in zip(units, together, strict=True):
        (alone,) = task.forward([unit])
        assert alone.tokens == one.tokens and alone.scores == pytest.approx(one.scores, abs=1e-4)


def test_padding_reaches_no_output(encoder: Encoder) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = CtcHead(RECIPE.shape).eval()
        for frames in (4, 8, 20, 24, 36):
            row, other = torch.randn(frames, 80).numpy(), torch.randn(40, 80).numpy()
            alone, _ = encoder.states([row])
            both, lengths = encoder.states([row, other])
            real = frames // 4
            assert alone.shape[1] == real and lengths.tolist() == [real, 10]
            torch.testing.assert_close(both[:1, :real], alone, atol=1e-4, rtol=0)
            torch.testing.assert_close(
                head(both, lengths)[:1, :real], head(alone, lengths[:1]), atol=1e-4, rtol=0
            )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 48}, "does not fit its config.json"),
        ({"width": 10**9}, "gives no sizes"),
        ({"width": "64"}, "gives no sizes"),
        ({"encoder": None}, "names no encoder"),
        ({"encoder": {"layers": 9}}, "9 layers of an encoder that has 4"),
        ({"encoder": {"layers": 1, "sha256": "0" * 64}}, "trained on another encoder"),
        ({"words": []}, "lists no words"),
        ({"words": ["zero"] * 9}, "does not fit its config.json"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    trained: TrainedDigits, cache: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in trained.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsMismatch, match=said):
        Transcribe.load(LoadOptions(cache=cache, folder=folder))


def test_a_changed_weight_is_refused(trained: TrainedDigits, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in trained.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(WeightsMismatch, match="has sha256"):
        Transcribe.load(LoadOptions(cache=cache, folder=folder))


def test_speakers_are_in_one_part_and_takes_in_one() -> None:
    clips = made_up_digits.clips(["ada", "bob", "cleo"], takes=3)
    train, validation, test = split(clips, ["ada"], ["bob"])
    assert (set(train), set(validation), set(test)) == ({"cleo"}, {"bob"}, {"ada"})
    train, validation, test = split(clips, ["ada"], [])
    assert set(train) == set(validation) == {"bob", "cleo"} and set(test) == {"ada"}
    for speaker in train:
        for number in range(10):
            kept = {clip.tobytes() for clip in train[speaker][number]}
            held_out = {clip.tobytes() for clip in validation[speaker][number]}
            assert len(kept) == 2 and len(held_out) == 1 and not kept & held_out
    for wrong in ((["eve"], []), ([], []), (["ada"], ["ada"]), (["ada", "bob"], ["cleo"])):
        with pytest.raises(BadInput, match="speakers are ada, bob, cleo"):
            split(clips, *wrong)


def test_recordings_are_read_from_a_tar_or_a_folder_and_odd_files_passed_over(tmp_path: Path) -> None:
    tar = made_up_digits.write_tar(tmp_path / "all.tar", ["bob"], takes=1)
    clips = read_clips(tar)
    assert list(clips) == ["bob"] and [len(clips["bob"][number]) for number in range(10)] == [1] * 10
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "readme.txt").write_text("not a recording")
    with pytest.raises(BadInput, match="holds no recording"):
        read_clips(folder)
    (folder / "3_bob_0.wav").write_bytes(made_up_digits.wav(made_up_digits.digit(3, "bob", 0)))
    with pytest.raises(BadInput, match="bob says no 0"):
        read_clips(folder)
    with pytest.raises(BadInput, match="neither a folder nor a tar"):
        read_clips(folder / "3_bob_0.wav")


def test_training_strings_say_what_they_are_made_of_and_differ_each_time() -> None:
    strings = Strings(made_up_digits.clips(["ada"], 2)["ada"], 80, np.random.default_rng(1))
    batch = strings.batch([3] * 6 + [1] * 2)
    assert [len(one.digits) for one in batch] == [3] * 6 + [1] * 2
    assert all(one.data.shape[1] == 80 and np.isfinite(one.data).all() for one in batch)
    assert len({one.data.tobytes() for one in batch}) == len(batch)


def test_features_are_whispers_own_with_silence_around_the_word() -> None:
    word = made_up_digits.digit(3, "bob", 0)
    read = features(word, 80)
    assert read.shape == (4 * -(-(word.size + 6_400) // 640), 80)
    np.testing.assert_array_equal(read.T, log_mel(np.pad(word, 3_200), len(read)))
    np.testing.assert_allclose(features(word * np.float32(0.1), 80) - read, -0.5, atol=1e-3)  # 20 dB


def test_a_longer_throat_moves_tones_and_leaves_the_rest() -> None:
    hz = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 1000 * hz).astype(np.float32)
    power = mel_power(tone, 100, 80).T
    np.testing.assert_array_equal(warped(power, 1.0, (0.0,) * 4), power)
    longer = warped(power, 1.25, (0.0,) * 4)
    lower = mel_power(np.sin(2 * np.pi * 800 * hz).astype(np.float32), 100, 80).T
    assert abs(int(longer.mean(0).argmax()) - int(lower.mean(0).argmax())) <= 1
    assert int(lower.mean(0).argmax()) < int(power.mean(0).argmax()) - 4
    high = mel_power(np.sin(2 * np.pi * 6000 * hz).astype(np.float32), 100, 80).T
    np.testing.assert_allclose(warped(high, 1.25, (0.05,) * 4)[:, 70:], high[:, 70:], rtol=1e-5)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


def test_the_command_trains_draws_and_what_it_wrote_can_be_evaluated(
    trained: TrainedDigits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    def quickly(*arguments: Any, **named: Any) -> TrainedDigits:
        return train_digits(*arguments, **{**named, "recipe": replace(RECIPE, strings=2, steps=4)})

    monkeypatch.setattr("models.train.digits.train_digits", quickly)
    monkeypatch.setattr("models.train.digits.STRINGS", 5)
    tar = made_up_digits.write_tar(tmp_path / "all.tar", ["ada", "bob", "cleo"], takes=2)
    out = tmp_path / "out"
    command = ["--set", f"media.cache={cache}", "train", "digits", str(tar), "--out", str(out), "--json"]

    assert run([*command, "--validation", "bob"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[part]["speakers"] for part in ("train", "validation", "test")] == [
        ["ada"],
        ["bob"],
        ["cleo"],
    ]
    assert set(found["test"]["strings"]) == {"value", "low", "high"} and found["test"]["recordings"] == 20
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert run([*command, "--test", "eve"]) == 2
    assert "speakers are ada, bob, cleo" in capsys.readouterr().err

    lines = []
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(made_up_digits.wav(made_up_digits.digit(number, "dan", 9)))
        lines.append(f"{number}.wav\t{WORDS[number]}")
    listed = tmp_path / "list.tsv"
    listed.write_text("\n".join(lines))
    served = ["--set", f"media.cache={cache}", "--set", f"media.tasks.transcribe.folder={trained.folder}"]
    assert run([*served, "evaluate", "transcribe", str(listed), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["model"]["name"] == "digits-ctc" and scored["figures"]["rate"]["value"] <= 0.3
