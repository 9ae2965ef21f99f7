"""`make bench`: everything measured in one run, in interleaved rounds."""

import argparse
import json
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from time import monotonic
from typing import Any

from tests.bench import figures, filling, ground, population, servers, wrk
from tests.bench.cases import Case, has_history, has_latest, is_anything
from tests.bench.ledger import Ledger
from tests.bench.servers import Server
from tests.bench.wrk import Figures

DAY_MS = 86_400_000
SLOT_MS = 300_000  # of event time that a run of writes has for itself
SLOTS_MS = 6 * 3_600_000  # how far before now they begin


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Size:
    """How much a run does."""

    rounds: int
    seconds: int
    warmup: int
    history: int  # readings of a day, of each device that is read


FULL = Size(rounds=5, seconds=5, warmup=3, history=1440)
QUICK = Size(rounds=3, seconds=3, warmup=1, history=288)
WRITERS, READERS = 200, 100


class Run:
    """One run, from empty databases to its figures."""

    def __init__(self, asked: argparse.Namespace, variables: dict[str, str]) -> None:
        self.asked = asked
        self.size = QUICK if asked.quick else FULL
        self.variables = variables
        self.ledger = Ledger()
        self.rounds: dict[str, list[Figures]] = defaultdict(list)
        self.alone: dict[str, list[float]] = defaultdict(list)  # of processes by themselves
        self.people = population.people()
        self.writers = population.devices(self.people.owner_id, "writer", WRITERS)
        self.readers = population.devices(self.people.owner_id, "reader", READERS)
        self._now = filling_end()
        self._slot = self._now - SLOTS_MS

    def fill(self) -> None:
        step = DAY_MS // self.size.history
        histories = [
            filling.History(
                device.id, self.people.owner_id, self.size.history, step, self._now - 60_000
            )
            for device in self.readers
        ]
        rate = filling.fill(
            histories, self.variables, "A day's history of each device that is read"
        )
        say(f"  {rate:,.0f} readings/s")

    def cases(self) -> list[Case]:
        writers, readers = self.writers, self.readers
        latest = [device.target("telemetry/{id}/latest") for device in readers]
        history = [device.target("telemetry/{id}?limit=100") for device in readers]
        submit = [device.target("telemetry") for device in writers]
        return [
            Case("floor", "get", [wrk.Target("/api/v1/bench/floor")], is_anything),
            Case("submit", "submit", submit, is_anything, readings=1),
            Case("latest cached", "get", latest, has_latest),
            Case("latest uncached", "get", latest, has_latest, uncached=True),
            Case("history", "get", history, has_history),
        ]

    def measure(self) -> None:
        """Every case in every round, so that what the machine does meanwhile meets them all."""
        variables, workers, threads = self.variables, self.asked.workers, self.asked.threads
        with ExitStack() as stack:
            main = stack.enter_context(servers.running("server", variables, workers, threads))
            without = {**variables, "BENCH_LATEST_SECONDS": "0", "REDIS_PREFIX": f"{ground.NAME}_2"}
            second = stack.enter_context(servers.running("second", without, workers, threads))
            chosen = [case for case in self.cases() if self._wanted(case.name)]
            for case in chosen:
                server = second if case.uncached else main
                case.check(server.url)
                self._load(case, server, self.size.warmup)
            for number in range(1, self.size.rounds + 1):
                say(f"Round {number} of {self.size.rounds}")
                for case in chosen:
                    found = self._load(case, second if case.uncached else main, self.size.seconds)
                    self.rounds[case.name].append(found)
                    say(line(case.name, found))

    def _wanted(self, name: str) -> bool:
        only = self.asked.only
        return not only or name == "floor" or any(part in name for part in only.split(","))

    def _load(self, case: Case, server: Server, seconds: float) -> Figures:
        targets, taken = ground.VAR / "targets", ground.VAR / "taken"
        wrk.write_targets(targets, case.targets)
        slot = self._next_slot()
        spent, busy, begun = server.cpu_seconds(), servers.busy_seconds(), monotonic()
        found = wrk.run(
            server.url,
            case.kind,
            targets,
            seconds=seconds,
            connections=self.asked.connections,
            slot=slot,
            taken=taken if case.readings else None,
        )
        spent = server.cpu_seconds() - spent
        busy = (servers.busy_seconds() - busy) / (monotonic() - begun) / servers.cores()
        if case.readings:
            self.ledger.enter(case.kind, taken, slot, case.devices)
        return replace(found, server_us=1e6 * spent / max(found.requests, 1), busy=busy)

    def _next_slot(self) -> int:
        self._slot += SLOT_MS
        return self._slot

    def result(self) -> dict[str, Any]:
        say("Looking for what was acknowledged …")
        settled = self.ledger.settle()
        readings = {case.name: case.readings for case in self.cases()}
        cases = {
            name: figures.summary(rounds, readings[name]) for name, rounds in self.rounds.items()
        }
        limit = {name: median(rates) for name, rates in self.alone.items()}
        return {
            "cases": cases,
            "limit": limit,
            "ratios": figures.ratios(cases, limit),
            "readings": settled,
            "lost": settled["lost"],
        }


def filling_end() -> int:
    from iotflow.lib.timeparse import now_ms

    return now_ms()


def line(name: str, found: Figures) -> str:
    errors = f", {found.errors} errors {found.statuses}" if found.errors else ""
    return (
        f"  {name:<16} {found.per_second:>8,.0f}/s   p50 {found.p50:6.1f}  p95 {found.p95:6.1f}"
        f"  p99 {found.p99:6.1f} ms   server {found.server_us:6.0f} µs/request, "
        f"wrk {found.load_us:3.0f}, machine {found.busy:4.0%} busy{errors}"
    )


def run(asked: argparse.Namespace) -> None:
    begun = monotonic()
    version = wrk.provide()
    with ground.made() as variables:
        bench = Run(asked, variables)
        bench.fill()
        bench.measure()
        found = bench.result()
    from tests.bench import machine

    path = ground.VAR / "latest.json"
    found = {**machine.facts(asked, version), **found}
    path.write_text(json.dumps(found, indent=1) + "\n")
    say("\nMedians")
    for name, case in found["cases"].items():
        say(
            f"  {name:<16} {case['per_second']:>8,.0f}/s  server {case['server_us']:.0f} µs/request"
        )
    for name, ratio in found["ratios"].items():
        say(f"  {name:<24} {ratio:.3f}")
    say(f"  {found['readings']}")
    say(f"{path.relative_to(ground.ROOT)} written, after {monotonic() - begun:.0f} s")
