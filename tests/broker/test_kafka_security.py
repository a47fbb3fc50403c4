"""TLS, SASL and ACLs of a real Kafka: what fits works with the least rights, and what does not is one line, exit 3."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bad_records import click
from certificates import Authority
from processes import run_command
from running import read_all, running, settings_for, until
from sending import value_of
from streams.cli.run import run
from streams.clock import SystemClock
from streams.demo.kafka import KafkaBroker
from streams.demo.server import free_ports
from streams.errors import EnvironmentProblem
from streams.heartbeat import is_heartbeat
from streams.settings import Settings, kafka_lib
from streams.topology.admin import apply, require_topology
from streams.topology.manifests import strimzi
from streams.transport.heart import Heart, Pulse

pytestmark = pytest.mark.kafka
PASSWORDS = {"clicks-user": "s3cret-of-clicks", "nobody": "s3cret-of-nobody", "admin": "s3cret-of-admin"}
MECHANISMS = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
JAAS = "org.apache.kafka.common.security"


@dataclass
class Secured:
    """A broker with a listener of each kind."""

    broker: KafkaBroker
    folder: Path
    ports: dict[str, int]  # by listener

    def kafka(self, listener: str, user: str | None = None, **more: Any) -> dict[str, Any]:
        """The [kafka] section of a client of that listener."""
        tls = {"ssl_cafile": str(self.folder / "ca.pem")} if listener != "SCRAM" else {}
        who = {}
        if user is not None:
            who = {"sasl_username": user, "sasl_password_file": str(self.folder / f"{user}.password")}
        protocol = {"SECURE": "SASL_SSL", "SCRAM": "SASL_PLAINTEXT"}.get(listener, "SSL")
        address = {"bootstrap": f"127.0.0.1:{self.ports[listener]}", "security_protocol": protocol}
        return {**address, **tls, **who, **more}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    server = authority.issue("server")[2]
    expired = authority.issue("expired", -10, -2)[2]
    authority.issue("client")
    stranger.issue("foreigner")
    for user, password in PASSWORDS.items():
        (folder / f"{user}.password").write_text(f"{password}\n", encoding="utf-8")
    names = ("SECURE", "SCRAM", "MUTUAL", "EXPIRED")
    ports = dict(zip(names, free_ports(4), strict=True))
    users = " ".join(f'user_{user}="{password}"' for user, password in PASSWORDS.items())
    properties = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,"
        "SCRAM:SASL_PLAINTEXT,MUTUAL:SSL,EXPIRED:SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin",
        "group.min.session.timeout.ms": "500",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": str(expired),
    }
    for listener in ("secure", "scram"):
        at = f"listener.name.{listener}"
        properties |= {
            f"{at}.sasl.enabled.mechanisms": MECHANISMS,
            f"{at}.plain.sasl.jaas.config": f"{JAAS}.plain.PlainLoginModule required {users};",
        }
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            properties[f"{at}.{mechanism}.sasl.jaas.config"] = f"{JAAS}.scram.ScramLoginModule required;"
    scram = [
        f"{mechanism}=[name={user},password={password}]"
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for user, password in PASSWORDS.items()
    ]
    lib = kafka_lib()
    assert lib is not None
    listeners = {name: (port, port) for name, port in ports.items()}
    with KafkaBroker(lib, properties=properties, listeners=listeners, scram=scram) as broker:
        yield Secured(broker, folder, ports)


def grant(
    secured: Secured, settings: Settings, user: str, agents: tuple[str, ...], without: str = ""
) -> None:
    """The rights that the manifests give such a worker, but for one topic's or group's."""
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    resources = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactionalId": ResourceType.TRANSACTIONAL_ID,
    }
    operations = {
        "Describe": AclOperation.DESCRIBE,
        "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
        "Read": AclOperation.READ,
        "Write": AclOperation.WRITE,
        "Delete": AclOperation.DELETE,
    }
    *_, manifest = yaml.safe_load_all(strimzi(settings, "kafka", {user: agents}))
    bindings = []
    for acl in manifest["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        pattern = (
            ResourcePatternType.PREFIXED
            if resource["patternType"] == "prefix"
            else ResourcePatternType.LITERAL
        )
        for operation in acl["operations"]:
            if resource["name"] == without and operation in ("Read", "Write"):
                continue
            bindings.append(
                AclBinding(
                    resources[resource["type"]], resource["name"], pattern, f"User:{user}", "*",
                    operations[operation], AclPermissionType.ALLOW,
                )
            )  # fmt: skip
    admin = AdminClient({"bootstrap.servers": secured.broker.bootstrap})
    for made in admin.create_acls(bindings).values():
        made.result(timeout=15)
    asyncio.run(in_effect(settings))


async def in_effect(settings: Settings) -> None:
    """Brokers follow the controller's rights with a delay."""
    for _ in range(50):
        with contextlib.suppress(EnvironmentProblem):
            return await require_topology(settings)
        await asyncio.sleep(0.2)
    raise AssertionError("the rights are not in effect after 10 s")


