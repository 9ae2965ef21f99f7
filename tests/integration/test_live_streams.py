"""Live streams of real servers: readers that are killed, slow, many; stores and servers too."""

import asyncio
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from iotflow.lib.child import Child, answers, free_port, streams
from tests.api import Something
from tests.listening import Event, Listener
from tests.server import real_environment, running
from tests.services import eventually, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
READINGS, BATCH = 10_000, 50
READERS, EACH = 500, 200
MIB = 1 << 20


@dataclass
class Servers:
    """One that takes readings, and one that tells of them."""

    web: str
    log: Path
    environment: dict[str, str]
    port: int
    child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listener(self, sensor: Something) -> Listener:
        return Listener(f"{self.url}/api/v1/telemetry/{sensor.id}/stream", key_of(sensor))

    def restart(self) -> None:
        """Killed, and started anew."""
        for pid in family(self.child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.stop()
        self.child = begun(self.port, self.log, self.environment)

    def memory(self) -> int:
        """Bytes that its processes hold."""
        return sum(resident(pid) for pid in family(self.child.pid))

    def counted(self, name: str) -> float:
        found = re.search(
            rf"^{re.escape(name)} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.M
        )
        return float(found[1]) if found else 0


def key_of(sensor: Something) -> dict[str, str]:
    return {"X-API-Key": sensor.key}


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(one for child in own for one in family(child))]


