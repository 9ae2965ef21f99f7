"""`make bench`: everything measured in one run, in interleaved rounds."""

import argparse
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import monotonic
from typing import Any

import httpx

from tests.bench import (
    cases,
    companion,
    figures,
    filling,
    ground,
    long,
    machine,
    population,
    report,
    servers,
    wrk,
)
from tests.bench.cases import Case
from tests.bench.failure import Failure
from tests.bench.loads import Bench, line, one_by_one, say
from tests.bench.population import API, Somebody
from tests.bench.servers import Server
from tests.bench.wrk import Figures

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Size:
    """How much a run does."""

    rounds: int
    seconds: int  # of each load
    warmup: int
    history: int  # readings of a day, of each device that is read
    long: int  # readings of the device with a long history
    exports: tuple[int, int]
    raw: int  # rounds of aggregates from the readings themselves


FULL = Size(5, 5, 4, history=1440, long=1_000_000, exports=(10_000, 1_000_000), raw=3)
QUICK = Size(3, 2, 2, history=288, long=100_000, exports=(10_000, 100_000), raw=1)
WRITERS, READERS, RULES = 200, 100, 1000
AGGREGATES = {"aggregate 24 h": "-24h", "aggregate 30 d": "-30d"}
FROM_RAW = "aggregate 30 d from raw"
WARM_UPS, FLOWING_MS = 3, 1000


