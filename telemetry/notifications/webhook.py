"""One delivery by HTTP: signed, bounded in time, to where it may go and nowhere else.

http.client is plain enough for that: it follows no redirect and asks no proxy of the environment.
"""

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from http.client import HTTPConnection, HTTPException

from iotflow import __version__
from telemetry.notifications import targets
from telemetry.notifications.failure import Failed
from telemetry.notifications.targets import Target

# For all of it but the look-up of the name, whatever pace the target has.
ANSWER_SECONDS = 15.0
# Read so that the target can end in order, and thrown away.
ANSWER_BYTES = 4096
RETRY_AFTER_MAX = 3600


class Connection(HTTPConnection):
    """To an address that is allowed, with TLS for the name; for ANSWER_SECONDS at most."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.is_tls else 80
        self.target = target

    def connect(self) -> None:
        self.sock = targets.connect(self.target)
        if self.target.is_tls:
            self.sock = _tls().wrap_socket(
                self.sock, server_hostname=self.target.host, do_handshake_on_connect=False
            )


def post(url: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Send it; how the target answered, which was 2xx. Raises Failed."""
    try:
        connection = Connection(targets.parse(url))
    except ValueError as error:  # the settings are others than when the channel was made
        raise Failed(str(error)) from error
    try:
        connection.connect()
        with _limited(connection.sock):
            return _exchange(connection, body, headers)
    except (OSError, HTTPException, ValueError) as error:
        raise Failed(_reason(error)) from error
    finally:
        connection.close()


def _exchange(connection: Connection, body: bytes, headers: Mapping[str, str]) -> str:
    if isinstance(connection.sock, ssl.SSLSocket):
        connection.sock.do_handshake()
    fixed = {"Content-Type": "application/json", "Connection": "close"}
    fixed["User-Agent"] = f"IoTFlow/{__version__}"
    connection.request("POST", connection.target.path, body, {**fixed, **headers})
    answer = connection.getresponse()
    with suppress(OSError, HTTPException, ValueError):
        answer.read(ANSWER_BYTES)
    if not 200 <= answer.status < 300:
        wait = answer.headers.get("Retry-After", "")
        seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 0
        raise Failed(f"HTTP {answer.status}", min(seconds, RETRY_AFTER_MAX))
    return f"HTTP {answer.status}"


@contextmanager
def _limited(sock: socket.socket) -> Iterator[None]:
    """Shut the connection after a time, though each of its bytes was in time; TimeoutError then."""
    late = threading.Event()

    def shut() -> None:
        late.set()
        with suppress(OSError):  # it has ended meanwhile
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, whose own would write on

    sock.settimeout(ANSWER_SECONDS)
    timer = threading.Timer(ANSWER_SECONDS, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():  # what was read by then may look like the whole of an answer
            raise TimeoutError


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "It did not answer in time."
        case ConnectionRefusedError():
            return "It refused the connection."
        case ssl.SSLCertVerificationError():
            return f"Its certificate is not good: {error.verify_message}"
        case ssl.SSLError():
            return "It does not speak TLS as it should."
        case HTTPException() | ValueError():
            return "Its answer is no HTTP."
        case _:
            return "It cannot be reached."


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
