"""A long recording takes no more memory than a short one: decoded, looked at and transcribed window by window.

In a process of its own, so that the memory measured is its. The recognizer is a made-up one of Whisper's shape, a
hundredth of its size: what is held does not depend on the weights.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Freed memory goes back at once, so that what is measured is what is held and not what the allocator keeps.
GIVES_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}

PROGRAM = '''
import io, json, sys
from pathlib import Path
import av, numpy as np, torch
from tokenizers import Tokenizer, models
from models.errors import BadInput
from models.inference.offline import label_all
from models.inference.whisper_files import LoadedWhisper
from models.media.audio import AudioLimits
from models.networks.greedy import Rules
from models.networks.whisper import Whisper, WhisperShape
from models.tasks.transcribe import Transcribe
from models.types import ModelInfo, Payload

torch.manual_seed(1)
torch.set_num_threads(1)
RATE = 16_000


def mp3(minutes):
    """A minute of talk over and over: MP3 frames stand for themselves, so it is encoded once."""
    random, t = np.random.default_rng(5), np.arange(RATE * 60) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 12))
    talk = 3000 * tone * (np.sin(2 * np.pi * 4 * t) > 0) * (np.sin(2 * np.pi * t / 9) > -0.6)
    talk += 20 * random.standard_normal(t.size)
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as written:
        stream = written.add_stream("libmp3lame", rate=RATE); stream.layout = "mono"; stream.bit_rate = 8_000
        frame = av.AudioFrame.from_ndarray(talk.astype(np.int16)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        fifo = av.AudioFifo(); fifo.write(frame)
        while (piece := fifo.read(1152, partial=True)) is not None:
            piece.pts = None
            written.mux(stream.encode(piece))
        written.mux(stream.encode(None))
    frames = out.getvalue()
    from models.media.mp3 import frame_bytes, id3_bytes
    at = id3_bytes(frames); at += frame_bytes(frames[at:at + 4])  # the first frame announces the minute's length
    return frames[at:] * minutes


def transcriber(max_s=7200.0):
    shape = WhisperShape(width=16, vocabulary=30, encoder_layers=1, decoder_layers=1, encoder_heads=1,
                         decoder_heads=1, encoder_inner=16, decoder_inner=16)
    net = Whisper(shape).eval().requires_grad_(False)
    for one in net.parameters():
        torch.nn.init.normal_(one, 0.0, 0.3)
    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(30)}, unk_token="w0"))
    loaded = LoadedWhisper(net, tokenizer, ModelInfo("made-up", "1", "", "float32"),
                           Rules(20, 21, tuple(n for n in range(30) if n != 20), ()), 22, (23,), {})
    return Transcribe(loaded, AudioLimits(max_s=max_s))


def rss_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


task, data, held = transcriber(), mp3(int(sys.argv[1])), []
forward = task.forward
def watched(units):
    said = forward(units)
    held.append(rss_mb())
    return said
task.forward = watched
list(label_all(task, [Payload("audio/mpeg", mp3(1))]))  # what libraries take for themselves
before_mb = rss_mb()
held.clear()
((_, outcome),) = label_all(task, [Payload("audio/mpeg", data)])
detail = outcome.findings[0].detail
try:
    transcriber(max_s=120.0).prepare(Payload("audio/mpeg", mp3(24 * 60)))
except BadInput as error:
    refused = error.reason
print(json.dumps({"detail": detail, "refused": refused, "held_mb": held, "before_mb": before_mb}))
'''


def test_a_long_recording_takes_no_more_memory_than_a_part_of_it_and_a_day_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "24"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, **GIVES_BACK},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = json.loads(ended.stdout)
    assert said["detail"]["seconds"] == pytest.approx(1440, rel=0.01)
    assert 1440 / 28 <= said["detail"]["windows"] <= 1440 / 10
    # Its samples are 92 MB, its spectrograms 54 MB; what is there is a piece, a batch and a few windows ahead.
    held = [mb - said["before_mb"] for mb in said["held_mb"]]
    assert len(held) >= 3 and max(held) < 100, held
    assert said["refused"] == "too_long"
