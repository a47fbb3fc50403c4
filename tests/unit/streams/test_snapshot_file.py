"""Snapshot files: the same state with and without one, whatever the log; never a damaged one; never half of one."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.taste.readers.layout import fence_of
from streams.state import snapshotfile
from streams.state.snapshotfile import Head, Image, Snapshot, Stopped, Unusable, write

HEAD = Head("user v2, settings 00000001", "cluster", "p-taste-changelog", 3, 77, 1_767_225_600_000, 5)
Record = tuple[bytes, bytes | None]


def row(fence: int, filling: int = 0) -> bytes:
    """A value that has nothing but a fence where a reader's row has it."""
    return b"\2\0\0\0\0" + fence.to_bytes(8, "little") + b"%d" % filling


def state_of(records: Iterable[Record]) -> dict[bytes, tuple[bytes, bool]]:
    """The oracle: key -> the row that stands, and whether an older one is last. A plain loop."""
    state: dict[bytes, tuple[bytes, bool]] = {}
    for key, value in records:
        if value is None:
            state.pop(key, None)
        elif key not in state or value[5:13][::-1] >= state[key][0][5:13][::-1]:
            state[key] = (value, False)
        else:
            state[key] = (state[key][0], True)
    return state


def rows_in(path: Path) -> list[Record]:
    with Snapshot(path) as snapshot:
        return [pair for keys, values in snapshot.blocks() for pair in zip(keys, values, strict=True)]


def advanced(path: Path, records: Sequence[Record], stopping: Callable[[], bool] = lambda: False) -> None:
    """As the writer does it: the file that is there, and the log since."""
    image = Image(fence_of)
    image.add([key for key, _ in records], [value for _, value in records])
    if path.exists():
        with Snapshot(path) as older:
            write(path, HEAD, image.over(older.blocks()), stopping)
    else:
        write(path, HEAD, image.over(()), stopping)


RECORDS: Any = st.lists(
    st.tuples(
        st.sampled_from([b"ann", b"bob", b"cy", b""]),
        st.one_of(st.none(), st.integers(0, 5).map(row), st.integers(0, 5).map(lambda n: row(n, n))),
    ),
    max_size=30,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(RECORDS, min_size=1, max_size=4), RECORDS, st.sampled_from([1, 2, 1000]))
def test_any_log_cut_anywhere_gives_the_same_state(
    tmp_path: Path, parts: list[list[Record]], rest: list[Record], block_rows: int
) -> None:
    path = tmp_path / "a.snapshot"
    path.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshotfile, "BLOCK_ROWS", block_rows)
        for part in parts:
            advanced(path, part)
    log = [record for part in parts for record in part]
    assert state_of([*rows_in(path), *rest]) == state_of([*log, *rest])
    assert len(rows_in(path)) <= 2 * len(state_of(log))


def test_a_removed_reader_is_not_in_the_file_and_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    advanced(path, [(b"ann", row(1)), (b"bob", row(2))])
    advanced(path, [(b"ann", None)])
    assert rows_in(path) == [(b"bob", row(2))]
    assert b"ann" not in path.read_bytes()
    advanced(path, [(b"ann", row(0))])  # came again, with a fence that starts anew
    assert dict(rows_in(path)) == {b"bob": row(2), b"ann": row(0)}


def test_the_head_and_all_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.snapshot"
    records: list[Record] = [(b"u%d" % n, row(n, n)) for n in range(5000)]
    advanced(path, records)
    with Snapshot(path) as snapshot:
        assert snapshot.head == HEAD and snapshot.size_bytes == path.stat().st_size
    assert rows_in(path) == records
    assert path.stat().st_mode & 0o077 == 0  # readers' data are for nobody else
    assert [one.name for one in path.parent.iterdir()] == ["a.snapshot"]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_damage_anywhere_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path, damaged = tmp_path / "a.snapshot", tmp_path / "b.snapshot"
    if not path.exists():
        advanced(path, [(b"u%d" % n, row(n, n)) for n in range(40)])
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "longer", "zeros", "lost"]))
    bad = {
        "flip": good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
        "cut": good[:at],
        "longer": good + good[:at] + b"\0",
        "zeros": good[:at] + bytes(len(good) - at),
        "lost": good[:at] + good[at + 1 :],
    }[how]
    if bad == good:
        return
    damaged.write_bytes(bad)
    with pytest.raises(Unusable):
        Snapshot(damaged)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    advanced(path, [(b"ann", row(1))])
    path.write_bytes(b"HRSNAP\0\2" + path.read_bytes()[8:])
    with pytest.raises(Unusable, match="of this version"):
        Snapshot(path)


def test_whoever_is_told_to_stop_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    advanced(path, [(b"ann", row(1))])
    with pytest.raises(Stopped):
        advanced(path, [(b"ann", row(2))], stopping=lambda: True)
    assert rows_in(path) == [(b"ann", row(1))] and len(list(tmp_path.iterdir())) == 1


def test_an_error_of_the_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.snapshot"
    advanced(path, [(b"ann", row(1))])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        advanced(path, [(b"ann", row(2))])
    assert rows_in(path) == [(b"ann", row(1))] and len(list(tmp_path.iterdir())) == 1


def test_a_leftover_of_a_killed_process_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    (tmp_path / "a.snapshot.999999.tmp").write_bytes(b"half")
    advanced(path, [(b"ann", row(1))])
    assert [one.name for one in tmp_path.iterdir()] == ["a.snapshot"]


FULL = """
import resource, signal, sys
from pathlib import Path
from streams.state.snapshotfile import Head, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
head = Head("l", "c", "t", 0, 1, 1, 1)
try:
    write(Path(sys.argv[1]), head, [([b"k%d" % n], [bytes(2000)]) for n in range(1000)], lambda: False)
except OSError as error:
    print("refused", error.errno)
"""


def test_a_disk_that_takes_no_more_leaves_the_old_file(tmp_path: Path) -> None:
    """A real limit of the system, in a process of its own."""
    assert resource.RLIM_INFINITY  # POSIX
    path = tmp_path / "a.snapshot"
    advanced(path, [(b"ann", row(1))])
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"refused {errno.EFBIG}\n"
    assert rows_in(path) == [(b"ann", row(1))] and len(list(tmp_path.iterdir())) == 1
