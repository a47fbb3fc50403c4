"""A model's folder: what was written is read back; each way in which it can be wrong is refused by name."""

import json
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from models.errors import WeightsMismatch
from models.sequence import attention, folder, recurrence
from models.sequence.model import F32, scores
from models.sequence.recurrence import Recurrence

HASHES = np.array([11, 22, 33, 2**64 - 1], np.uint64)


def tensors(kind: str, seed: int = 1) -> dict[str, F32]:
    shapes = {"recurrence": recurrence.shapes, "attention": attention.shapes}[kind](len(HASHES))
    draw = np.random.default_rng(seed)
    return {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder.write(tmp_path / "model", "recurrence", tensors("recurrence"), HASHES)
    return tmp_path / "model"


def rewrite(made: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Other tensors, with a manifest that gives their true hash."""
    manifest = json.loads((made / "manifest.json").read_text())
    held = load_file(made / manifest["weights"])
    change(held)
    content = save(held)
    (made / manifest["weights"]).write_bytes(content)
    manifest["sha256"] = sha256(content).hexdigest()
    (made / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", folder.KINDS)
def test_what_was_written_is_read_back(kind: str, tmp_path: Path) -> None:
    given = tensors(kind)
    manifest = folder.write(
        tmp_path, kind, given, HASHES, revision="r7", data={"events": 9}, scores={"test": {"hr": 0.5}}
    )
    loaded = folder.read(tmp_path)
    assert loaded.manifest == manifest
    assert (manifest.revision, manifest.data, manifest.items) == ("r7", {"events": 9}, 4)
    np.testing.assert_array_equal(loaded.model.vocabulary.hashes, HASHES)
    np.testing.assert_array_equal(loaded.model.vocabulary.vectors, given["items.weight"])
    assert loaded.model.kind == kind
    assert loaded.id == int(manifest.sha256[:16], 16)


def test_a_new_revision_takes_the_place_of_the_old_one(made: Path) -> None:
    names = [folder.read_manifest(made).weights]
    for seed in (2, 3):
        names.append(folder.write(made, "recurrence", tensors("recurrence", seed), HASHES).weights)
        held = folder.read(made).model
        history = np.array([[0, 2, 1]], np.int32)
        expected = Recurrence(tensors("recurrence", seed), HASHES)
        np.testing.assert_array_equal(
            scores(held, held.replay(history)), scores(expected, expected.replay(history))
        )
    # the one before is still there for whoever is reading it; older ones, and half-written ones, are not
    assert sorted(path.name for path in made.iterdir()) == sorted(["manifest.json", *names[1:]])


WRONG: dict[str, tuple[Callable[[dict[str, np.ndarray]], object], str]] = {
    "shape": (
        lambda held: held.update({"layers.0.nu": np.zeros(3, np.float32)}),
        r"layers\.0\.nu has shape \(3,\) of float32, not \(96,\)",
    ),
    "type": (lambda held: held.update({"bias": np.zeros(4)}), "bias has shape .* of float64"),
    "lacking": (lambda held: held.pop("bias"), r"lacks 1 tensors \['bias'\]"),
    "unknown": (lambda held: held.update({"code": np.zeros(1, np.float32)}), r"1 unknown \['code'\]"),
    "NaN": (lambda held: held["bias"].__setitem__(1, np.nan), "bias holds numbers that are not finite"),
    "infinite": (
        lambda held: held["items.weight"].__setitem__((0, 0), np.inf),
        "items.weight holds numbers that are not finite",
    ),
    "no hashes": (lambda held: held.pop("item_hashes"), "item_hashes are missing"),
    "equal hashes": (lambda held: held["item_hashes"].__setitem__(1, 11), "two items have one hash"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tensors_are_refused(wrong: str, made: Path) -> None:
    change, message = WRONG[wrong]
    rewrite(made, change)
    with pytest.raises(WeightsMismatch, match=message):
        folder.read(made)


def test_a_changed_byte_is_refused(made: Path) -> None:
    path = made / folder.read_manifest(made).weights
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsMismatch, match=r"has sha256 .* train or copy the model anew"):
        folder.read(made)


def test_a_truncated_file_with_its_true_hash_is_refused(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    content = (made / manifest["weights"]).read_bytes()[:200]
    (made / manifest["weights"]).write_bytes(content)
    (made / "manifest.json").write_text(json.dumps(manifest | {"sha256": sha256(content).hexdigest()}))
    with pytest.raises(WeightsMismatch, match="cannot be read as safetensors"):
        folder.read(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "headrace.sequence.v2"}, "its format is 'headrace.sequence.v2'"),
        ({"kind": "lstm"}, "kind is 'lstm'"),
        ({"weights": "../weights-000000000000.safetensors"}, "weights is"),
        ({"weights": "model.pt"}, "weights is 'model.pt'"),
        ({"sha256": "0"}, "sha256 is '0'"),
        ({"shapes": {}}, "its shapes are not those of its manifest"),
        ({"shapes": 3}, "is not a manifest"),
        ({"kind": "attention"}, "lacks"),
    ],
)
def test_a_wrong_manifest_is_refused(change: dict[str, object], message: str, made: Path) -> None:
    path = made / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsMismatch, match=message):
        folder.read(made)


def test_missing_files_and_links_that_lead_out_are_refused(made: Path, tmp_path: Path) -> None:
    weights = made / folder.read_manifest(made).weights
    outside = tmp_path / "outside.safetensors"
    weights.rename(outside)
    with pytest.raises(WeightsMismatch, match=r"weights-.*cannot be read \(No such file"):
        folder.read(made)
    weights.symlink_to(outside)
    with pytest.raises(WeightsMismatch, match="leads out of"):
        folder.read(made)
    with pytest.raises(WeightsMismatch, match="headrace train sequence"):
        folder.read(tmp_path / "nowhere")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(ran), "w"))  # type: ignore[return-value]

    trap = pickle.dumps(Trap())
    (tmp_path / "model.pt").write_bytes(trap)
    with pytest.raises(WeightsMismatch, match=r"it holds model\.pt, and pickles are never read"):
        folder.read(tmp_path)
    (tmp_path / "manifest.json").write_bytes(trap)
    with pytest.raises(WeightsMismatch, match="is not a manifest"):
        folder.read(tmp_path)
    assert not ran.exists()


def test_what_no_folder_may_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="there is no kind lstm"):
        folder.write(tmp_path / "a", "lstm", tensors("recurrence"), HASHES)
    with pytest.raises(WeightsMismatch, match="not finite"):
        given = tensors("attention")
        given["bias"][0] = np.nan
        folder.write(tmp_path / "a", "attention", given, HASHES)
    assert not (tmp_path / "a").exists()
