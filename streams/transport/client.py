"""What every aiokafka client of this process is given, and how each is closed."""

import asyncio
import logging
import ssl
from typing import Any

from aiokafka import errors

from streams.errors import EnvironmentProblem
from streams.settings import Kafka

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
    errors.UnsupportedSaslMechanismError,
)


def check_not_refused(error: BaseException, kafka: Kafka) -> None:
    """Raises EnvironmentProblem when brokers answered and said no, which waiting does not mend."""
    if isinstance(error, _REFUSALS):
        raise EnvironmentProblem(
            f"the broker at {kafka.bootstrap} refuses this worker ({error!r}): see the [kafka] settings and "
            "the rights of its user"
        ) from error


def client_options(kafka: Kafka) -> dict[str, Any]:
    """What every aiokafka client of this process is given."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": int(kafka.request_timeout_s * 1000),
        "metadata_max_age_ms": int(kafka.metadata_max_age_s * 1000),
        "retry_backoff_ms": 100,
    }
    if kafka.security_protocol.startswith("SASL"):
        secret = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": secret,
        }
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
        if kafka.ssl_certfile:
            context.load_cert_chain(
                str(kafka.ssl_certfile), str(kafka.ssl_keyfile) if kafka.ssl_keyfile else None
            )
        options["ssl_context"] = context
    return options


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
