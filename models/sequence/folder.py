"""A trained sequence model as a folder: weights, and a manifest that says what they are. NumPy and safetensors alone.

    weights-<sha256, 12 digits>.safetensors   the network's tensors, and `item_hashes` (V,) of the names of its items
    manifest.json                             names that file and its hash, kind, shapes, data, steps, time, scores

The manifest is put in place last and at once (rename), so that a reader who looks while a new revision is written sees
the old one or the new one. What differs from its manifest, has wrong shapes or numbers that are not finite is refused;
pickles are never read: they are code.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.errors import WeightsMismatch
from models.sequence import attention, recurrence
from models.sequence.attention import Attention
from models.sequence.model import SequenceModel
from models.sequence.recurrence import Recurrence

MANIFEST = "manifest.json"
FORMAT = "headrace.sequence.v1"
KINDS = ("recurrence", "attention")

_HASHES = "item_hashes"
_FILE = re.compile(r"weights-[0-9a-f]{12}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_ITEMS = 10_000_000
_MANIFEST_LIMIT_BYTES = 1 << 20
_WEIGHTS_LIMIT_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says."""

    kind: str
    revision: str
    sha256: str  # of the weights' file
    weights: str  # its name
    items: int
    shapes: dict[str, tuple[int, ...]]
    data: dict[str, Any] = field(default_factory=dict)  # file, its hash, events, readers, split
    training: dict[str, Any] = field(default_factory=dict)  # seed, steps, epochs, seconds
    scores: dict[str, Any] = field(default_factory=dict)  # what it scored, by part of the data
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and whose it is."""

    model: SequenceModel
    manifest: Manifest

    @property
    def id(self) -> int:
        """64 bits of the weights' hash: states carry it, so that they are never read by another model."""
        return int(self.manifest.sha256[:16], 16)


