"""Half of what the server can take, for half an hour: does memory stay, is anything lost?

Devices submit and ask for their latest values and history at a steady pace, on the databases and
the server of the benchmark. Every few seconds the processes are looked at.
"""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import httpx

from tests.bench import cases, ground, population, servers, wrk
from tests.bench.cases import Case
from tests.bench.failure import Failure
from tests.bench.ledger import Ledger
from tests.bench.loads import PAST_MS, say
from tests.bench.servers import Server
from tests.bench.wrk import Figures
from tests.faults import report

WARM_SECONDS = 30.0  # at full load, by which the rate is measured
SAMPLE_SECONDS = 5.0
CONNECTIONS, READ_CONNECTIONS = 64, 8
READ_SHARE = 0.2  # for each kind of read, of the submissions
DEVICES = 200
GROWTH = 0.05
OUTBOX_SECONDS = 60


@dataclass
class Samples:
    """What was seen: by process its memory in MiB; the committers' queues; waiting events."""

    memory: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    queue: list[int] = field(default_factory=list)
    outbox: list[int] = field(default_factory=list)

    def take(self, server: Server) -> None:
        from events.models import Outbox

        for pid in servers.family(server.pid)[1:]:
            self.memory[pid].append(round(resident_mib(pid), 1))
        answer = httpx.get(f"{server.url}{cases.QUEUE}", trust_env=False, timeout=30)
        self.queue.append(answer.json()["queue"])
        self.outbox.append(Outbox.objects.count())

    def growth(self) -> float:
        """How much the mean of the last third is above that of the first, at the worst process."""
        return max(map(third_over_third, self.memory.values()))


def resident_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def third_over_third(values: Sequence[float]) -> float:
    """0.02 where the mean of the last third is two per cent above that of the first."""
    third = max(1, len(values) // 3)
    return round(mean(values[-third:]) / mean(values[:third]) - 1, 4)


class Soak:
    def __init__(self, variables: Mapping[str, str], server: Server) -> None:
        people = population.people()
        self.variables = variables
        self.server = server
        self.writers = population.devices(people.owner_id, "writer", DEVICES)
        self.ledger = Ledger()
        self.samples = Samples()
        self.found: dict[str, Figures] = {}

    def warm_up(self) -> float:
        """Submissions a second at full load; then every cache has what it will have."""
        self._load("warm", cases.submit(self.writers), WARM_SECONDS, CONNECTIONS, 0)
        rate = self.found["warm"].per_second
        self._load("warm reads", cases.history(self.writers), 5, READ_CONNECTIONS, 0)
        return rate

    def run(self, rate: float, seconds: float) -> None:
        """All loads at once, and a look at the processes now and then."""
        reads = {
            "latest": cases.latest(self.writers),
            "history": cases.history(self.writers),
        }
        # At half of the load an answer takes about a third of what it took.
        pace = max(0.001, CONNECTIONS / rate - self.found["warm"].p50 / 3000)
        loads = [("submit", cases.submit(self.writers), seconds, CONNECTIONS, pace)]
        loads += [
            (name, case, seconds, READ_CONNECTIONS, READ_CONNECTIONS / (READ_SHARE * rate))
            for name, case in reads.items()
        ]
        threads = [threading.Thread(target=self._load, args=load) for load in loads]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(SAMPLE_SECONDS)
            self.samples.take(self.server)
        for thread in threads:
            thread.join()

    def _load(self, name: str, case: Case, seconds: float, connections: int, pace: float) -> None:
        """One wrk; a connection begins a request every `pace` seconds, or as soon as it can."""
        from iotflow.lib.timeparse import now_ms

        targets, taken = ground.VAR / f"targets-{name}", ground.VAR / f"taken-{name}"
        wrk.write_targets(targets, case.targets)
        slot = now_ms() - PAST_MS
        try:
            self.found[name] = wrk.run(
                self.server.url,
                case.kind,
                targets,
                seconds=seconds,
                connections=connections,
                slot=slot,
                taken=taken if case.readings else None,
                pace_ms=round(1000 * pace),
            )
            if case.readings:
                self.ledger.enter(case.kind, taken, slot, case.devices)
        finally:
            targets.unlink(missing_ok=True)
            taken.unlink(missing_ok=True)

    def drained(self) -> bool:
        from events import outbox
        from events.models import Outbox

        deadline = time.monotonic() + OUTBOX_SECONDS
        while Outbox.objects.exists() and time.monotonic() < deadline:
            outbox.relay()
        return not Outbox.objects.exists()

    def result(self, rate: float, minutes: float) -> dict[str, Any]:
        settled = self.ledger.settle()
        memory = {
            f"process {number}": {
                "first_third_mib": round(mean(values[: max(1, len(values) // 3)]), 1),
                "last_third_mib": round(mean(values[-max(1, len(values) // 3) :]), 1),
            }
            for number, values in enumerate(self.samples.memory.values(), 1)
        }
        loads = {name: one for name, one in self.found.items() if not name.startswith("warm")}
        return {
            "minutes": minutes,
            "full_rate": round(rate, 1),
            "loads": {
                name: {
                    "requests": one.requests,
                    "per_second": round(one.per_second, 1),
                    "p50": round(one.p50, 1),
                    "p99": round(one.p99, 1),
                    "errors": one.errors,
                    "statuses": one.statuses,
                }
                for name, one in loads.items()
            },
            "errors": sum(one.errors for one in loads.values()),
            "memory": memory,
            "growth": self.samples.growth(),
            "samples": len(self.samples.queue),
            "queue_max": max(self.samples.queue),
            "outbox_max": max(self.samples.outbox),
            "outbox_left": not self.drained(),
            "readings": settled,
            "processes_changed": len(self.samples.memory) != servers.production()[0],
        }


def complaints(found: Mapping[str, Any]) -> list[str]:
    wrong = []
    if found["growth"] > GROWTH:
        wrong.append(f"memory grew by {found['growth']:.1%}")
    if found["errors"]:
        wrong.append(f"{found['errors']} errors")
    if found["readings"]["lost"]:
        wrong.append(f"{found['readings']['lost']} readings lost")
    if found["outbox_left"]:
        wrong.append("events are left in the outbox")
    if found["processes_changed"]:
        wrong.append("a process of the server ended")
    return wrong


def soak(minutes: float) -> None:
    version = wrk.provide()
    workers, threads = servers.production()
    with (
        ground.made() as variables,
        servers.running("soak", variables, workers, threads) as server,
    ):
        run = Soak(variables, server)
        rate = run.warm_up()
        say(f"{rate:,.0f} submissions/s at full load; half of it for {minutes:g} minutes …")
        run.run(rate / 2, 60 * minutes)
        found = {**report.facts(), "load generator": version, **run.result(rate, minutes)}
    say(report.soak_text(found))
    say(f"Written to {report.keep('soak', found, is_whole=minutes >= 30)}")
    if wrong := complaints(found):
        raise Failure("; ".join(wrong))
