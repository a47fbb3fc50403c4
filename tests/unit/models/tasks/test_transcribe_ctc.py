"""CTC networks on samples from a user's folder: random ones, against transformers' own processor and network."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import WeightsMismatch
from models.inference.ctc_files import SampleListener, load_listener
from models.inference.offline import label_all
from models.media.audio import RATE_HZ
from models.networks.ctc import heard
from models.tasks.recordings import syllables_wav, wav_of
from models.tasks.transcribe import Transcribe
from models.tasks.transcribe_ctc import TranscribeCtc
from models.types import LoadOptions, Outcome, Payload

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONI'", "HH")


def write_checkpoint(
    folder: Path, norm: str, kind: str = "wav2vec2", strides: tuple[int, int, int] = (5, 8, 8)
) -> Path:
    """A tiny network with random weights that spells something."""
    from transformers import (
        HubertConfig,
        HubertForCTC,
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    sizes: dict[str, Any] = {
        "vocab_size": len(LETTERS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": (16, 16, 16),
        "conv_stride": strides,
        "conv_kernel": (10, 8, 8),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network: Any = (
            HubertForCTC(HubertConfig(**sizes))
            if kind == "hubert"
            else Wav2Vec2ForCTC(Wav2Vec2Config(**sizes))
        )
    with torch.no_grad():
        network.lm_head.weight.mul_(60.0)
    network.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({piece: at for at, piece in enumerate(LETTERS)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer").save_pretrained(folder)
    return folder


def recordings() -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(3)
    return [
        (rng.normal(0, 0.1, size) * np.linspace(0.1, 2, size)).astype(np.float32)
        for size in (8000, 20_480, 8000)
    ]


@pytest.mark.parametrize(
    ("norm", "kind"), [("layer", "wav2vec2"), ("group", "wav2vec2"), ("group", "hubert")]
)
def test_a_checkpoint_spells_as_transformers_does_whatever_it_is_batched_with(
    tmp_path: Path, norm: str, kind: str
) -> None:
    from transformers import AutoModelForCTC, Wav2Vec2Processor

    folder = write_checkpoint(tmp_path / "mine", norm, kind)
    listener = load_listener(LoadOptions(cache=tmp_path, folder=folder), folder)
    assert isinstance(listener, SampleListener)
    processor: Any = Wav2Vec2Processor.from_pretrained(folder)
    oracle: Any = AutoModelForCTC.from_pretrained(folder).eval()
    wanted = []
    for samples in recordings():
        inputs = processor(samples, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            spelt = processor.batch_decode(oracle(**inputs).logits.argmax(-1))[0]
        # Told to skip special tokens itself it joins the letters around them.
        wanted.append(" ".join(re.sub("<.*?>", "", spelt).split()))
    rows = [listener.features(samples) for samples in recordings()]
    assert [listener.text(one.tokens) for one in listener.listen(rows)] == wanted
    assert len(set(wanted)) >= 2 and all(len(text) > 3 for text in wanted), wanted


def test_transcribe_serves_the_folder_and_gives_silence_no_letters(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine", "layer")
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=folder, options={"languages": ["en"]}))
    assert isinstance(task, TranscribeCtc)
    prepared = task.prepare(Payload("audio/wav", syllables_wav(2.0)))
    (finding,) = task.finish(prepared, task.forward(prepared.units)).findings
    assert isinstance(finding.value, str) and finding.value
    assert finding.score is not None and 0 < finding.score <= 1
    (span,) = finding.spans
    assert span.value == finding.value and 0 <= span.start < span.end <= 2.0
    assert task.prepare(Payload("audio/wav", syllables_wav(0.0001))).units == ()
    french = task.prepare(Payload("audio/wav", syllables_wav(2.0), language="fr"))
    assert task.finish(french, []).findings[0].value == "unsupported_language"
    units = [task.prepare(one).units for one in task.examples()]
    assert all(units) and max(unit.length for some in units for unit in some) <= task.batch_cost


def monologue(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Voiced without a pause, its pitch and its vowels ever changing."""
    random, t = np.random.default_rng(11), np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    at = np.arange(0, seconds + 1, 0.25)
    phase = 2 * np.pi * np.cumsum(np.interp(t, at, random.uniform(90, 240, at.size))) / RATE_HZ
    weights = [np.interp(t, at, random.uniform(0, 1, at.size)) for _ in range(12)]
    sound = sum(weight * np.sin(n * phase) / n for n, weight in enumerate(weights, 1))
    loud = np.interp(t, at, random.uniform(0.2, 1, at.size)) * (1.1 + np.sin(2 * np.pi * 4 * t))
    return (0.1 * sound * loud).astype(np.float32)


