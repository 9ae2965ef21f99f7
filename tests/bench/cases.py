"""What is measured: each case's load, and an answer that shows that it does what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tests.bench.failure import Failure
from tests.bench.population import People, Somebody
from tests.bench.wrk import Target

Answer = dict[str, Any]
MEASUREMENTS = 3
AT_ONCE = 16  # of messages with 100 readings each
FLOOR = "/api/v1/bench/floor"
QUEUE = "/api/v1/bench/queue"


@dataclass(frozen=True)
class Case:
    """A load by wrk; `readings` are those in each message, 0 where it only reads."""

    name: str
    kind: str
    targets: Sequence[Target]
    right: Callable[[Answer], bool] = bool
    readings: int = 0
    uncached: bool = False  # on the server that caches no latest values
    connections: int = 0  # where it needs fewer than the others

    @property
    def devices(self) -> list[int]:
        return [target.device_id for target in self.targets]

    def check(self, url: str) -> None:
        """Look at one answer: a load of errors would be fast.

        What is written is not looked at: all of it is looked for in the store afterwards.
        """
        if self.kind != "get":
            return
        target = self.targets[0]
        headers = {target.header: target.value} if target.header else {}
        answer = httpx.get(url + target.path, headers=headers, timeout=60, trust_env=False)
        if answer.status_code != 200 or not self.right(answer.json()):
            raise Failure(f"{self.name} answers {answer.status_code}: {answer.text[:500]}")


def floor() -> Case:
    return Case("floor", "get", [Target(FLOOR)])


def submit(writers: Sequence[Somebody]) -> Case:
    return Case("submit", "submit", [one.target("telemetry") for one in writers], readings=1)


def submit_ruled(ruled: Sequence[Somebody]) -> Case:
    """The same of devices for which three rules of alerts hold."""
    return replace(submit(ruled), name="submit with rules")


def latest(readers: Sequence[Somebody], name: str = "latest cached") -> Case:
    targets = [one.target("telemetry/{id}/latest") for one in readers]
    return Case(name, "get", targets, _has_latest, uncached=name == "latest uncached")


def history(readers: Sequence[Somebody], name: str = "history") -> Case:
    targets = [one.target("telemetry/{id}?limit=100") for one in readers]
    return Case(name, "get", targets, _has_history)


def batch(writers: Sequence[Somebody]) -> Case:
    targets = [one.target("telemetry/batch") for one in writers]
    return Case("batch", "batch", targets, readings=100, connections=AT_ONCE)


def bulk(writers: Sequence[Somebody], people: People) -> Case:
    targets = [people.target("telemetry/bulk", one.id) for one in writers]
    return Case("bulk", "bulk", targets, readings=100, connections=AT_ONCE)


def aggregate(readers: Sequence[Somebody], name: str) -> Case:
    path = "telemetry/{id}/aggregated?field=temperature&window=1h"
    return Case(name, "get", [one.target(path) for one in readers], _has_windows)


def _has_latest(answer: Answer) -> bool:
    return len(answer["latest_data"]) == MEASUREMENTS


def _has_history(answer: Answer) -> bool:
    return answer["count"] == 100 and all(
        len(row["measurements"]) == MEASUREMENTS for row in answer["data"]
    )


def _has_windows(answer: Answer) -> bool:
    return 16 <= len(answer["data"]) <= 25 and not answer["truncated"]