def resident(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def begun(port: int, log: Path, environment: dict[str, str]) -> Child:
    child = streams(port, log, environment)
    assert answers(f"http://127.0.0.1:{port}", child, 60, "/health/ready"), child.obituary()
    return child


@pytest.fixture
def servers(transactional_db: None, tmp_path: Path) -> Iterator[Servers]:
    environment = real_environment(
        RATE_DEVICE_MESSAGES="",
        RATE_DEVICE_READINGS="",
        RATE_DEVICE_REQUESTS="",
        STREAMS_EACH="1000",
        STREAM_KEPT="500",
        STREAM_CHECK_SECONDS="1",
        STREAM_SEND_SECONDS="5",
        METRICS_LOOPBACK="1",
        VAR_DIR=str(tmp_path / "web"),
    )
    own = {**environment, "VAR_DIR": str(tmp_path / "streams")}
    with running(tmp_path / "web.log", environment, "/health/ready") as web:
        port = free_port()
        found = Servers(
            web, tmp_path / "streams.log", own, port, begun(port, tmp_path / "s.log", own)
        )
        try:
            yield found
        finally:
            found.child.stop()


class Writer:
    """Submits numbered readings, BATCH at a time, each stored when `post` returns."""

    def __init__(self, servers: Servers, sensor: Something) -> None:
        self._client = httpx.Client(
            base_url=f"{servers.web}/api/v1", headers=key_of(sensor), timeout=20, trust_env=False
        )
        self.written = 0

    def post(self, count: int = BATCH, **more: Any) -> None:
        first = self.written
        readings = [{"data": {"n": n, **more}} for n in range(first, first + count)]
        answer = self._client.post("/telemetry/batch", json={"readings": readings})
        assert answer.status_code == 201, answer.text
        self.written += count


def told(events: Iterator[Event], most: int) -> Iterator[int]:
    """The numbers of readings, `most` of them, then the connection is broken off."""
    for event in events:
        if event.kind == "reading":
            yield event.data["measurements"]["n"]
            most -= 1
            if most == 0:
                return


def all_told(listener: Listener, last: int, breaks: Callable[[], int]) -> list[int]:
    """What a listener hears up to the last, who is killed after so many as `breaks` says."""
    found: list[int] = []
    deadline = time.monotonic() + 120
    while last not in found[-BATCH:]:
        assert time.monotonic() < deadline, f"{len(found)} and not the last of {last + 1}"
        with suppress(httpx.TransportError):
            found += told(listener.events(seconds=5), breaks())
        time.sleep(random.choice((0, 0.05, 0.6)))
    return found


def test_a_killed_reader_who_comes_back_misses_none_and_sees_none_twice(servers, sensor):
    writer, listener = Writer(servers, sensor), servers.listener(sensor)
    writer.post(1)
    next(iter(told(opened := listener.events(seconds=1), 1)), None)
    opened.close()

    def write() -> None:
        while writer.written < READINGS + 1:
            writer.post()
            time.sleep(random.choice((0, 0, 0.02)))

    writing = threading.Thread(target=write)
    writing.start()
    found = all_told(listener, READINGS, lambda: random.randint(1, 900))
    writing.join()
    assert found == list(range(1, READINGS + 1))
    rest = list(told(listener.events(seconds=2), 1))
    assert rest == [], "and nothing after"


def test_a_killed_server_of_streams_loses_nothing(servers, sensor):
    writer, listener = Writer(servers, sensor), servers.listener(sensor)
    found: list[int] = []
    reading = threading.Thread(
        target=lambda: found.extend(all_told(listener, 2999, lambda: 100_000))
    )
    reading.start()
    eventually(lambda: bool(listener.last_id))
    for _ in range(3):
        for _ in range(20):
            writer.post()
        servers.restart()
    reading.join(120)
    assert found == list(range(3000))


def test_redis_killed_and_empty_again_loses_nothing(servers, sensor):
    writer, listener = Writer(servers, sensor), servers.listener(sensor)
    found: list[int] = []
    reading = threading.Thread(
        target=lambda: found.extend(all_told(listener, 1499, lambda: 100_000))
    )
    reading.start()
    eventually(lambda: bool(listener.last_id))
    for _ in range(10):
        writer.post()
    with killed("redis"):
        for _ in range(10):
            writer.post()
        time.sleep(1)
    for _ in range(10):
        writer.post()
        time.sleep(0.1)
    reading.join(120)
    assert sorted(found) == list(range(1500))


def test_500_readers_of_one_device_in_bounded_memory(servers, sensor):
    writer = Writer(servers, sensor)
    place = urlsplit(servers.url)
    request = (
        f"GET /api/v1/telemetry/{sensor.id}/stream HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"X-API-Key: {sensor.key}\r\n\r\n"
    ).encode()
    opened = asyncio.Event()
    number = re.compile(rb'"n":(\d+)')
    begun_ones = 0

    async def read() -> list[int]:
        nonlocal begun_ones
        reader, sender = await asyncio.open_connection(place.hostname, place.port)
        sender.write(request)
        found: list[int] = []
        try:
            while len(found) < EACH:
                line = await asyncio.wait_for(reader.readline(), 60)
                if line.startswith(b"retry"):
                    begun_ones += 1
                    if begun_ones == READERS:
                        opened.set()
                if line.startswith(b"data: ") and (one := number.search(line)):
                    found.append(int(one[1]))
        finally:
            sender.close()
        return found

    async def everybody() -> list[list[int]]:
        tasks = [asyncio.create_task(read()) for _ in range(READERS)]
        await asyncio.wait_for(opened.wait(), 120)
        for _ in range(EACH // BATCH):
            await asyncio.to_thread(writer.post)
        return await asyncio.gather(*tasks)

    before = servers.memory()
    found = asyncio.run(everybody())
    assert found == [list(range(EACH))] * READERS
    assert servers.memory() - before < 150 * MIB


def test_who_does_not_read_is_dropped_and_costs_no_memory(servers, sensor):
    writer = Writer(servers, sensor)
    place = urlsplit(servers.url)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect((place.hostname, place.port))
        silent.sendall(
            f"GET /api/v1/telemetry/{sensor.id}/stream HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"X-API-Key: {sensor.key}\r\n\r\n".encode()
        )
        assert b"200 OK" in silent.recv(1024)
        before = servers.memory()

        def is_dropped() -> bool:
            for _ in range(5):
                writer.post(200, text="x" * 900)
            return servers.counted('iotflow_stream_ends_total{reason="slow"}') == 1

        eventually(is_dropped, 60)
        assert servers.memory() - before < 60 * MIB
    eventually(lambda: servers.counted("iotflow_streams") == 0)


def test_a_server_that_is_told_to_end_tells_its_readers(servers, sensor):
    listener = servers.listener(sensor)
    found: list[Event] = []
    reading = threading.Thread(target=lambda: found.extend(listener.events()))
    reading.start()
    eventually(lambda: bool(listener.last_id))
    started = time.monotonic()
    servers.child._process.terminate()
    assert servers.child._process.wait(20) == 0
    reading.join(10)
    assert [event.data for event in found] == [{"reason": "restart"}]
    assert time.monotonic() - started < 8
