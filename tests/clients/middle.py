"""A real HTTP server between a client and IoTFlow, which fails as it is told to.

Each entry of `plan` is for one request, in their order; when the plan is over, requests pass to
IoTFlow, or where there is none behind, are answered as a server does that takes everything.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes | dict[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Cut:
    """The connection ends in the middle of the answer, after IoTFlow has done its work."""


Step = Reply | Cut | Callable[["Middle", Asked], Reply | Cut]


class Middle:
    def __init__(self, url: str, behind: str | None) -> None:
        self.url, self._behind = url, behind
        self.plan: list[Step] = []
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Reply | Cut:
        with self._lock:
            self.asked.append(asked)
            step = self.plan.pop(0) if self.plan else None
        match step:
            case Reply():
                return step
            case None:
                return self.forward(asked)
            case Cut():
                self.forward(asked)
                return step
        return step(self, asked)

    def forward(self, asked: Asked) -> Reply:
        if self._behind is None:
            return taken(asked)
        kept = ("x-api-key", "authorization", "content-type", "idempotency-key", "if-none-match")
        headers = {name: value for name, value in asked.headers.items() if name.lower() in kept}
        answer = httpx.request(
            asked.method,
            self._behind + asked.path,
            content=asked.body,
            headers=headers,
            timeout=30,
            trust_env=False,
        )
        told = ("content-type", "retry-after", "etag")
        headers = {name: value for name, value in answer.headers.items() if name in told}
        return Reply(answer.status_code, answer.content, headers)


def taken(asked: Asked) -> Reply:
    """Everything is stored."""
    if asked.path.endswith("/batch"):
        return judged(["stored"] * len(asked.json["readings"]))
    return Reply(
        201,
        {
            "device_id": 1,
            "device_name": "sensor",
            "timestamp": "2026-01-31T12:00:00.000Z",
            "stored_in_cassandra": False,
        },
    )


def judged(statuses: list[str], reason: str = "no") -> Reply:
    """The answer to a batch with these verdicts."""
    rows = [
        {"index": index, "status": status, **({"reason": reason} if status == "rejected" else {})}
        for index, status in enumerate(statuses)
    ]
    counts = {
        "stored": statuses.count("stored"),
        "duplicates": statuses.count("duplicate"),
        "rejected": statuses.count("rejected"),
    }
    return Reply(207 if counts["rejected"] else 201, {"results": rows, **counts})


def refusal(status: int, code: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": code, "message": "No."}, named)


@contextmanager
def middle(behind: str | None = None) -> Iterator[Middle]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            self.give(found.answer(asked))

        do_GET = do_POST = handle_any

        def give(self, reply: Reply | Cut) -> None:
            if isinstance(reply, Cut):
                self.wfile.write(b'HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{"device')
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    found = Middle(f"http://127.0.0.1:{server.server_port}", behind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