def told(section: dict[str, Any], tmp_path: Path, *arguments: str) -> str:
    """What the command says in its one line, which never holds a password."""
    sets = [f"--set=kafka.{name}={value}" for name, value in section.items()]
    done = run_command([*sets, "--set=kafka.request_timeout_s=5", *arguments], tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("headrace: ")]
    assert done.returncode == 3 and len(lines) == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert not any(password in done.stderr + done.stdout for password in (*PASSWORDS.values(), "wr0ng-one"))
    return lines[0]


def said_by(section: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    """What `topics plan` says in its one line, in this process."""
    capsys.readouterr()
    sets = [f"--set=kafka.{name}={value}" for name, value in section.items()]
    assert run([*sets, "--set=kafka.request_timeout_s=5", "topics", "plan"]) == 3
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1 and "Traceback" not in said, said
    assert not any(password in said for password in (*PASSWORDS.values(), "wr0ng-one"))
    return lines[0]


@pytest.mark.parametrize("mechanism", MECHANISMS.split(","))
@pytest.mark.parametrize("listener", ["SECURE", "SCRAM"])
def test_each_mechanism_lets_in_who_has_the_password(
    secured: Secured, listener: str, mechanism: str, topic_prefix: str
) -> None:
    section = secured.kafka(listener, "admin", sasl_mechanism=mechanism)
    settings = settings_for("", topic_prefix, ("clicks",), kafka=section, topics={"partitions": 1})
    created, left = asyncio.run(apply(settings))
    assert len(created) > 10 and left == []


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_worker_with_the_rights_of_its_manifest_does_its_work(
    secured: Secured, topic_prefix: str, delivery: str, tmp_path: Path
) -> None:
    agents = ("clicks", "items", "privacy")
    section = secured.kafka("SECURE", "clicks-user", sasl_mechanism="SCRAM-SHA-512")
    more: dict[str, Any] = {
        "topics": {"partitions": 2},
        "worker": {"delivery": delivery},
        "observe": {"port": 0, "heartbeat_s": 0.3},
    }
    settings = settings_for("", topic_prefix, agents, kafka=section, **more)
    open_to_all = settings_for(secured.broker.bootstrap, topic_prefix, agents, **more)
    asyncio.run(apply(open_to_all))
    grant(secured, settings, "clicks-user", agents)
    sets = [f"--set=kafka.{name}={value}" for name, value in section.items()]

    async def main() -> None:
        async with running(settings, create=False) as worker:
            applied = worker.metrics.applied.labels("clicks")
            event = click(1, user="ada", item="i1").decode()
            arguments = [*sets, f"--set=kafka.topic_prefix={topic_prefix}", "send", "clicks", event, "--json"]
            done = await asyncio.to_thread(run_command, arguments, tmp_path)
            assert done.returncode == 0, done.stderr
            await until(lambda: applied._value.get() == 1, 20, "the click is applied")
            beats = lambda: value_of(worker, "headrace_heartbeat_seconds_count", agent="privacy")  # noqa: E731
            await until(lambda: beats() > 0, 20, "heartbeats come through")
            assert value_of(worker, "headrace_heartbeat_failures_total") == 0
        lists = await read_all(secured.broker.bootstrap, f"{topic_prefix}recommendations", 1, partitions=2)
        assert json.loads(lists[0].value)["user"] == "ada"

    asyncio.run(main())


def test_a_topic_that_refuses_heartbeats_is_counted_and_the_others_get_theirs(
    secured: Secured, topic_prefix: str
) -> None:
    agents = ("clicks", "privacy")
    section = secured.kafka("SECURE", "clicks-user", sasl_mechanism="SCRAM-SHA-512")
    settings = settings_for("", topic_prefix, agents, kafka=section, topics={"partitions": 1})
    open_to_all = settings_for(secured.broker.bootstrap, topic_prefix, agents, topics={"partitions": 1})
    refused: list[None] = []

    def pulse(topic: str) -> Pulse:
        return Pulse(topic, lambda: [0], lambda partition, now_ms: None, lambda: refused.append(None))

    asyncio.run(apply(open_to_all))
    grant(secured, settings, "clicks-user", agents)

    async def main() -> None:
        heart = Heart(settings.kafka, 0.2, SystemClock(), [pulse("audio"), pulse("clicks")])
        heart.start()
        log = await read_all(secured.broker.bootstrap, f"{topic_prefix}clicks", 2, partitions=1)
        await heart.stop()
        assert all(is_heartbeat(record) for record in log) and refused
        assert not await read_all(secured.broker.bootstrap, f"{topic_prefix}audio", 0, partitions=1)

    asyncio.run(main())


def test_mutual_tls(secured: Secured, topic_prefix: str) -> None:
    files = {"ssl_certfile": "client.cert.pem", "ssl_keyfile": "client.key.pem"}
    section = secured.kafka("MUTUAL", **{name: str(secured.folder / file) for name, file in files.items()})
    settings = settings_for("", topic_prefix, ("clicks",), kafka=section)
    grant_all_to_certificate(secured)
    created, _ = asyncio.run(apply(settings))
    assert created


def grant_all_to_certificate(secured: Secured) -> None:
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    admin = AdminClient({"bootstrap.servers": secured.broker.bootstrap})
    for kind, name in ((ResourceType.BROKER, "kafka-cluster"), (ResourceType.TOPIC, "*")):
        binding = AclBinding(
            kind, name, ResourcePatternType.LITERAL, "User:CN=client", "*",
            AclOperation.ALL, AclPermissionType.ALLOW,
        )  # fmt: skip
        for made in admin.create_acls([binding]).values():
            made.result(timeout=15)


def test_what_is_wrong_and_what_to_do_is_said_in_one_line(
    secured: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wr0ng-one", encoding="utf-8")
    folder = secured.folder

    def certificate(name: str) -> dict[str, Any]:
        files = {"ssl_certfile": folder / f"{name}.cert.pem", "ssl_keyfile": folder / f"{name}.key.pem"}
        return secured.kafka("MUTUAL", **files)

    for mechanism in MECHANISMS.split(","):
        section = secured.kafka("SECURE", "admin", sasl_mechanism=mechanism) | {"sasl_password_file": wrong}
        said = said_by(section, capsys)
        assert "wrong user or password" in said and "kafka.sasl_password_file" in said and "admin" in said
    said = said_by(secured.kafka("SECURE", "admin") | {"sasl_password_file": tmp_path / "none"}, capsys)
    assert "kafka.sasl_password_file" in said and "cannot be read" in said
    assert "has expired" in said_by(secured.kafka("EXPIRED"), capsys)
    said = said_by(secured.kafka("SECURE", "admin") | {"ssl_cafile": folder / "stranger.pem"}, capsys)
    assert "not trusted" in said and "kafka.ssl_cafile" in said
    assert "kafka.ssl_certfile" in said_by(secured.kafka("MUTUAL"), capsys)
    assert "kafka.ssl_certfile" in said_by(certificate("foreigner"), capsys)
    assert "expired on" in said_by(certificate("expired"), capsys)
    said = said_by(secured.kafka("SECURE", "admin") | {"ssl_cafile": wrong}, capsys)
    assert "kafka.ssl_cafile" in said and "cannot be used" in said
    plain = secured.kafka("SECURE", "admin", bootstrap=secured.broker.bootstrap)
    assert "kafka.security_protocol = SASL_SSL" in said_by(plain, capsys)


def test_a_worker_says_the_same(secured: Secured, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wr0ng-one", encoding="utf-8")
    section = secured.kafka("SCRAM", "admin", sasl_mechanism="SCRAM-SHA-256") | {"sasl_password_file": wrong}
    said = told(section, tmp_path, "--set=observe.enabled=false", "worker", "--agents", "clicks")
    assert "wrong user or password" in said


@pytest.mark.parametrize("what", ["clicks", "recommendations", "group.clicks"])
def test_a_missing_right_is_named(secured: Secured, topic_prefix: str, tmp_path: Path, what: str) -> None:
    section = secured.kafka("SCRAM", "nobody", sasl_mechanism="SCRAM-SHA-256")
    settings = settings_for("", topic_prefix, ("clicks",), kafka=section, topics={"partitions": 1})
    asyncio.run(
        apply(settings_for(secured.broker.bootstrap, topic_prefix, ("clicks",), topics={"partitions": 1}))
    )
    grant(secured, settings, "nobody", ("clicks",), without=f"{topic_prefix}{what}")
    sets = {"topic_prefix": topic_prefix, "group": f"{topic_prefix}group"}
    if what == "recommendations":
        admin = secured.kafka("SCRAM", "admin", sasl_mechanism="SCRAM-SHA-256")
        event = click(1, user="ada", item="i1").decode()
        options = [f"--set=kafka.{name}={value}" for name, value in (admin | sets).items()]
        done = run_command([*options, "send", "clicks", event], tmp_path)
        assert done.returncode == 0, done.stderr
    said = told(
        section | sets,
        tmp_path,
        *("--set=observe.enabled=false", "--set=topics.partitions=1", "worker", "--agents", "clicks"),
    )
    assert ("ACLs" in said and "nobody" in said) or what in said
    assert "topics manifests" in said


def test_creating_topics_without_the_right(secured: Secured, topic_prefix: str, tmp_path: Path) -> None:
    section = secured.kafka("SCRAM", "nobody", sasl_mechanism="SCRAM-SHA-256", topic_prefix=topic_prefix)
    assert "ACLs" in told(section, tmp_path, "topics", "apply")


def test_a_user_without_its_password_is_a_mistake_of_the_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--set=kafka.security_protocol=SASL_SSL", "topics", "plan"]) == 2
    assert "sasl_username" in capsys.readouterr().err
