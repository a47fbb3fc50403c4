"""Claim checks in S3: allow-listed buckets of the one configured endpoint, read by s3fs with the worker's own rights.

Credentials and region come from where AWS's tools look for them. The endpoint's addresses are checked like those of
any other host: one inside the network has to be allowed by `media.claims.private_networks`.
"""

import asyncio
from typing import Any

from yarl import URL

from streams.claims.body import CHUNK_BYTES, Body
from streams.claims.guard import UNAVAILABLE, Guard, GuardedResolver
from streams.errors import EnvironmentProblem, HeadraceError, Reject, Retry
from streams.events import ClaimCheck

_SCHEME = "s3://"


class ObjectClaims:
    """One file system a worker, made at the first use on its event loop."""

    def __init__(
        self,
        guard: Guard,
        buckets: tuple[str, ...],
        endpoint: str | None,
        *,
        anonymous: bool,
        timeout_s: float,
    ) -> None:
        self._guard = guard
        self._buckets = frozenset(buckets)
        self._endpoint = endpoint
        self._anonymous = anonymous
        self._timeout_s = timeout_s
        self._files: Any = None

    async def read(self, claim: ClaimCheck) -> bytes:
        """The bytes. Raises Reject, and Retry for what may be there later; bound its time outside."""
        bucket, _, key = claim.uri.removeprefix(_SCHEME).partition("/")
        if bucket not in self._buckets:
            raise Reject(UNAVAILABLE, "the bucket is not among media.claims.buckets")
        if not key:
            raise Reject(UNAVAILABLE, "the URI names no object")
        body = Body(claim)
        try:
            self.start()
            file = await self._files.open_async(f"{bucket}/{key}")
            # One byte past the promise is asked for, so that a longer object is found out.
            while piece := await file.read(min(CHUNK_BYTES, body.missing_bytes + 1)):
                body.add(piece)
            return body.done()
        except HeadraceError:
            raise
        except (
            Exception
        ) as error:  # whatever s3fs, botocore and aiohttp raise; each is one record's end or retry
            raise _decided(error) from error

    async def close(self) -> None:
        """Let the connections go."""
        if self._files is not None:
            await (await self._files.set_session()).close()
            self._files = None

    def start(self) -> None:
        """On the loop that reads. Raises EnvironmentProblem without s3fs, Reject for a forbidden endpoint."""
        if self._files is not None or not self._buckets:
            return
        try:
            from s3fs import S3FileSystem
        except ImportError as error:
            raise EnvironmentProblem("s3: payloads need s3fs; install headrace[s3]") from error
        if self._endpoint is not None:
            endpoint = URL(self._endpoint)
            Guard(frozenset(("http", "https")), (endpoint.authority,), self._guard.networks).check_url(
                endpoint
            )
        self._files = S3FileSystem(
            anon=self._anonymous,
            endpoint_url=self._endpoint,
            asynchronous=True,
            loop=asyncio.get_running_loop(),
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": self._timeout_s,
                "read_timeout": self._timeout_s,
                "retries": {"max_attempts": 1},  # the retry topic is for that
                "connector_args": {"resolver": GuardedResolver(self._guard), "use_dns_cache": False},
            },
        )
        self._files.retries = 1


def _decided(error: BaseException) -> HeadraceError:
    """Reject what the guard refused or what no later try can mend, else Retry."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HeadraceError):
            return cause
        cause = cause.__cause__ or cause.__context__
    name = type(error).__name__
    if isinstance(error, PermissionError):
        return Reject(UNAVAILABLE, "the object store refuses to give it")
    if isinstance(error, FileNotFoundError):
        return Retry("there is no such object", UNAVAILABLE)
    return Retry(f"cannot be fetched: {name}", UNAVAILABLE)
