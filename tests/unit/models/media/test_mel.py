"""Log-mel against transformers' extractor, the oracle of what Whisper was trained on."""

import numpy as np
import pytest

from models.media.mel import HOP, log_mel, mel_filters


@pytest.mark.parametrize("mels", [80, 128])
def test_filters_are_transformers(mels: int) -> None:
    from transformers.audio_utils import mel_filter_bank

    oracle = mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    assert np.abs(mel_filters(mels) - oracle.T).max() < 1e-7


@pytest.mark.parametrize("seconds", [0.3, 4.7, 30.0])
def test_features_are_transformers(seconds: float) -> None:
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    random = np.random.default_rng(2)
    n = int(seconds * 16_000)
    samples = (0.1 * random.standard_normal(n) * np.sin(np.arange(n) / 3000)).astype(np.float32)
    oracle = WhisperFeatureExtractor()(samples, sampling_rate=16_000, return_tensors="np")["input_features"][
        0
    ]
    assert np.abs(log_mel(samples, 3000) - oracle).max() < 1e-4


def test_a_shorter_window_is_the_start_of_the_full_one() -> None:
    samples = (0.1 * np.random.default_rng(4).standard_normal(40_000)).astype(np.float32)
    full, short = log_mel(samples, 3000), log_mel(samples, 600)
    assert short.shape == (80, 600)
    assert np.abs(full[:, :600] - short).max() < 1e-5
    # And silence after it is the floor that padding of a batch is filled with.
    assert np.allclose(full[:, 600:], full.max() - 2.0, atol=1e-5)


def test_samples_beyond_the_frames_are_ignored() -> None:
    samples = np.ones(10 * HOP, np.float32)
    assert log_mel(samples, 4).shape == (80, 4)
