"""The HTTP port: /metrics for Prometheus, /healthz and /readyz for an orchestrator, and what others add to it."""

from collections.abc import Callable, Sequence

from aiohttp import web

from streams.errors import EnvironmentProblem
from streams.observe.catalogue import Metrics
from streams.observe.guard import Guard

Checks = Callable[[], dict[str, bool]]
Recovering = Callable[[], dict[str, dict[int, tuple[int, int]]]]
"""Agent -> partition whose state is not in memory yet -> (offsets passed, of how many; 0 when not known)."""


class ObservePort:
    """Serves on one address. `healthy` and `ready` name their checks; all true means 200, else 503. `/readyz` also
    names the partitions that are being recovered, and how far they are.
    """

    def __init__(self, metrics: Metrics, *, healthy: Checks, ready: Checks, recovering: Recovering) -> None:
        self._metrics = metrics
        self._healthy = healthy
        self._ready = ready
        self._recovering = recovering
        self._runner: web.AppRunner | None = None
        self._more: list[web.RouteDef] = []
        self.port = 0

    def add(self, routes: Sequence[web.RouteDef]) -> None:
        """More to answer; before `start`. The guard decides who may ask."""
        self._more += routes

    async def start(self, host: str, port: int, guard: Guard) -> None:
        """Bind. Raises EnvironmentProblem when the port is taken or the address is not ours."""
        app = web.Application()
        guard.install(app)
        app.add_routes(
            [
                web.get("/metrics", self._show_metrics),
                web.get("/healthz", self._show_health),
                web.get("/readyz", self._show_ready),
                *self._more,
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise EnvironmentProblem(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another observe.port "
                "(0 picks a free one) or stop what uses it"
            ) from error
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _show_metrics(self, request: web.Request) -> web.Response:
        body, kind = self._metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind, "Vary": "Accept"})

    async def _show_health(self, _: web.Request) -> web.Response:
        return _checked(self._healthy())

    async def _show_ready(self, _: web.Request) -> web.Response:
        recovering = [
            {"agent": agent, "partition": partition, "records": done, "of": of}
            for agent, partitions in self._recovering().items()
            for partition, (done, of) in sorted(partitions.items())
        ]
        return _checked(self._ready(), recovering=recovering)


def _checked(checks: dict[str, bool], **more: object) -> web.Response:
    good = all(checks.values())
    body: dict[str, object] = {"status": "ok" if good else "not ok", "checks": checks, **more}
    return web.json_response(body, status=200 if good else 503)
