"""Measuring: one load against one server, with what it cost and what it stored."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, perf_counter, sleep

from tests.bench import ground, population, servers, wrk
from tests.bench.cases import Case
from tests.bench.ledger import BATCH, STEP, Ledger
from tests.bench.servers import Server
from tests.bench.wrk import Figures

REST_SECONDS = 5
PAST_MS = 120_000  # how far before now the times of readings begin: none of them is late


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Bench:
    """Whoever is there, and the ledger of everything that is written."""

    def __init__(
        self, asked: argparse.Namespace, variables: dict[str, str], writers: int, readers: int
    ) -> None:
        from iotflow.lib.timeparse import now_ms

        self.asked = asked
        self.variables = variables
        self.ledger = Ledger()
        self.people = population.people()
        self.writers = population.devices(self.people.owner_id, "writer", writers)
        self.readers = population.devices(self.people.owner_id, "reader", readers)
        self.now = now_ms()
        self._free = self.now - PAST_MS

    def load(self, case: Case, server: Server, seconds: float) -> Figures:
        """Let wrk load the server; enter what was acknowledged.

        Each run has times of its own, so that no device has one twice.
        """
        from iotflow.lib.timeparse import now_ms

        targets, taken = ground.VAR / "targets", ground.VAR / "taken"
        wrk.write_targets(targets, case.targets)
        slot = max(self._free, now_ms() - PAST_MS)
        connections = case.connections or self.asked.connections
        meter = Meter(server)
        found = wrk.run(
            server.url,
            case.kind,
            targets,
            seconds=seconds,
            connections=connections,
            slot=slot,
            taken=taken if case.readings else None,
        )
        found = meter.read(found)
        rest(server)
        if case.readings:
            sent = found.requests + connections
            self._free = slot + sent + BATCH * STEP
            self.ledger.enter(case.kind, taken, slot, case.devices)
        return found


class Meter:
    """What the server's processes and the whole machine spend from its making to its reading."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begun = monotonic()
        self._spent, self._busy = server.cpu_seconds(), servers.busy_seconds()

    def read(self, figures: Figures) -> Figures:
        spent = self._server.cpu_seconds() - self._spent
        busy = servers.busy_seconds() - self._busy
        return replace(
            figures,
            server_us=1e6 * spent / max(figures.requests, 1),
            busy=busy / (monotonic() - self._begun) / servers.cores(),
        )


def rest(server: Server) -> None:
    """Wait until the server has done what wrk did not wait for, or the next case would pay."""
    for _ in range(REST_SECONDS * 5):
        spent = server.cpu_seconds()
        sleep(0.2)
        if server.cpu_seconds() - spent < 0.03:
            return


def one_by_one(server: Server, ask: Callable[[str], object], seconds: float) -> Figures:
    """The same question, one after another, for about so long; once in any case."""
    took: list[float] = []
    meter = Meter(server)
    while sum(took) < seconds:
        begun = perf_counter()
        ask(server.url)
        took.append(perf_counter() - begun)
    return meter.read(wrk.of_times(took))


def line(name: str, found: Figures) -> str:
    errors = f", {found.errors} errors {found.statuses}" if found.errors else ""
    return (
        f"  {name:<24} {found.per_second:>9,.1f}/s   p50 {found.p50:7.1f}  p95 {found.p95:7.1f}"
        f"  p99 {found.p99:7.1f} ms   server {found.server_us:7,.0f} µs/request, "
        f"wrk {found.load_us:4.0f}, machine {found.busy:4.0%} busy{errors}"
    )
