"""What every aiokafka client of this process is given, and how each is closed."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import errors
from cryptography import x509

from streams.clock import SystemClock
from streams.errors import EnvironmentProblem
from streams.secrecy.files import secret
from streams.sections.kafka import Kafka

log = logging.getLogger(__name__)

_REFUSALS = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.IllegalSaslStateError,
    errors.InconsistentGroupProtocolError,
    errors.InvalidSessionTimeoutError,
    errors.SaslAuthenticationFailed,
    errors.TopicAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.UnsupportedSaslMechanismError,
)


_WORDS: dict[type[BaseException], str] = {
    errors.TopicAuthorizationFailedError: "its ACLs do not let this user use a topic",
    errors.GroupAuthorizationFailedError: "its ACLs do not let this user read as a consumer group",
    errors.ClusterAuthorizationFailedError: "its ACLs do not let this user change the cluster (create topics, alter)",
    errors.TransactionalIdAuthorizationFailed: "its ACLs do not let this user write transactions of this id",
    errors.AuthenticationFailedError: "wrong user or password (kafka.sasl_username, kafka.sasl_password_file)",
    errors.SaslAuthenticationFailed: "wrong user or password (kafka.sasl_username, kafka.sasl_password_file)",
    errors.UnsupportedSaslMechanismError: "its listener does not know kafka.sasl_mechanism",
    errors.IllegalSaslStateError: "its listener does not speak kafka.security_protocol",
}
_ACLS = "`headrace topics manifests` prints the rights that workers need"


def refusal(error: BaseException) -> str | None:
    """What a broker that said no means, in a few words and with what to do; None for any other error."""
    if not isinstance(error, _REFUSALS):
        return None
    words = _WORDS.get(type(error), "see the [kafka] settings")
    name = type(error).__name__
    named = [str(part) for part in error.args if part]
    told = f" ({name}: {', '.join(named)})" if named else f" ({name})"
    return f"{words}{told}{f': {_ACLS}' if 'ACLs' in words else ''}"


def check_not_refused(error: BaseException, kafka: Kafka) -> None:
    """Raises EnvironmentProblem when brokers answered and said no, which waiting does not mend."""
    words = refusal(error)
    if words is not None:
        who = f" user {kafka.sasl_username}" if kafka.security_protocol.startswith("SASL") else ""
        raise EnvironmentProblem(f"the broker at {kafka.bootstrap} refuses{who}: {words}") from error


def client_options(kafka: Kafka) -> dict[str, Any]:
    """What every Kafka client of this process is given: the only place where secrets are read.

    Raises EnvironmentProblem for a file that cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": int(kafka.request_timeout_s * 1000),
        "metadata_max_age_ms": int(kafka.metadata_max_age_s * 1000),
        "retry_backoff_ms": 100,
    }
    if kafka.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": _password(kafka),
        }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(kafka)
    return options


def _password(kafka: Kafka) -> str | None:
    if kafka.sasl_password_file is None:
        return kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    try:
        return secret(kafka.sasl_password_file, "kafka.sasl_password_file").decode()
    except UnicodeDecodeError:
        raise EnvironmentProblem(
            f"kafka.sasl_password_file: {kafka.sasl_password_file} is not UTF-8 text"
        ) from None


def ssl_context(kafka: Kafka) -> ssl.SSLContext:
    """Of a client that checks the brokers' certificate and name, and has one of its own where it is named.

    Raises EnvironmentProblem for a file that cannot be used, and for a certificate of ours whose time is over.
    """
    with _usable("kafka.ssl_cafile", kafka.ssl_cafile):
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
    if kafka.ssl_certfile:
        with _usable("kafka.ssl_certfile", kafka.ssl_certfile):
            check_dates(kafka.ssl_certfile.read_bytes(), "kafka.ssl_certfile", kafka.ssl_certfile)
        if kafka.ssl_keyfile is not None:
            with _usable("kafka.ssl_keyfile", kafka.ssl_keyfile):
                kafka.ssl_keyfile.open("rb").close()
        phrase = kafka.ssl_key_password_file
        # without one the TLS library would ask on the terminal
        password = secret(phrase, "kafka.ssl_key_password_file") if phrase is not None else b"-"
        with _usable("kafka.ssl_keyfile", kafka.ssl_keyfile or kafka.ssl_certfile):
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password=lambda: password)
    return context


@contextmanager
def _usable(setting: str, path: Path | None) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        why = error.reason or "not PEM, or the pass phrase in kafka.ssl_key_password_file is wrong"
        raise EnvironmentProblem(f"{setting}: {path} cannot be used for TLS ({why})") from error
    except OSError as error:
        raise EnvironmentProblem(
            f"{setting}: {path} cannot be read ({error.strerror}): mend the path or the file's rights"
        ) from error


def check_dates(pem: bytes, setting: str, path: Path) -> None:
    """Raises EnvironmentProblem when the first certificate's time is over or has not begun."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise EnvironmentProblem(f"{setting}: {path} holds no certificate in PEM") from error
    now = SystemClock().wall_ms() / 1000
    if found[0].not_valid_after_utc.timestamp() < now:
        raise EnvironmentProblem(
            f"{setting}: the certificate in {path} expired on {found[0].not_valid_after_utc:%Y-%m-%d}: renew it"
        )
    if found[0].not_valid_before_utc.timestamp() > now:
        raise EnvironmentProblem(
            f"{setting}: the certificate in {path} is not valid before {found[0].not_valid_before_utc:%Y-%m-%d}: "
            "set the clock, or wait"
        )


async def close(client: Any, timeout_s: float = 3.0) -> None:
    """Stop a consumer or producer within a bound. In a task of its own: aiokafka 0.14 lets the cancellation of
    its inner tasks escape from `stop`, which would read as ours."""
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=timeout_s)
    if not stopping.done():
        stopping.cancel()
        log.warning("a connection did not close within %.0f s", timeout_s)
    elif not stopping.cancelled() and stopping.exception() is not None:
        log.warning("a connection did not close cleanly: %r", stopping.exception())
