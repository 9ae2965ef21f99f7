"""What is asked of a device with a long history: aggregates, exports."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx

from tests.bench.failure import Failure
from tests.bench.filling import History
from tests.bench.population import API, Somebody
from tests.bench.servers import Server

DAY_MS = 86_400_000
DAYS = 30
PIECES = 30  # that a history is written in, by several processes at once
SECONDS = 300

Rows = list[dict[str, Any]]


def histories(device_id: int, owner_id: int, count: int, end: int) -> list[History]:
    """`count` readings evenly over the DAYS before `end`, in pieces."""
    step, each = DAYS * DAY_MS // count, count // PIECES
    return [
        History(device_id, owner_id, each, step, end - piece * each * step)
        for piece in range(PIECES)
    ]


@dataclass(frozen=True)
class Aggregate:
    """The hourly means of the last days of a device's first measurement."""

    device: Somebody
    since: str

    def ask(self, url: str) -> Rows:
        """All windows, in as many requests as it takes."""
        rows: Rows = []
        start = self.since
        while True:
            answer = self._part(url, start)
            rows += answer["data"]
            if not answer["truncated"]:
                return rows
            start = answer["next_start_time"]

    def _part(self, url: str, start: str) -> dict[str, Any]:
        answer = httpx.get(
            f"{url}{API}/telemetry/{self.device.id}/aggregated",
            params={"field": "temperature", "window": "1h", "start_time": start},
            headers={"X-API-Key": self.device.key},
            timeout=SECONDS,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise Failure(f"aggregate answers {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found


def export(
    device: Somebody,
    since: str,
    form: str,
    start: Callable[[], Any],
) -> dict[str, Any]:
    """One export by a server that has just been started: its seconds and its peak memory."""
    with start() as server:
        assert isinstance(server, Server)
        before = server.peak_bytes()
        begun, size = perf_counter(), 0
        with httpx.stream(
            "GET",
            f"{server.url}{API}/telemetry/{device.id}/export",
            params={"start_time": since, "format": form},
            headers={"X-API-Key": device.key},
            timeout=SECONDS,
            trust_env=False,
        ) as answer:
            if answer.status_code != 200:
                raise Failure(f"export answers {answer.status_code}: {answer.read()[:500]!r}")
            lines = 0
            for chunk in answer.iter_raw():
                size += len(chunk)
                lines += chunk.count(b"\n")
        seconds = perf_counter() - begun
        return {
            "format": form,
            "lines": lines,
            "bytes": size,
            "seconds": round(seconds, 2),
            "idle_mib": round(before / 2**20, 1),
            "peak_mib": round(server.peak_bytes() / 2**20, 1),
        }
