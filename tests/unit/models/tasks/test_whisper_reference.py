"""Whisper here against the reference: the words that faster-whisper gives for the same weights, greedily, in float32
(`tests/golden/speech/make.py` says how they were made)."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from models.evaluate.words import error_rate
from models.inference.offline import label_all
from models.media.again import Again
from models.media.audio import RATE_HZ, decode_audio
from models.networks.silence import sampled_positions
from models.tasks.transcribe import WHOLE, Transcribe, _Piece
from models.types import LoadOptions, Outcome, Payload, Unit

pytestmark = pytest.mark.models

SPEECH = Path(__file__).parents[3] / "golden/speech"
REFERENCE = json.loads((SPEECH / "reference.json").read_text())
AT_ONCE: Again[np.ndarray] = Again(
    lambda: iter(()), ThreadPoolExecutor(1)
)  # none of them is made a second time
INPUTS = {"tiny.en": 8, "base": 3}  # base takes its time


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [decode_audio(path.read_bytes()) for path in sorted(SPEECH.glob("*.flac"))]


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def whisper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Transcribe:
    cache = tmp_path_factory.getbasetemp() / "weights"
    loaded = Transcribe.load(LoadOptions(cache=cache, options={"model": request.param}))
    assert isinstance(loaded, Transcribe)
    return loaded


def words(task: Transcribe, recordings: list[np.ndarray]) -> list[str]:
    """Of whole recordings, as the reference heard them: the gate would cut silence off their ends."""
    units = []
    for number, samples in enumerate(recordings):
        frames = task._frames(samples.size)
        piece = _Piece(frames, samples.size / RATE_HZ, "en", AT_ONCE.item(number, task._mel(samples)))
        units.append(Unit(2 * sampled_positions(frames, 1500, task._silence.stride), piece))
    return [task._whisper.tokenizer.decode(list(one.decoded.tokens)) for one in task.forward(units)]


def inputs(clips: list[np.ndarray], name: str) -> tuple[list[np.ndarray], list[str]]:
    pause = np.zeros(8_000, np.float32)
    recordings, right = [], []
    for one in REFERENCE[: INPUTS[name]]:
        parts = [part for clip in one["clips"] for part in (clips[clip], pause)]
        recordings.append(np.concatenate(parts[:-1]))
        right.append(one[name])
    return recordings, right


def test_whole_windows_give_the_references_words(whisper: Transcribe, clips: list[np.ndarray]) -> None:
    recordings, right = inputs(clips, whisper.model.name.removeprefix("whisper-"))
    heard = words(Transcribe(whisper._whisper, silence=WHOLE), recordings)
    found = error_rate(list(zip(right, heard, strict=True)), False, 7)
    assert found.rate.value == 0.0, found


def test_sampled_silence_gives_all_but_the_same_words(whisper: Transcribe, clips: list[np.ndarray]) -> None:
    recordings, right = inputs(clips, whisper.model.name.removeprefix("whisper-"))
    found = error_rate(list(zip(right, words(whisper, recordings), strict=True)), False, 7)
    assert found.rate.value <= 0.015, found


def test_few_words_of_clean_read_english_are_wrong(whisper: Transcribe) -> None:
    lines = [line.split("\t") for line in (SPEECH / "references.tsv").read_text().splitlines()]
    payloads = [Payload("audio/flac", (SPEECH / name).read_bytes()) for name, _ in lines]
    found = dict(label_all(whisper, payloads))
    outcomes = [found[n] for n in range(len(payloads))]
    heard = [str(one.findings[0].value) for one in outcomes if isinstance(one, Outcome)]
    rate = error_rate([(said, words) for (_, said), words in zip(lines, heard, strict=True)], False, 7).rate
    assert rate.value <= {"whisper-tiny.en": 0.06, "whisper-base": 0.03}[whisper.model.name], heard


def test_attention_in_parts_is_attention() -> None:
    """What a processor with bfloat16 runs, in a dtype that every machine computes in."""
    from models.networks.whisper import _attend_once

    q, k, v = (torch.randn(2, 3, 700, 8, generator=torch.Generator().manual_seed(n)) for n in range(3))
    mask = torch.zeros(2, 1, 1, 700)
    mask[1, ..., 500:] = -torch.inf
    mask[0, ..., 600:] = np.log(4)
    parts = torch.cat([_attend_once(part, k, v, mask) for part in torch.split(q, 256, 2)], 2)
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(parts, right, atol=1e-5)