def test_speech_without_a_pause_says_in_windows_that_overlap_what_it_says_as_a_whole(tmp_path: Path) -> None:
    """Letter for letter, of a network that looks no further than a few tenths of a second, in steps of 10 ms as cuts
    are."""
    folder = write_checkpoint(tmp_path / "mine", "layer", strides=(5, 8, 4))
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "attention.out_proj" in name:
            tensors[name].zero_()
    save_file(tensors, folder / "model.safetensors")
    reads = folder / "preprocessor_config.json"
    reads.write_text(json.dumps(json.loads(reads.read_text()) | {"do_normalize": False}))
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))
    assert isinstance(task, TranscribeCtc)
    pcm = (monologue(70.0) * 32767).astype("<i2")
    ((_, outcome),) = label_all(task, [Payload("audio/wav", wav_of(pcm))])
    assert isinstance(outcome, Outcome)
    (finding,) = outcome.findings
    assert finding.detail["windows"] == len(finding.spans) == 4
    listener = load_listener(LoadOptions(cache=tmp_path, folder=folder), folder)
    (whole,) = listener.listen([listener.features((pcm / 32768).astype(np.float32))])
    assert finding.value == listener.text(whole.tokens) and len(str(finding.value)) > 200


def test_of_a_long_recording_a_few_windows_are_held_and_the_others_made_when_their_turn_comes(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path / "mine", "layer")
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))
    assert isinstance(task, TranscribeCtc)
    sound = monologue(20.0)
    samples = np.concatenate([part for _ in range(20) for part in (sound, np.zeros(RATE_HZ, np.float32))])
    pcm = (samples * 32767).astype("<i2")
    prepared = task.prepare(Payload("audio/wav", wav_of(pcm)))
    units, windows = prepared.units, prepared.context.windows
    assert len(units) == len(windows) >= 12
    assert [unit.data.nbytes > 0 for unit in units] == [n < 8 for n in range(len(units))]
    listener = load_listener(LoadOptions(cache=tmp_path, folder=folder), folder)
    for n in (11, 3, 9):  # and backwards, as a batch that is cut in two asks
        made = units[n].data.get()
        expected = listener.features((pcm[windows[n].start : windows[n].end] / 32768).astype(np.float32))
        assert len(made) == units[n].length and np.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("vocab.json", {"Z": 99}, "does not number tokens below"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "reads 8000 Hz"),
        ("tokenizer_config.json", {"pad_token": "[PAD]"}, r"lacks \[PAD\], the blank"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    tmp_path: Path, file: str, change: dict[str, object], said: str
) -> None:
    folder = write_checkpoint(tmp_path / "mine", "layer")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsMismatch, match=said):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))
    path.unlink()
    with pytest.raises(WeightsMismatch, match=f"{file} is missing"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine", "layer")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match=r"only pytorch_model\.bin, which can run code"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=folder))


def test_repeats_join_unless_a_blank_parts_them_and_outputs_beyond_the_length_are_not_read() -> None:
    said = [1, 1, 0, 1, 2, 2, 0, 0, 3, 3]
    shares = torch.full((10, 4), 0.1)
    for at, token in enumerate(said):
        shares[at, token] = 0.7
    shares[1, 1] = 0.9
    (one, short) = heard(shares.log()[None].repeat(2, 1, 1), [10, 4])
    assert one.tokens == (1, 1, 2, 3) and one.at == (0, 3, 4, 8)
    assert one.scores == pytest.approx((0.9, 0.7, 0.7, 0.7))
    assert short.tokens == (1, 1)
    assert heard(torch.tensor([[[0.9, 0.1]]]).log(), [1])[0].tokens == ()