class Run(Bench):
    """One run, from empty databases to its figures."""

    def __init__(self, asked: argparse.Namespace, variables: dict[str, str]) -> None:
        super().__init__(asked, variables, WRITERS, READERS)
        self.size = QUICK if asked.quick else FULL
        self.ruled = population.devices(self.people.owner_id, "ruled", WRITERS)
        population.rules(self.ruled, self.readers, RULES)
        self.rounds: dict[str, list[Figures]] = defaultdict(list)
        self.alone: dict[str, list[float]] = defaultdict(list)  # what companions measured
        self.exports: list[dict[str, Any]] = []
        self.caches: dict[str, Any] = {}

    def fill(self) -> None:
        """A day of every device that is read, and DAYS of one that has many readings."""
        owner, day = self.people.owner_id, self.size.history
        end = self.now - 60_000
        histories = [
            filling.History(one.id, owner, day, DAY_MS // day, end) for one in self.readers[1:]
        ]
        histories += long.histories(self.long.id, owner, self.size.long, end)
        rate = filling.fill(histories, self.variables, "Readings to be read")
        say(f"  {rate:,.0f} readings/s")

    @property
    def long(self) -> Somebody:
        """The device that has many readings, and is asked for nothing else."""
        return self.readers[0]

    def cases(self) -> list[Case]:
        readers = self.readers[1:]
        return [
            cases.floor(),
            cases.submit(self.writers),
            cases.submit_ruled(self.ruled),
            cases.latest(readers),
            cases.latest(readers, "latest uncached"),
            cases.history(readers),
            cases.batch(self.writers),
            cases.bulk(self.writers, self.people),
        ]

    def measure(self) -> None:
        """Every case in every round, so that what the machine does meanwhile meets them all."""
        with ExitStack() as stack:
            main = stack.enter_context(self._server("server"))
            second = stack.enter_context(
                self._server("second", BENCH_LATEST_SECONDS="0", REDIS_PREFIX=f"{ground.NAME}_2")
            )
            limit = stack.enter_context(self._limit())
            keys = stack.enter_context(self._keycheck())
            if self._wanted("aggregate"):
                self._aggregate_raw(main)
            chosen = [case for case in self.cases() if self._wanted(case.name)]
            for case in chosen:
                server = second if case.uncached else main
                case.check(server.url)
                self._warm_up(case, server)
            for number in range(1, self.size.rounds + 1):
                say(f"Round {number} of {self.size.rounds}")
                for case in chosen:
                    server = second if case.uncached else main
                    self._note(case.name, self.load(case, server, self.size.seconds))
                self._aggregates(main)
                for name, ask in (
                    ("driver single", partial(limit.ask, "single")),
                    ("driver batch", partial(limit.ask, "batch")),
                    ("key check", keys.ask),
                ):
                    if self._wanted(name):
                        self.alone[name].append(ask())
                        say(f"  {name:<24} {self.alone[name][-1]:>9,.0f}/s")
            self.caches = self._cache_hits(main)

    def _warm_up(self, case: Case, server: Server) -> None:
        """Until it flows: the first requests of a server wait for its connections to PostgreSQL."""
        for _ in range(WARM_UPS):
            found = self.load(case, server, self.size.warmup)
            say(line(f"({case.name})", found))
            if 0 < found.p95 < FLOWING_MS:
                return

    def _server(self, name: str, workers: int = 0, **more: str) -> Any:
        workers = workers or self.asked.workers
        return servers.running(name, {**self.variables, **more}, workers, self.asked.threads)

    def _limit(self) -> Any:
        seconds = ["--seconds", str(self.size.seconds)]
        return companion.beside("limit", seconds, self.variables)

    def _keycheck(self) -> Any:
        path = ground.VAR / "keys"
        wrk.write_targets(path, [one.target("") for one in self.writers])
        return companion.beside("keycheck", [str(path), "1"], self.variables)

    def _wanted(self, name: str) -> bool:
        only = self.asked.only
        return not only or name == "floor" or any(part in name for part in only.split(","))

    def _note(self, name: str, found: Figures) -> None:
        self.rounds[name].append(found)
        say(line(name, found))

    # --- a device with a long history ------------------------------------------------------------
    def _aggregate_raw(self, server: Server) -> None:
        """30 days from raw readings, which is all there is so far; then let them be rolled up."""
        ask = long.Aggregate(self.long, "-30d").ask
        for _ in range(self.size.raw):
            self._note(FROM_RAW, one_by_one(server, ask, 1))
        self._roll_up()

    def _roll_up(self) -> None:
        from django.core.management import call_command, get_commands

        if "rollup" in get_commands():
            call_command("rollup")

    def _aggregates(self, server: Server) -> None:
        for name, since in AGGREGATES.items():
            if self._wanted(name):
                ask = long.Aggregate(self.long, since).ask
                self._note(name, one_by_one(server, ask, self.size.seconds / 2))

    def export(self) -> None:
        """Each format and size from a server of one process that did nothing before."""
        from telemetry.parameters import FORMATS

        if not self._wanted("export"):
            return
        for form in FORMATS[:1] if self.asked.quick else FORMATS:
            for readings in self.size.exports:
                share = readings / self.size.long
                since = f"-{round(share * long.DAYS * 86_400)}s"
                found = long.export(self.long, since, form, partial(self._server, "export", 1))
                self.exports.append({"readings": readings, **found})
                say(
                    f"  export of {readings:>9,} as {form:<8} {found['seconds']:>6.1f} s, "
                    f"{readings / found['seconds']:>8,.0f} readings/s, "
                    f"peak {found['peak_mib']:.0f} MiB ({found['idle_mib']:.0f} before)"
                )

    # --- what came of it -------------------------------------------------------------------------
    def _cache_hits(self, server: Server) -> dict[str, Any]:
        """Of the first server's processes, which send their counts with what they commit."""
        self.load(cases.submit(self.writers), server, 1)
        answer = httpx.get(
            f"{server.url}{API}/admin/stats",
            headers={"Authorization": f"Bearer {self.people.staff_token}"},
            timeout=30,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise Failure(f"stats answer {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()["caches"]
        return found

    def result(self) -> dict[str, Any]:
        say("Looking for what was acknowledged …")
        settled = self.ledger.settle()
        readings = {case.name: case.readings for case in self.cases()}
        measured = {
            name: figures.summary(rounds, readings.get(name, 0))
            for name, rounds in self.rounds.items()
        }
        alone = {
            name: {"per_second": round(median(rates), 1), "rounds": rates}
            for name, rates in self.alone.items()
        }
        return {
            "cases": measured,
            "alone": alone,
            "exports": self.exports,
            "caches": self.caches,
            "long": self.size.long,
            "ratios": figures.ratios(measured, alone, self.exports),
            "readings": settled,
            "lost": settled["lost"],
        }


def run(asked: argparse.Namespace) -> None:
    begun, version = monotonic(), wrk.provide()
    with ground.made() as variables:
        bench = Run(asked, variables)
        bench.fill()
        bench.measure()
        bench.export()
        found = {**machine.facts(asked, version), **bench.result()}
    found["seconds"] = round(monotonic() - begun)
    path = ground.VAR / ("part.json" if asked.only else "latest.json")
    path.write_text(report.as_json(found))
    say(f"\n{report.text(found)}\nWritten to {path.relative_to(ground.ROOT)}")
    if not asked.quick and not asked.only:
        say(f"Written to {report.publish(found)}")
