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
from models.inference.offline import label_all
from models.media.audio import decode_audio
from models.media.bands import EDGE, features
from models.media.speech import speech_windows
from models.networks.ctc import ConvGruCtc, CtcShape, outputs_of
from models.tasks.transcribe import Transcribe
from models.tasks.transcribe_ctc import TranscribeCtc
from models.train.digits import WORDS, Recipe, TrainedDigits, listen, split, train_digits
from models.train.spoken import Said, Strings, plain_strings, read_clips
from models.types import LoadOptions, Outcome, Payload, Task
from streams.cli.run import run

RECIPE = Recipe(
    steps=150,
    shape=CtcShape(bands=24, tokens=11, channels=(12, 16, 24), hidden=32, layers=1),
    learning_rate=1e-2,
    dropout=0.0,
    rows=(24,),
    alone=1.0,
    blank_bias=-1.0,
    judged=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedDigits:
    clips = made_up_digits.clips(["ada", "bob", "cleo", "dan"], takes=4)
    return train_digits(
        clips, tmp_path_factory.mktemp("digits") / "mine", revision="t-1", test=["dan"], recipe=RECIPE
    )


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
    trained: TrainedDigits, tmp_path: Path
) -> None:
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=trained.folder))
    assert isinstance(task, TranscribeCtc) and task.model.revision == "t-1"
    assert task.model.sha256 == trained.manifest.sha256
    said = [made_up_digits.digit(number, "bob", 0) for number in range(10)]
    silence = np.zeros(16_000, np.float32)
    outcomes = texts(task, *map(made_up_digits.wav, [*said, silence]))

    net = ConvGruCtc(RECIPE.shape)
    net.load_state_dict({name: t.float() for name, t in _tensors(trained.folder).items()}, strict=False)
    decoded = [decode_audio(made_up_digits.wav(samples)) for samples in said]
    windows = [(samples, *speech_windows(samples, close_cut=True)) for samples in decoded]
    wanted = listen(net, [Said(samples[window.start : window.end], (0,)) for samples, window in windows])
    heard = [str(one.findings[0].value) for one in outcomes[:10]]
    assert heard == [" ".join(WORDS[number] for number in numbers) for numbers in wanted]
    assert sum(word == WORDS[number] for number, word in enumerate(heard)) >= 8
    first = next(one.findings[0] for one in outcomes if one.findings[0].value)
    assert first.score is not None and 0 < first.score <= 1 and first.detail["language"] == "en"
    assert [span.value for span in first.spans] == [first.value]
    assert outcomes[10].findings[0].value == "" and outcomes[10].findings[0].spans == ()


def test_other_languages_and_hostile_recordings_are_refused(trained: TrainedDigits, tmp_path: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=trained.folder))
    wav = made_up_digits.wav(made_up_digits.digit(1, "ada", 0))
    german = task.prepare(Payload("audio/wav", wav, language="de-AT"))
    assert task.finish(german, []).findings[0].value == "unsupported_language"
    for data in (b"", b"just words", wav[:60], wav[: len(wav) // 2]):
        with pytest.raises(BadInput):
            task.prepare(Payload("audio/wav", data))
    with pytest.raises(BadInput) as caught:
        short = LoadOptions(cache=tmp_path, folder=trained.folder, options={"max_s": 0.1})
        Transcribe.load(short).prepare(Payload("audio/wav", wav))
    assert caught.value.reason == "too_long"


def test_a_row_does_not_depend_on_its_neighbours(trained: TrainedDigits, tmp_path: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=trained.folder))
    strings = plain_strings(made_up_digits.clips(["cleo"], 2), 5, np.random.default_rng(3))
    units = [
        u for one in strings for u in task.prepare(Payload("audio/wav", made_up_digits.wav(one.data))).units
    ]
    assert len({unit.length for unit in units}) > 2
    together = task.forward(units)
    for unit, one in zip(units, together, strict=True):
        (alone,) = task.forward([unit])
        assert alone.tokens == one.tokens and alone.scores == pytest.approx(one.scores, abs=1e-4)


def test_padding_reaches_no_output() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConvGruCtc(RECIPE.shape).eval()
        for norm in net.norms:
            norm.bias.data.fill_(0.7)  # so that padding would not stay zero by itself
        for frames in (1, 2, 3, 5, 21, 22, 23):
            row = torch.randn(1, frames, 24)
            alone = net(row, torch.tensor([frames]))
            beside = torch.cat([torch.cat([row, torch.zeros(1, 40 - frames, 24)], 1), torch.randn(1, 40, 24)])
            together = net(beside, torch.tensor([frames, 40]))
            assert alone.shape[1] == outputs_of(frames)
            torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden": 48}, "does not fit its config.json"),
        ({"hidden": 10**9}, "gives no sizes"),
        ({"channels": [8, 12]}, "gives no sizes"),
        ({"words": []}, "lists no words"),
        ({"words": ["zero"] * 9}, "does not fit its config.json"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    trained: TrainedDigits, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in trained.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsMismatch, match=said):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))


def test_a_changed_weight_is_refused(trained: TrainedDigits, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in trained.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(WeightsMismatch, match="has sha256"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))


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
    strings = Strings(made_up_digits.clips(["ada"], 2), 40, np.random.default_rng(1))
    batch = [*strings.batch(6, 3), *strings.batch(2, 1, 0.0)]
    assert [len(one.digits) for one in batch] == [3] * 6 + [1] * 2
    assert all(one.data.shape[1] == 40 and np.isfinite(one.data).all() for one in batch)
    assert len({one.data.tobytes() for one in batch}) == len(batch)


def test_a_quiet_word_reads_like_the_same_word_said_loud() -> None:
    word, pause = made_up_digits.digit(3, "bob", 0), np.zeros(8_000, np.float32)
    frames = (word.size + pause.size) // 160
    alike = features(np.concatenate([word, pause, word]), 30)
    quiet = features(np.concatenate([word, pause, word * np.float32(10**-0.6)]), 30)  # 12 dB
    assert np.abs(quiet - alike)[EDGE // 160 + frames :][: word.size // 160].mean() < 0.1, (
        "2.4 dB; 12 unlevelled"
    )


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


def test_the_command_trains_draws_and_what_it_wrote_can_be_evaluated(
    trained: TrainedDigits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def quickly(*arguments: Any, **named: Any) -> TrainedDigits:
        return train_digits(*arguments, **{**named, "recipe": replace(RECIPE, steps=4)})

    monkeypatch.setattr("models.train.digits.train_digits", quickly)
    monkeypatch.setattr("models.train.digits.STRINGS", 5)
    tar = made_up_digits.write_tar(tmp_path / "all.tar", ["ada", "bob", "cleo"], takes=2)
    out = tmp_path / "out"
    command = ["train", "digits", str(tar), "--out", str(out), "--json"]

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
    served = ["--set", f"media.tasks.transcribe.folder={trained.folder}"]
    assert run([*served, "evaluate", "transcribe", str(listed), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["model"]["name"] == "digits-ctc" and scored["figures"]["rate"]["value"] <= 0.3
