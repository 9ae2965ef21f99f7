"""Server-Sent Events, as a client reads them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from django.test import Client

from iotflow.lib.live import hub
from tests.api import Api, Something


@dataclass
class Event:
    """One event, and the id that was the last when it came."""

    kind: str
    data: Any
    id: str


@dataclass
class Listener:
    """Reads a stream; `last_id` is what a browser would come back with."""

    url: str
    headers: dict[str, str]
    last_id: str = ""
    comments: list[str] = field(default_factory=list)
    status: int = 0

    def events(self, timeout: float = 30, **query: Any) -> Iterator[Event]:
        """The events of one connection, until either end ends it."""
        headers = {**self.headers, **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        with httpx.stream(
            "GET", self.url, headers=headers, params=query, timeout=timeout, trust_env=False
        ) as answer:
            self.status = answer.status_code
            if self.status == 200:
                assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                yield from self.parsed(answer.iter_lines())

    def parsed(self, lines: Iterator[str]) -> Iterator[Event]:
        kind, data = "message", ""
        for line in lines:
            if line == "":
                if data:
                    yield Event(kind, json.loads(data), self.last_id)
                kind, data = "message", ""
            elif line.startswith(":"):
                self.comments.append(line[1:].strip())
            else:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value


class Listening:
    """A listener in a thread of its own, with what it was told so far."""

    def __init__(self, path: str, api: Api, last_id: str = "", **query: Any) -> None:
        self._reader = Listener("", {}, last_id)
        self.events: list[Event] = []
        self.status = 0
        self._path = f"/api/v1{path}"
        self._api = api
        self._query = {"seconds": 30, **query}
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Listening":
        self._thread.start()
        self.until(lambda: bool(self._reader.last_id or self.status >= 400))
        return self

    def __exit__(self, *_: Any) -> None:
        ours = hub._hub
        if ours is not None:
            ours.loop.call_soon_threadsafe(ours.end, "restart")
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        headers = self._api._headers()
        if self._reader.last_id:
            headers["HTTP_LAST_EVENT_ID"] = self._reader.last_id
        answer = Client().get(self._path, self._query, **headers)
        self.status = answer.status_code
        if answer.status_code == 200:
            for event in self._reader.parsed(lines(answer)):
                self.events.append(event)
        answer.close()

    @property
    def last_id(self) -> str:
        return self._reader.last_id

    def told(self) -> list[float]:
        return [one.data["measurements"]["n"] for one in self.events if one.kind == "reading"]

    def kinds(self) -> list[str]:
        return [one.kind for one in self.events]

    def until(self, holds: Callable[[], bool], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"it did not come: {self.events}"
            time.sleep(0.02)


def lines(answer: Any) -> Iterator[str]:
    rest = ""
    for chunk in answer.streaming_content:
        rest += chunk.decode()
        *whole, rest = rest.split("\n")
        yield from whole


def once(path: str, api: Api, last_id: str) -> list[Event]:
    """What one who comes back with this id is told at once."""
    headers = {**api._headers(), "HTTP_LAST_EVENT_ID": last_id}
    answer = Client().get(f"/api/v1{path}", {"seconds": 0}, **headers)
    assert answer.status_code == 200
    return list(Listener("", {}).parsed(lines(answer)))


def numbers(events: list[Event]) -> list[float]:
    return [one.data["measurements"]["n"] for one in events if one.kind == "reading"]


def submit(sensor: Something, *values: float, at: str | None = None) -> None:
    for value in values:
        body: dict[str, Any] = {"data": {"n": value}}
        if at is not None:
            body["timestamp"] = at
        assert sensor.api.post("/telemetry", body).status == 201
