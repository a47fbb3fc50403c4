"""What `headrace doctor` looks at: each check is a function that says what it found, and what to do about it.

Nothing is changed. `fail`: a worker would not start or would lose something; `warn`: it would work, but not as it
should on a network; `ok` and `skip` need nobody.
"""

import importlib.metadata
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.clock import SystemClock
from streams.errors import EnvironmentProblem
from streams.settings import Settings
from streams.topology import admin
from streams.topology.topics import DAY_MS

State = Literal["ok", "warn", "fail", "skip"]
FREE_BYTES = 1 << 30
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    state: State
    found: str
    remedy: str = ""


Check = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(settings: Settings) -> list[Finding]:
    """All checks, in the order of a start. A check that breaks down is a finding of its own."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        if name == "topics" and any((one.check, one.state) == ("broker", "fail") for one in findings):
            findings.append(Finding(name, "skip", "no broker to ask"))
            continue
        try:
            findings += await check(settings)
        except EnvironmentProblem as problem:
            findings.append(Finding(name, "fail", str(problem)))
        except Exception as error:
            findings.append(Finding(name, "fail", f"the check broke down: {error!r}"))
    return findings


async def versions(settings: Settings) -> list[Finding]:
    """This program, Python, and the libraries that are pinned."""
    names = ("headrace", "faust-streaming", "aiokafka", "torch", "numpy", "numba")
    said = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return [Finding("versions", "ok", f"{said}, Python {platform.python_version()} on {sys.platform}")]


async def unsafe(settings: Settings) -> list[Finding]:
    """Settings that are fine on one machine and not on a network, or say less than they seem to."""
    return list(_unsafe(settings)) or [Finding("settings", "ok", "nothing unsafe")]


def _unsafe(settings: Settings) -> Iterator[Finding]:
    kafka, name = settings.kafka, "settings"
    remote = not all(
        address.strip().rpartition(":")[0].strip("[]") in LOOPBACK for address in kafka.bootstrap.split(",")
    )
    if remote and not kafka.security_protocol.endswith("SSL"):
        yield Finding(
            name,
            "warn",
            f"{kafka.security_protocol} to {kafka.bootstrap}: clicks and passwords cross the network in clear",
            "kafka.security_protocol = SSL or SASL_SSL",
        )
    if kafka.sasl_password is not None:
        yield Finding(
            name,
            "warn",
            "the password is a setting of its own",
            "kafka.sasl_password_file: files are read by their owner alone, environments by every child",
        )
    if settings.observe.enabled and settings.observe.host not in LOOPBACK:
        yield Finding(
            name,
            "warn",
            f"observe.host = {settings.observe.host}: whoever reaches this port reads the metrics",
            "let a network policy or a firewall allow Prometheus alone",
        )
    if remote and settings.topics.replication < 2:
        yield Finding(
            name,
            "warn",
            "topics.replication = 1: a broker that is lost takes its topics along",
            "set it to 3",
        )
    if settings.privacy.block_s * 1000 < 7 * DAY_MS:
        yield Finding(
            name,
            "warn",
            f"privacy.block_s = {settings.privacy.block_s:g} is less than clicks are kept: replays bring readers back",
            f"at least {7 * DAY_MS // 1000}, or a shorter retention of clicks",
        )
    for root in settings.media.roots:
        if root in (Path("/"), Path.home()):
            yield Finding(
                name,
                "warn",
                f"media.roots holds {root}: payloads may name any file",
                "name a folder of media",
            )
    agents, media = settings.worker.agents, settings.media
    judged = [name for name in ("audio", "uploads") if name in agents and "safety" in getattr(media, name)]
    if judged and "content" not in agents:
        yield Finding(
            name,
            "warn",
            f"safety judges {' and '.join(judged)}, and no agent `content` here keeps out of lists what it blocks",
            "add content to worker.agents, here or on another worker",
        )
    yield from _open_secrets(settings)


def _open_secrets(settings: Settings) -> Iterator[Finding]:
    named = {
        "kafka.sasl_password_file": settings.kafka.sasl_password_file,
        "kafka.ssl_keyfile": settings.kafka.ssl_keyfile,
        "kafka.ssl_key_password_file": settings.kafka.ssl_key_password_file,
        "privacy.key_file": settings.privacy.key_file,
    }
    for setting, path in named.items():
        if path is None:
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield Finding(
                "settings", "fail", f"{setting}: {path} cannot be read ({error.strerror})", "mend the path"
            )
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield Finding("settings", "warn", f"{setting}: everybody may read {path}", f"chmod 600 {path}")


async def broker(settings: Settings) -> list[Finding]:
    """Whether a broker lets us in, and what it is."""
    found = await admin.cluster(settings.kafka)
    brokers = found.get("brokers", [])
    return [
        Finding(
            "broker",
            "ok",
            f"cluster {found.get('cluster_id')}, {len(brokers)} brokers at {settings.kafka.bootstrap}",
        )
    ]


async def topics(settings: Settings) -> list[Finding]:
    """The declared topology against the cluster."""
    differences = await admin.plan(settings)
    missing = [one.topic for one in differences if one.kind == "missing"]
    found = [
        Finding("topics", "fail", f"missing: {', '.join(missing)}", "headrace topics apply")
        for _ in missing[:1]
    ]
    found += [
        Finding("topics", "fail" if one.kind == "partitions" else "warn", one.words())
        for one in differences
        if one.kind != "missing"
    ]
    return found or [Finding("topics", "ok", "all there, as declared")]


async def models(settings: Settings) -> list[Finding]:
    """Converted weights against their hashes, and folders of own models."""
    from models.errors import WeightsMismatch
    from models.inference.weights import MANIFEST_FILE, WEIGHTS_FILE, check_hash, read_manifest

    found: list[Finding] = []
    for manifest in sorted(settings.media.cache.glob(f"*/{MANIFEST_FILE}")):
        folder = manifest.parent
        try:
            one = read_manifest(folder)
            check_hash(folder / WEIGHTS_FILE, one.sha256, "")
            found.append(Finding("models", "ok", f"{one.name} {one.revision}, sha256 {one.sha256[:12]}…"))
        except (WeightsMismatch, OSError) as error:
            found.append(
                Finding("models", "fail", f"{folder}: {error}", "delete the folder: it is converted anew")
            )
    for task, chosen in settings.media.tasks.items():
        if chosen.folder is not None and not chosen.folder.is_dir():
            found.append(
                Finding(
                    "models",
                    "fail",
                    f"media.tasks.{task}.folder: {chosen.folder} is no folder",
                    "mend the path",
                )
            )
    return found or [
        Finding("models", "skip", f"none converted yet in {settings.media.cache}; the first start does")
    ]


async def port(settings: Settings) -> list[Finding]:
    """Whether the observation port is free."""
    observe = settings.observe
    if not observe.enabled or observe.port == 0:
        return [Finding("port", "skip", "any free one, or none")]
    family = socket.AF_INET6 if ":" in observe.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((observe.host, observe.port))
        except OSError as error:
            return [
                Finding(
                    "port",
                    "warn",
                    f"{observe.host}:{observe.port}: {error.strerror}",
                    "a worker may run here already; another observe.port for a second one",
                )
            ]
    return [Finding("port", "ok", f"{observe.host}:{observe.port} is free")]


async def disk(settings: Settings) -> list[Finding]:
    """Room where weights and snapshots go."""
    found = []
    for setting, path in (
        ("media.cache", settings.media.cache),
        ("state.snapshots", settings.state.snapshots),
    ):
        if path is None:
            continue
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
        said = f"{setting}: {free / (1 << 30):.1f} GiB free at {there}"
        enough = free >= FREE_BYTES
        found.append(
            Finding("disk", "ok" if enough else "warn", said, "" if enough else "make room: 1 GiB at least")
        )
    return found


async def gpu(settings: Settings) -> list[Finding]:
    """The device that inference is to run on."""
    import torch

    device = settings.media.device
    if not device.startswith("cuda"):
        return [Finding("device", "ok", f"{device}, {settings.media.threads} threads")]
    if not torch.cuda.is_available():
        return [
            Finding(
                "device",
                "fail",
                f"media.device = {device}, and torch {torch.__version__} finds no GPU",
                "a build of torch with CUDA and a driver, or media.device = cpu",
            )
        ]
    place = torch.device(device)
    free, total = torch.cuda.mem_get_info(place)
    gib = 1 << 30
    return [
        Finding(
            "device",
            "ok",
            f"{torch.cuda.get_device_name(place)}, {free / gib:.0f} of {total / gib:.0f} GiB free",
        )
    ]


async def clock(settings: Settings) -> list[Finding]:
    """This machine's time: records are stamped with it."""
    now_ms = SystemClock().wall_ms()
    sane = 1_700_000_000_000 < now_ms < 4_000_000_000_000
    return [
        Finding("clock", "ok" if sane else "fail", f"{now_ms} ms since 1970", "" if sane else "set the clock")
    ]


CHECKS: dict[str, Check] = {
    "versions": versions,
    "settings": unsafe,
    "clock": clock,
    "port": port,
    "disk": disk,
    "device": gpu,
    "models": models,
    "broker": broker,
    "topics": topics,
}
"""In the order in which they are made and shown."""
