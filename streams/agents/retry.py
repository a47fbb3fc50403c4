"""Retry topics: media that could not be fetched, tried again when they are due.

The agents of `streams.agents.media` once more, on another topic: labels, dead letters and their ids are those of the
record that was read first. The reader hands a record on only when it is due; until then its partition is paused.
"""

from dataclasses import replace
from functools import partial
from typing import ClassVar

from streams.agents.media import AudioAgent, MediaAgent, UploadsAgent
from streams.refusals.rejected import Place
from streams.refusals.retries import left_ms, place_of
from streams.topology.topics import AUDIO, UPLOADS, retry
from streams.transport.batch import Record
from streams.transport.consumer import Profile

FETCH_WAIT_MS = 250  # nothing here is in a hurry


class RetryAgent(MediaAgent):
    """Common to both: put before the agent whose work it repeats."""

    of: ClassVar[str]  # the input topic

    @property
    def source(self) -> str:
        return self.of

    def place(self, partition: int, record: Record) -> Place:
        return place_of(self.of, self.topic, partition, record)

    def profile(self) -> Profile:
        left = partial(left_ms, longest_s=self._media.retry_backoff_max_s)
        return replace(super().profile(), fetch_wait_ms=FETCH_WAIT_MS, left_ms=left)


class AudioRetryAgent(RetryAgent, AudioAgent):
    """Recordings, again."""

    name = "audio-retry"
    topic = retry(AUDIO)
    companions = ()
    of = AUDIO


class UploadsRetryAgent(RetryAgent, UploadsAgent):
    """Texts and pictures, again."""

    name = "uploads-retry"
    topic = retry(UPLOADS)
    companions = ()
    of = UPLOADS
