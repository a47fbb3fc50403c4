"""Why no broker lets us in: aiokafka tries the next address and says nothing, so one connection is made by hand.

Only where TLS or SASL are spoken. What waiting mends (nobody listens, no answer) is not a finding.
"""

import asyncio
import contextlib
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.errors import EnvironmentProblem
from streams.sections.kafka import Kafka
from streams.transport.client import check_not_refused, client_options, ssl_context

CONNECT_S = 5.0
ALERT_S = 0.5  # a broker that wants a certificate of ours says so after the handshake

_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a certificate of this client: name one with kafka.ssl_certfile",
    "CERTIFICATE_EXPIRED": "this client's certificate has expired: renew kafka.ssl_certfile",
    "UNKNOWN_CA": "it does not know who signed this client's certificate (kafka.ssl_certfile)",
    "BAD_CERTIFICATE": "it does not accept this client's certificate (kafka.ssl_certfile)",
    "CERTIFICATE_UNKNOWN": "it does not accept this client's certificate (kafka.ssl_certfile)",
    "WRONG_VERSION_NUMBER": "its listener does not speak TLS: see kafka.security_protocol and the port",
    "RECORD_LAYER_FAILURE": "its listener does not speak TLS: see kafka.security_protocol and the port",
    "HANDSHAKE_FAILURE": "it and this client have no way of TLS in common",
}


async def check_let_in(kafka: Kafka) -> None:
    """Raises EnvironmentProblem with what to do when a broker is there and refuses us for good."""
    if kafka.security_protocol == "PLAINTEXT":
        return
    for address in kafka.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdigit():
            continue
        if kafka.security_protocol.endswith("SSL"):
            await _check_tls(kafka, host.strip("[]"), int(port))
        if kafka.security_protocol.startswith("SASL"):
            await _check_sasl(kafka, host.strip("[]"), int(port))


async def _check_tls(kafka: Kafka, host: str, port: int) -> None:
    context = ssl_context(kafka)
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(host, port, ssl=context, server_hostname=host), CONNECT_S
        )
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1), ALERT_S)
        finally:
            writer.close()
    except ssl.SSLCertVerificationError as error:
        raise EnvironmentProblem(
            f"the broker at {host}:{port} is not trusted: {_untrusted(error)}"
        ) from error
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        words = next((text for name, text in _ALERTS.items() if name in reason), f"TLS fails ({reason})")
        raise EnvironmentProblem(f"the broker at {host}:{port} refuses this client: {words}") from error
    except (OSError, asyncio.TimeoutError):
        return  # nobody there


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message
    if "expired" in said:
        return "its certificate has expired: whoever runs the broker must renew it"
    if "not yet valid" in said:
        return "its certificate is not valid yet: is this machine's clock right?"
    if "mismatch" in said or "not valid for" in said:
        return f"its certificate is for another name ({said}): use a name that the certificate has"
    return f"nobody we trust signed its certificate ({said}): name its authority with kafka.ssl_cafile"


async def _check_sasl(kafka: Kafka, host: str, port: int) -> None:
    options = client_options(kafka)
    wanted = ("client_id", "security_protocol", "request_timeout_ms", "ssl_context")
    given = {name: value for name, value in options.items() if name in wanted or name.startswith("sasl_")}
    try:
        connection = await asyncio.wait_for(create_conn(host, port, **given), CONNECT_S)
        connection.close()
    except (KafkaConnectionError, OSError, asyncio.TimeoutError):
        return
    except KafkaError as error:
        check_not_refused(error, kafka)
