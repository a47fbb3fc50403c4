"""Networks of speech with connectionist temporal classification from a folder: our own, or in Hugging Face layout.

`config.json` says which: `headrace-ctc` is what `headrace train digits` writes (a head on the first layers of the
embedded Whisper, whole words), and wav2vec2, HuBERT, WavLM and their kin read samples and spell letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import BadInput, WeightsMismatch
from models.inference.configuration import read_json
from models.inference.pretrained import folder_config, load_network
from models.inference.weights import inside, load_checked, user_model_info
from models.inference.whisper_files import load_whisper
from models.media.audio import RATE_HZ
from models.media.edged import EDGE, features, frames_of
from models.media.mel import HOP
from models.networks.ctc import BLANK, CtcHead, CtcShape, FirstLayers, Heard, heard, states_of
from models.networks.precision import dtype_name, torch_dtype
from models.types import LoadOptions, ModelInfo

F32 = NDArray[np.float32]

OWN = "headrace-ctc"
FAMILIES = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "wav2vec2-conformer",
    "unispeech",
    "unispeech-sat",
    "sew",
)
"""Model types of Hugging Face that read samples at 16 kHz and have a CTC head."""

_OWN_BATCH_S, _SAMPLES_BATCH_S = 240.0, 60.0


class Listener(Protocol):
    """A network. A row of `features` is (T, ...) fp32 and costs T. `languages`: what it hears, None if unknown."""

    info: ModelInfo
    batch_cost: int
    languages: frozenset[str] | None

    def cost(self, samples: int) -> int:
        """Rows of the features of so many samples."""
        ...

    def features(self, samples: F32) -> F32:
        """What the network reads of samples (n,) at 16 kHz; thread-safe."""
        ...

    def seconds(self, at: int) -> float:
        """Where in a row's sound an output lies."""
        ...

    def ends_word(self, token: int) -> bool:
        """Whether what follows the token is another word."""
        ...

    def listen(self, rows: Sequence[F32]) -> list[Heard]:
        """Each row's tokens, whatever its neighbours. Raises BadInput `not_finite`."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as words."""
        ...


def is_ctc(folder: Path) -> bool:
    """Whether a folder's configuration names such a network. Raises WeightsMismatch without a configuration."""
    return folder_config(folder).get("model_type") in (OWN, *FAMILIES)


def load_listener(options: LoadOptions, folder: Path) -> Listener:
    """The network in a folder for which `is_ctc` holds. Raises WeightsMismatch."""
    if folder_config(folder)["model_type"] == OWN:
        return OwnListener.load(options, folder)
    return SampleListener.load(options, folder)


