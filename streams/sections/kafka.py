"""How to reach the cluster, its topics, and how much is read ahead."""

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from streams.sections.base import Count, Seconds, Section, UserPath


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
    fetch_max_wait_ms: Count = Field(
        20,
        description="how long a broker with nothing new holds its answer back; the embedded one looks every half of it",
    )
    fetch_pace_ms: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="clicks gather for so long while they flow: a broker is asked at most once in this time",
    )
    fetch_full_bytes: Count = Field(
        65_536, description="after a fetch that brought so much the next one follows at once"
    )
    fetch_bytes: Count = Field(1 << 20, description="of one partition in one fetch")
    batches_in_flight: Count = Field(32, description="per partition")
    bytes_in_flight: Count = Field(64 << 20, description="over all partitions of one agent")
    group_interval_ms: float = Field(
        3.0, ge=0, le=1000, description="group commits of one agent begin at most once in this time"
    )
    changelog_interval_ms: float = Field(
        25.0,
        ge=0,
        le=1000,
        description="changelog rows gather for so long while groups follow each other; lists do not wait for them",
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
