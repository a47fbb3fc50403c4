"""How `reference.json` was made: faster-whisper 1.2.1 on the embedded weights, greedily, in float32.

    pip install faster-whisper==1.2.1
    python tests/golden/speech/make.py

The recordings are of LibriVox (Sense and Sensibility, chapter 1; public domain), as cut for pocketsphinx's tests
(its source package, test/data/librivox, with their transcripts), stored losslessly.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
# Each is one input: clips with half a second of silence between them.
INPUTS = ([0], [1], [2], [3], [4], [0, 1], [1, 4], [2, 3])
OF_BASE = 3  # which takes its time in the test


def joined(clips: list[int]) -> "np.ndarray":
    """Samples of an input."""
    from models.media.audio import decode_audio

    paths = sorted(HERE.glob("*.flac"))
    pause = np.zeros(8_000, np.float32)
    parts = [part for clip in clips for part in (decode_audio(paths[clip].read_bytes()), pause)]
    return np.concatenate(parts[:-1])


def main() -> None:
    from faster_whisper import WhisperModel

    from models.inference.whisper_files import EMBEDDED, write_as_packaged

    found = [{"clips": clips} for clips in INPUTS]
    for name in ("tiny.en", "base"):
        with tempfile.TemporaryDirectory() as folder:
            write_as_packaged(EMBEDDED[name], Path(folder))
            model = WhisperModel(folder, device="cpu", compute_type="float32")
        for one in found[: OF_BASE if name == "base" else None]:
            # Filled with silence as sound, which OpenAI's code does; left to itself faster-whisper fills the
            # spectrogram with zeros, which is no silence, and hears "old-sposed" for "ill disposed".
            samples = joined(one["clips"])
            samples = np.pad(samples, (0, 480_000 - samples.size))
            segments, _ = model.transcribe(
                samples, language="en", beam_size=1, temperature=0.0, without_timestamps=True
            )
            one[name] = "".join(segment.text for segment in segments).strip()
    (HERE / "reference.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
