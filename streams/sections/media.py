"""Payloads, the inference device and its tasks."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streams.sections.base import Count, Seconds, Section, UserPath, by_comma


class TaskSettings(Section):
    """One inference task: `[media.tasks.sentiment]`."""

    folder: UserPath | None = Field(
        None, description="a checkpoint in Hugging Face layout; default: the embedded model"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the task's own, see its file")


class Claims(Section):
    """Payloads that lie elsewhere: `[media.claims]`. Nothing is allowed that is not named here."""

    schemes: Annotated[tuple[Literal["file", "http", "https", "s3"], ...], BeforeValidator(by_comma)] = Field(
        ("file", "https", "s3"),
        description="of URIs that are opened; http is not encrypted, so not by default",
    )
    hosts: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
        (), description="hosts of http(s) payloads: `name`, `*.name`, `name:port`; none by default"
    )
    private_networks: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
        (),
        description="networks, as 10.1.0.0/16, in which such hosts or the S3 endpoint may lie; private, link-local "
        "and loopback addresses are refused otherwise",
    )
    redirects: int = Field(
        3, ge=0, le=20, description="followed for one payload, each checked like the first"
    )
    buckets: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
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

    audio: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
        ("transcribe",),
        min_length=1,
        description="tasks for recordings, and those that look at what these find",
    )
    uploads: Annotated[tuple[str, ...], BeforeValidator(by_comma)] = Field(
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
