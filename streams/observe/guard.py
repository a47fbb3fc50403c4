"""Who may ask the HTTP port what, and what every answer carries. Knows no question.

Metrics and health are open, as Prometheus and an orchestrator need them. All else is answered

- on a loopback address without a token: to callers who name the host as loopback, so that a web page elsewhere cannot
  reach it by a name of its own (DNS rebinding);
- with a token (`observe.token`): to callers who bring it, in `Authorization: Bearer ...` or the cookie of `/session`;
- on any other address without a token: to nobody.
"""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from streams.errors import EnvironmentProblem
from streams.secrecy.files import secret
from streams.sections.worker import Observe

log = logging.getLogger(__name__)

OPEN = frozenset({"/metrics", "/healthz", "/readyz"})
SESSION = "/session"
COOKIE = "headrace_session"
FORM_BYTES = 4_096
TOKEN_BYTES = 16
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "headrace",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(
    status: int,
    title: str,
    detail: str,
    partition: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An answer that is none, as RFC 9457 has it."""
    body: dict[str, object] = {"title": title, "status": status, "detail": detail}
    if partition is not None:
        body["partition"] = partition
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


def token_of(observe: Observe) -> str | None:
    """The token that is asked for. Raises EnvironmentProblem for a file that cannot be used."""
    if observe.token is not None:
        return observe.token.get_secret_value()
    if observe.token_file is None:
        return None
    if not observe.token_file.exists():
        log.warning(
            "observe.token_file: there is no %s; without a token the page and the queries are for loopback alone",
            observe.token_file,
        )
        return None
    found = secret(observe.token_file, "observe.token_file")
    if len(found) < TOKEN_BYTES or not found.isascii():
        raise EnvironmentProblem(
            f"observe.token_file: the token in {observe.token_file} must have {TOKEN_BYTES} ASCII characters or more: "
            "`openssl rand -hex 24` makes one"
        )
    return found.decode()


class Guard:
    """The middleware of the port. `login` is the page that asks a person for the token."""

    def __init__(self, host: str, token: str | None, login: Callable[[], web.Response] | None = None) -> None:
        self._loopback = is_loopback(host)
        self._token = token
        self._cookie = (
            hmac.new(token.encode(), b"headrace session", hashlib.sha256).hexdigest() if token else ""
        )
        self._login = login

    def install(self, app: web.Application) -> None:
        """Before the routes of others."""
        app.middlewares.append(self._middleware())
        app.on_response_prepare.append(_add_headers)
        app.router.add_post(SESSION, self._session)

    def _middleware(self) -> Middleware:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                refused = None if request.path in OPEN or request.path == SESSION else self._refusal(request)
                return refused if refused is not None else await handler(request)
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
                return problem(
                    error.status, error.reason, f"{request.method} is not answered here", headers=kept
                )
            except Exception:
                log.exception("%s %r failed", request.method, request.path)
                return problem(500, "Internal Server Error", "the worker's log says why")

        return guarded

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._token is None:
            if not self._loopback:
                return problem(
                    403,
                    "Forbidden",
                    "this port is not on a loopback address: set observe.token to open the page",
                )
            if not is_loopback(_host_of(request.host)):
                return problem(421, "Misdirected Request", "ask for 127.0.0.1 or localhost")
            return None
        if self._knows(request):
            return None
        if self._login is not None and request.path == "/" and request.method in ("GET", "HEAD"):
            return self._login()
        return problem(
            401, "Unauthorized", "bring the token", headers={"WWW-Authenticate": 'Bearer realm="headrace"'}
        )

    def _knows(self, request: web.Request) -> bool:
        assert self._token is not None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token.encode())
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode())

    async def _session(self, request: web.Request) -> web.Response:
        """Take the token from the form and remember it in a cookie that scripts cannot read."""
        if self._token is None:
            return problem(404, "Not Found", "no token is asked for")
        if (request.content_length or 0) > FORM_BYTES:
            return problem(413, "Content Too Large", "that is not a token")
        given = (await request.post()).get("token", "")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), self._token.encode()):
            return self._login() if self._login is not None else problem(401, "Unauthorized", "wrong token")
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            COOKIE, self._cookie, httponly=True, samesite="Strict", secure=request.secure, path="/"
        )
        return answer


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _host_of(header: str) -> str:
    """The host of `host:port`, `[v6]:port` or `host`."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a bind address, or the host that a caller named, is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