@dataclass(frozen=True, slots=True)
class Encoder:
    """The first layers of the embedded Whisper tiny.en, fp32. `info`: of the whole."""

    net: FirstLayers
    layers: int
    info: ModelInfo

    @classmethod
    def load(cls, options: LoadOptions, layers: int) -> "Encoder":
        """On the device of `options`. Raises WeightsMismatch; ValueError if it has not as many layers."""
        whisper = load_whisper(LoadOptions(cache=options.cache, device=options.device))
        return cls(FirstLayers(whisper.net, layers).eval(), layers, whisper.info)

    def states(self, rows: Sequence[F32]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mel rows (T, mels) -> states (B, P, W), and how many are real (B,), on the CPU."""
        frames = torch.tensor([len(row) for row in rows])
        device = next(self.net.parameters()).device
        return self.net(padded(rows).to(device), frames), states_of(frames)

    def named(self) -> dict[str, object]:
        """As config.json tells which encoder a head was trained on."""
        return {
            "name": self.info.name,
            "revision": self.info.revision,
            "sha256": self.info.sha256,
            "layers": self.layers,
        }


class OwnListener:
    """See `Listener`: a head on the first layers of the embedded Whisper, words."""

    batch_cost = int(_OWN_BATCH_S * RATE_HZ / HOP)

    def __init__(
        self,
        encoder: Encoder,
        head: CtcHead,
        words: Sequence[str],
        languages: frozenset[str] | None,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.languages = languages
        self._encoder = encoder
        self._head = head
        self._words = words

    @classmethod
    def load(cls, options: LoadOptions, folder: Path) -> "OwnListener":
        """Raises WeightsMismatch if configuration, weights and encoder do not fit. In fp32: it is small."""
        config = folder_config(folder)
        words, languages = config.get("words"), config.get("languages")
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise WeightsMismatch(f"{folder}/config.json lists no words; train the folder anew")
        encoder = _encoder_of(config, options, folder)
        head = CtcHead(shape_of(config, folder, encoder.net.width))
        tensors, info = load_checked(folder)
        try:
            head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise WeightsMismatch(
                f"{folder} does not fit its config.json ({error}); train it anew"
            ) from error
        head = head.eval().requires_grad_(False).to(options.device)
        known = frozenset(map(str, languages)) if isinstance(languages, list) else None
        info = ModelInfo(info.name, info.revision, info.sha256, "float32")
        return cls(encoder, head, words, known, info)

    def cost(self, samples: int) -> int:
        """A row every 10 ms, with the silence on both sides."""
        return frames_of(samples)

    def seconds(self, at: int) -> float:
        """A state every 40 ms, the first ones of silence."""
        return (at * 4 * HOP - EDGE) / RATE_HZ

    def ends_word(self, token: int) -> bool:
        """Each is one."""
        return True

    def features(self, samples: F32) -> F32:
        """Log-mel (T, mels), a row every 10 ms."""
        return features(samples, self._encoder.net.mels)

    def listen(self, rows: Sequence[F32]) -> list[Heard]:
        """Rows are padded to the longest; the network does not see the padding."""
        with torch.inference_mode():
            states, lengths = self._encoder.states(rows)
            log = self._head(states, lengths)
        return _checked(heard(log, lengths.tolist()), self.info)

    def text(self, tokens: Sequence[int]) -> str:
        """Words with blanks between them."""
        return " ".join(self._words[token - 1 - BLANK] for token in tokens)


class SampleListener:
    """See `Listener`: a network of transformers on samples, letters. A row costs a unit for every 20 ms or so."""

    def __init__(
        self, network: Any, vocabulary: "_Letters", scaled: bool, masked: bool, languages: frozenset[str] | None,
        info: ModelInfo,
    ) -> None:  # fmt: skip
        self.info = info
        self.languages = languages
        self.batch_cost = int(_SAMPLES_BATCH_S * RATE_HZ)
        self._network = network
        self._letters = vocabulary
        self._scaled = scaled
        self._masked = masked
        self._step = int(prod(network.config.conv_stride))
        self._dtype = next(network.parameters()).dtype

    @classmethod
    def load(cls, options: LoadOptions, folder: Path) -> "SampleListener":
        """Raises WeightsMismatch without a CTC head or vocabulary, or if another rate than 16 kHz is read."""
        from transformers import AutoModelForCTC

        network: Any = load_network(AutoModelForCTC, folder)
        dtype = torch_dtype(options.dtype, options.device)
        network.to(options.device, dtype)
        config = network.config
        reads = read_json(inside(folder, "preprocessor_config.json"))
        if reads.get("sampling_rate", RATE_HZ) != RATE_HZ:
            raise WeightsMismatch(
                f"{folder} reads {reads['sampling_rate']} Hz; use a checkpoint of {RATE_HZ} Hz"
            )
        # Where features are normed over a whole recording, padding changes them, and masks were not trained with.
        masked = getattr(config, "feat_extract_norm", "group") == "layer"
        letters = _Letters.read(folder, int(config.vocab_size))
        return cls(
            network,
            letters,
            bool(reads.get("do_normalize", True)),
            masked,
            None,
            user_model_info(folder, dtype_name(dtype)),
        )

    def cost(self, samples: int) -> int:
        """Each is a row."""
        return samples

    def seconds(self, at: int) -> float:
        """Every 20 ms or so."""
        return at * self._step / RATE_HZ

    def ends_word(self, token: int) -> bool:
        """The delimiter does."""
        return self._letters.pieces[token] == " "

    def features(self, samples: F32) -> F32:
        """The samples, of mean 0 and spread 1 if the checkpoint wants them so."""
        if not self._scaled:
            return samples
        scaled = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return np.asarray(scaled, np.float32)

    def listen(self, rows: Sequence[F32]) -> list[Heard]:
        """Together under a mask, or, where the checkpoint knows no mask, with rows of the same length alone."""
        if self._masked:
            return self._together(rows)
        by_length: dict[int, list[int]] = {}
        for at, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(at)
        found: dict[int, Heard] = {}
        for places in by_length.values():
            found.update(zip(places, self._together([rows[at] for at in places]), strict=True))
        return [found[at] for at in range(len(rows))]

    def _together(self, rows: Sequence[F32]) -> list[Heard]:
        lengths = torch.tensor([len(row) for row in rows])
        values = padded(rows)
        device = next(self._network.parameters()).device
        mask = (torch.arange(values.shape[1])[None] < lengths[:, None]).long()
        with torch.inference_mode():
            given = {"attention_mask": mask.to(device)} if self._masked else {}
            logits = self._network(values.to(device, self._dtype), **given).logits
        outputs = self._network._get_feat_extract_output_lengths(lengths).tolist()
        found = heard(logits.float().log_softmax(-1), outputs, self._letters.blank)
        return _checked(found, self.info)

    def text(self, tokens: Sequence[int]) -> str:
        """Letters joined, the delimiter as a blank."""
        return self._letters.text(tokens)


@dataclass(frozen=True, slots=True)
class _Letters:
    """A vocabulary: text by token, None of special ones; `blank` is the padding token, as these are trained."""

    pieces: tuple[str | None, ...]
    blank: int

    @classmethod
    def read(cls, folder: Path, tokens: int) -> "_Letters":
        """`vocab.json` and `tokenizer_config.json` of a folder. Raises WeightsMismatch."""
        vocabulary = read_json(inside(folder, "vocab.json"))
        said = read_json(inside(folder, "tokenizer_config.json"))
        if not all(isinstance(at, int) and 0 <= at < tokens for at in vocabulary.values()):
            raise WeightsMismatch(f"{folder}/vocab.json does not number tokens below {tokens}; fetch it anew")
        named = {
            name: _content(said.get(f"{name}_token"))
            for name in ("pad", "unk", "bos", "eos", "word_delimiter")
        }
        delimiter = named.pop("word_delimiter") or "|"
        pad = named["pad"] or "<pad>"
        if pad not in vocabulary:
            raise WeightsMismatch(f"{folder}/vocab.json lacks {pad}, the blank; fetch the checkpoint anew")
        pieces: list[str | None] = [None] * tokens
        for piece, at in vocabulary.items():
            special = piece in named.values() or (piece[:1] == "<" and piece[-1:] == ">")
            pieces[at] = " " if piece == delimiter else None if special else piece
        return cls(tuple(pieces), vocabulary[pad])

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join("".join(self.pieces[token] or "" for token in tokens).split())


def _content(token: Any) -> str | None:
    """A special token's text: plain, or in an object."""
    given = token.get("content") if isinstance(token, dict) else token
    return given if isinstance(given, str) else None


def _encoder_of(config: dict[str, Any], options: LoadOptions, folder: Path) -> Encoder:
    """The encoder that a configuration names. Raises WeightsMismatch if it is another than the embedded one."""
    wanted = config.get("encoder")
    layers = wanted.get("layers") if isinstance(wanted, dict) else None
    if type(layers) is not int:
        raise WeightsMismatch(f"{folder}/config.json names no encoder; train the folder anew")
    try:
        encoder = Encoder.load(options, layers)
    except ValueError as error:
        raise WeightsMismatch(
            f"{folder}/config.json does not fit the encoder ({error}); train it anew"
        ) from None
    if encoder.named() != wanted:
        raise WeightsMismatch(
            f"{folder} was trained on another encoder than {encoder.info.name} {encoder.info.revision} "
            f"(sha256 {encoder.info.sha256[:12]}…); train it anew"
        )
    return encoder


def shape_of(config: dict[str, Any], folder: Path, states: int) -> CtcShape:
    """Sizes in an own folder's configuration. Raises WeightsMismatch unless they are small whole numbers."""
    width = config.get("width")
    if type(width) is not int or not 0 < width <= 4096:
        raise WeightsMismatch(f"{folder}/config.json gives no sizes of a network; train the folder anew")
    return CtcShape(len(config["words"]) + 1, states, width)


def padded(rows: Sequence[F32]) -> torch.Tensor:
    """(B, longest, ...) fp32, zeros behind each row."""
    first = rows[0]
    made = np.zeros((len(rows), max(map(len, rows)), *first.shape[1:]), np.float32)
    for at, row in enumerate(rows):
        made[at, : len(row)] = row
    return torch.from_numpy(made)


def _checked(rows: list[Heard], info: ModelInfo) -> list[Heard]:
    if not all(np.isfinite(row.scores).all() for row in rows):
        raise BadInput("not_finite", f"{info.name} gave scores that are not finite")
    return rows
