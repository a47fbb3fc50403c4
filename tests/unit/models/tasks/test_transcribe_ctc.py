"""CTC networks on samples from a user's folder: random ones, against transformers' own processor and network."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import WeightsMismatch
from models.inference.ctc_files import SampleListener, load_listener
from models.networks.ctc import heard
from models.tasks.recordings import syllables_wav
from models.tasks.transcribe import Transcribe
from models.tasks.transcribe_ctc import TranscribeCtc
from models.types import LoadOptions, Payload

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONI'", "HH")


def write_checkpoint(folder: Path, norm: str, kind: str = "wav2vec2") -> Path:
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
        "conv_stride": (5, 8, 8),
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
