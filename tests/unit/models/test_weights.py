"""Each way in which a weight folder can be wrong is refused, with the file and a remedy in the message."""

import json
import pickle
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.errors import WeightsMismatch
from models.inference import weights

TENSORS = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(4)}
SHAPES: dict[str, tuple[int, ...]] = {"a": (2, 3), "b": (4,)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    made.mkdir()
    weights.write_weights(made, TENSORS, name="net", revision="1", licence="own", source="a test")
    return made


def test_what_was_written_is_read_back(folder: Path) -> None:
    tensors, info = weights.load_checked(folder, SHAPES)
    assert {key: value.tolist() for key, value in tensors.items()} == {
        k: v.tolist() for k, v in TENSORS.items()
    }
    assert (info.name, info.revision, info.dtype) == ("net", "1", "float32")
    assert info.sha256 == weights.file_sha256(folder / weights.WEIGHTS_FILE)


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / weights.WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsMismatch, match=r"weights\.safetensors has sha256 .* restore"):
        weights.load_checked(folder)


@pytest.mark.parametrize(
    ("expected", "what"),
    [
        ({**SHAPES, "c": (1,)}, "lacks 1 tensors"),
        ({"a": (2, 3)}, "1 unknown"),
        ({"a": (3, 2), "b": (4,)}, r"a has shape \(2, 3\), not \(3, 2\)"),
    ],
)
def test_other_tensors_than_the_network_needs_are_refused(
    folder: Path, expected: dict[str, tuple[int, ...]], what: str
) -> None:
    with pytest.raises(WeightsMismatch, match=what):
        weights.load_checked(folder, expected)


def test_a_manifest_that_lies_about_a_shape_is_refused(folder: Path) -> None:
    path = folder / weights.MANIFEST_FILE
    raw = json.loads(path.read_text())
    raw["tensors"]["b"] = [5]
    path.write_text(json.dumps(raw))
    with pytest.raises(WeightsMismatch, match=r"b has shape"):
        weights.load_checked(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 1}', "\x00"])
def test_a_malformed_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / weights.MANIFEST_FILE).write_text(content)
    with pytest.raises(WeightsMismatch, match="not a weight manifest"):
        weights.load_checked(folder)


@pytest.mark.parametrize("name", [weights.WEIGHTS_FILE, weights.MANIFEST_FILE])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsMismatch, match=f"{name} is missing"):
        weights.load_checked(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / weights.WEIGHTS_FILE
    path.rename(tmp_path / "elsewhere.safetensors")
    path.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(WeightsMismatch, match="leads out of"):
        weights.load_checked(folder)


@pytest.mark.parametrize("relative", ["../net2/weights.safetensors", "/etc/hostname", "x/../../y"])
def test_paths_out_of_the_folder_are_refused(folder: Path, relative: str) -> None:
    with pytest.raises(WeightsMismatch, match="leads out of"):
        weights.inside(folder, relative)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was loaded",))

    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsMismatch, match="not a safetensors file"):
        weights.load_safetensors(path)
    with pytest.raises(WeightsMismatch, match=r"only pytorch_model\.bin, which can run code"):
        weights.user_weight_files(tmp_path)
    disguised = tmp_path / "model.safetensors"
    path.rename(disguised)
    with pytest.raises(WeightsMismatch, match="cannot be read as safetensors"):
        weights.load_safetensors(disguised)


def test_shards_named_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(WeightsMismatch, match="leads out of"):
        weights.user_weight_files(tmp_path)


def test_a_users_revision_changes_with_any_file_that_changes_answers(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    before = weights.user_model_info(tmp_path, "float32")
    (tmp_path / "tokenizer.json").write_text("{} ")
    after = weights.user_model_info(tmp_path, "float32")
    assert before.sha256 == after.sha256 == weights.file_sha256(tmp_path / "model.safetensors")
    assert before.revision != after.revision


def convert(cache: Path, build: "weights.Callable[[], dict[str, torch.Tensor]]") -> Path:
    return weights.converted(cache, "net", "1", build, licence="own", source="a test")


def test_a_conversion_runs_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def build() -> dict[str, torch.Tensor]:
        calls.append(1)
        return TENSORS

    assert convert(tmp_path / "cache", build) == convert(tmp_path / "cache", build)
    assert len(calls) == 1
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["net-1"]


def test_a_damaged_conversion_is_refused(tmp_path: Path) -> None:
    path = convert(tmp_path, lambda: TENSORS) / weights.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsMismatch, match=r"delete .*net-1"):
        convert(tmp_path, lambda: TENSORS)


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def build() -> dict[str, torch.Tensor]:
        raise RuntimeError("the package changed")

    with pytest.raises(RuntimeError):
        convert(tmp_path, build)
    assert list(tmp_path.iterdir()) == []


def test_the_loser_of_a_race_uses_the_winners_folder(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def build() -> dict[str, torch.Tensor]:
        both.wait(10)  # both have seen that there is no folder
        return TENSORS

    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(convert(tmp_path, build))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "net-1"] * 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["net-1"]
    assert weights.load_checked(folders[0], SHAPES)[1].name == "net"


@pytest.mark.parametrize("name", ["../net", "a/b", "", ".hidden"])
def test_a_conversion_stays_in_its_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="folder's name"):
        weights.converted(tmp_path, name, "1", lambda: TENSORS, licence="own", source="a test")