def write(
    folder: Path,
    kind: str,
    tensors: Mapping[str, NDArray[np.float32]],
    hashes: NDArray[np.uint64],
    *,
    revision: str | None = None,
    data: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make `folder` hold this model, in place of what it held. A `revision` left out is made from the hash.

    Files are on disk when this returns. Raises OSError, and WeightsMismatch for tensors that are not of that kind.
    """
    everything: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(value) for name, value in tensors.items()
    }
    everything[_HASHES] = hashes
    _check(folder, kind, everything)
    content = save(everything)
    digest = sha256(content).hexdigest()
    manifest = Manifest(
        kind=kind,
        revision=revision or f"{kind}-{digest[:12]}",
        sha256=digest,
        weights=f"weights-{digest[:12]}.safetensors",
        items=len(hashes),
        shapes={name: value.shape for name, value in sorted(everything.items())},
        data=dict(data or {}),
        training=dict(training or {}),
        scores=dict(scores or {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    before = _named_in(folder)
    _put(folder / manifest.weights, content)
    text = json.dumps(asdict(manifest), indent=1) + "\n"
    text = re.sub(r"\[\s+([^\]]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    _put(folder / MANIFEST, text.encode())
    for (
        old
    ) in folder.iterdir():  # a reader may still be at the revision before: its file stays until the next one
        if _FILE.fullmatch(old.name) and old.name not in (manifest.weights, before):
            old.unlink(missing_ok=True)
    return manifest


def read(folder: Path) -> Loaded:
    """The model of a folder. Raises WeightsMismatch, which names the file, the fault and the remedy."""
    manifest = read_manifest(folder)
    path = folder / manifest.weights
    if path.resolve().parent != folder.resolve():
        raise WeightsMismatch(f"{path} leads out of {folder}; copy the real file into the folder")
    try:
        if path.stat().st_size > _WEIGHTS_LIMIT_BYTES:
            raise WeightsMismatch(
                f"{path} is larger than {_WEIGHTS_LIMIT_BYTES >> 30} GB; train on fewer items"
            )
        content = path.read_bytes()
    except OSError as error:
        raise WeightsMismatch(
            f"{path} cannot be read ({error.strerror}); train or copy the model anew"
        ) from None
    digest = sha256(content).hexdigest()
    if digest != manifest.sha256:
        raise WeightsMismatch(
            f"{path} has sha256 {digest[:12]}…, not {manifest.sha256[:12]}…; train or copy the model anew"
        )
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsMismatch(
            f"{path} cannot be read as safetensors ({error}); train the model anew"
        ) from error
    _check(path, manifest.kind, tensors)
    if {name: value.shape for name, value in tensors.items()} != manifest.shapes:
        raise WeightsMismatch(
            f"{path}: its shapes are not those of its manifest; train or copy the model anew"
        )
    hashes = tensors.pop(_HASHES)
    made = Recurrence(tensors, hashes) if manifest.kind == "recurrence" else Attention(tensors, hashes)
    return Loaded(made, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone. Raises WeightsMismatch if it is missing or malformed."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise ValueError("it is over 1 MB")
        raw = json.loads(path.read_text("utf-8"))
        if raw["format"] != FORMAT:
            raise ValueError(f"its format is {raw['format']!r}, not {FORMAT}")
        found = Manifest(
            kind=_text(raw, "kind", re.compile("|".join(KINDS))),
            revision=_text(raw, "revision", re.compile(r".{1,200}")),
            sha256=_text(raw, "sha256", _SHA256),
            weights=_text(raw, "weights", _FILE),
            items=int(raw["items"]),
            shapes={str(key): tuple(int(size) for size in shape) for key, shape in raw["shapes"].items()},
            data=dict(raw.get("data") or {}),
            training=dict(raw.get("training") or {}),
            scores=dict(raw.get("scores") or {}),
        )
    except OSError as error:
        raise WeightsMismatch(f"{path} cannot be read ({error.strerror}){_hint(folder)}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMismatch(
            f"{path} is not a manifest of a sequence model ({error}); train it anew"
        ) from None
    return found


def _text(raw: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = raw[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}")
    return value


def _hint(folder: Path) -> str:
    if not folder.is_dir():
        return "; name the folder that `headrace train sequence --out` wrote"
    pickled = sorted(
        one.name
        for one in folder.iterdir()
        if one.suffix in (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
    )
    held = (
        f": it holds {', '.join(pickled[:3])}, and pickles are never read, they can run code"
        if pickled
        else ""
    )
    return f"{held}; `headrace train sequence --out` writes one"


def _check(path: Path, kind: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raises WeightsMismatch unless these are finite tensors of a network of that kind for as many items as hashes."""
    if kind not in KINDS:
        raise WeightsMismatch(f"{path}: there is no kind {kind}; it is {' or '.join(KINDS)}")
    hashes = tensors.get(_HASHES)
    if hashes is None or hashes.ndim != 1 or hashes.dtype != np.uint64 or not 0 < len(hashes) <= _MOST_ITEMS:
        raise WeightsMismatch(
            f"{path}: {_HASHES} are missing or not a list of 64-bit numbers; train the model anew"
        )
    if not hashes.all() or len(np.unique(hashes)) != len(hashes):
        raise WeightsMismatch(f"{path}: two items have one hash, or one has none; train the model anew")
    count = len(hashes)
    expected = recurrence.shapes(count) if kind == "recurrence" else attention.shapes(count)
    lacking, surplus = (
        sorted(expected.keys() - tensors.keys()),
        sorted(tensors.keys() - expected.keys() - {_HASHES}),
    )
    if lacking or surplus:
        raise WeightsMismatch(
            f"{path} lacks {len(lacking)} tensors {lacking[:3]}, has {len(surplus)} unknown {surplus[:3]}; "
            "use weights of the same revision as the code"
        )
    for name, shape in expected.items():
        value = tensors[name]
        if value.shape != shape or value.dtype != np.float32:
            raise WeightsMismatch(
                f"{path}: {name} has shape {value.shape} of {value.dtype}, not {shape} of float32; "
                "use weights of the same revision as the code"
            )
        if not np.isfinite(value).all():
            raise WeightsMismatch(f"{path}: {name} holds numbers that are not finite; train the model anew")


def _named_in(folder: Path) -> str | None:
    try:
        return read_manifest(folder).weights
    except WeightsMismatch:
        return None


def _put(path: Path, content: bytes) -> None:
    """Write a file so that it is there in full or not at all, and on disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
