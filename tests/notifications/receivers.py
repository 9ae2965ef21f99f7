"""Receivers on the loopback address: what webhooks and e-mails are sent to in tests."""

import base64
import hmac
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from iotflow.lib import json


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed_by(self, secret: str) -> bool:
        """As any receiver looks at it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        right = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
        return f"v1,{right}" in self.headers["webhook-signature"].split()


@dataclass
class Receiver:
    """Takes webhooks at one port whenever it is `up`, which may be several times."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    status: int = 204
    answer_headers: dict[str, str] = field(default_factory=dict)
    before_answer: Callable[[], object] = lambda: None
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/hook?token=t0ken"

    @contextmanager
    def up(self) -> Iterator["Receiver"]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received({**headers, "path": self.path}, body))
                receiver.before_answer()
                self.send_response(receiver.status)
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                pass  # a client that goes away is what some tests are about

        with Server(("127.0.0.1", self.port), Handler) as server:
            if self.tls:
                server.socket = self.tls.wrap_socket(server.socket, server_side=True)
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def answering(talk: Callable[[Any], None]) -> Iterator[int]:
    """The port of a server that does with each connection what `talk` says."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            talk(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mail_server(taken: list[str], refuse: Callable[[], bool] = lambda: False) -> Iterator[int]:
    """The port of an SMTP server that keeps what it is sent."""

    def talk(connection: Any) -> None:
        file = connection.makefile("rwb", buffering=0)

        def say(line: bytes) -> None:
            file.write(line + b"\r\n")

        say(b"220 test")
        while line := file.readline():
            match line[:4].upper():
                case b"DATA":
                    say(b"354 go on")
                    lines = iter(file.readline, b".\r\n")
                    taken.append(b"".join(lines).decode())
                    say(b"250 taken")
                case b"QUIT":
                    say(b"221 bye")
                    return
                case b"MAIL" if refuse():
                    say(b"451 not now")
                case _:
                    say(b"250 fine")

    with answering(talk) as port:
        yield port
