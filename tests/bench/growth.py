"""`make bench-growth`: the same requests while more and more is stored."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from time import monotonic, sleep
from typing import Any

from tests.bench import cases, figures, filling, ground, machine, report, servers, wrk
from tests.bench.cases import Case
from tests.bench.filling import History
from tests.bench.ledger import Ledger
from tests.bench.loads import Bench, line, say
from tests.bench.servers import Server
from tests.bench.wrk import Figures

SIZES = [1000, 100_000, 10_000_000]
QUICK_SIZES = [1000, 10_000, 100_000]
WRITERS, READERS = 100, 10
DAY, DAY_STEP = 100, 12 * 60_000  # readings of the last day, of each device that is read
LONG_SHARE, LONG_STEP = 10, 30_000  # a tenth of everything is the past of one of them
OTHERS = 1_000_000_001  # the first of those that hold the rest; they are in Cassandra only
OTHER, OTHER_STEP = 10_000, 15 * 60_000
PIECE = 10_000
DAY_MS = 86_400_000
TABLES = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
SETTLED_SECONDS = 600


class Growth(Bench):
    def __init__(self, asked: argparse.Namespace, variables: dict[str, str]) -> None:
        super().__init__(asked, variables, WRITERS, READERS)
        self.rounds, self.seconds, self.warmup = (3, 2, 1) if asked.quick else (7, 3, 3)

    @property
    def long(self) -> int:
        return self.readers[0].id

    def at(self, size: int) -> dict[str, Any]:
        """What the requests cost with so many readings stored; submissions come last, on top."""
        self.ledger = Ledger()
        truncate()
        begun = monotonic()
        filling.fill(self.histories(size), self.variables, f"{size:,} readings")
        seconds = round(monotonic() - begun)
        settle()
        asked = self.asked
        with servers.running("growth", self.variables, asked.workers, asked.threads) as server:
            found = self._in_rounds(server, self.reads())
            found |= self._in_rounds(server, [cases.submit(self.writers)])
        settled = self.ledger.settle()
        return {
            "readings": size,
            "load_seconds": seconds,
            "cases": found,
            "submitted": settled,
            "lost": settled["lost"],
        }

    def histories(self, size: int) -> list[History]:
        """So many readings: a day of the devices that are read, a long past, and the rest."""
        owner, end = self.people.owner_id, self.now - 60_000
        days = [History(one.id, owner, DAY, DAY_STEP, end) for one in self.readers]
        past = max(size // LONG_SHARE - DAY, 0)
        found = days + pieces(self.long, owner, past, LONG_STEP, end - DAY_MS)
        rest = size - sum(history.count for history in found)
        for number, left in enumerate(range(rest, 0, -OTHER)):
            found.append(History(OTHERS + number, owner, min(left, OTHER), OTHER_STEP, end))
        return found

    def reads(self) -> list[Case]:
        few, long = self.readers[1:], self.readers[:1]
        return [
            cases.latest(few),
            cases.history(few),
            cases.history(long, "history, long"),
            cases.aggregate(few, "aggregate 24 h"),
            cases.aggregate(long, "aggregate 24 h, long"),
        ]

    def _in_rounds(self, server: Server, chosen: Sequence[Case]) -> dict[str, dict[str, Any]]:
        """What each case measured, and the floor that took turns with them."""
        found: dict[str, list[Figures]] = defaultdict(list)
        taking_turns = [cases.floor(), *chosen]
        for case in taking_turns:
            case.check(server.url)
            self.load(case, server, self.warmup)
        for number in range(1, self.rounds + 1):
            say(f"Round {number} of {self.rounds}")
            for case in taking_turns:
                found[case.name].append(self.load(case, server, self.seconds))
                say(line(case.name, found[case.name][-1]))
        summaries = {name: figures.summary(rounds) for name, rounds in found.items()}
        return {
            name: {**case, "over_floor": figures.ratio(case, summaries["floor"])}
            for name, case in summaries.items()
        }


def pieces(device_id: int, owner_id: int, count: int, step: int, end: int) -> list[History]:
    """`count` readings of one device up to `end`, in pieces that several processes can write."""
    return [
        History(device_id, owner_id, min(left, PIECE), step, end - (count - left) * step)
        for left in range(count, 0, -PIECE)
    ]


def truncate() -> None:
    """Empty the tables of telemetry."""
    from telemetry.stores.cql import Cql

    session = Cql({}).session()
    for row in session.execute(TABLES, [ground.NAME], timeout=30):
        [name] = row.values() if isinstance(row, dict) else row
        session.execute(f"TRUNCATE {ground.NAME}.{name}", timeout=120)


def settle() -> None:
    """Wait until Cassandra has put in order what was loaded: a store is seldom just filled."""
    from telemetry.stores.cql import PROFILE, Cql

    session, begun = Cql({}).session(), monotonic()
    while monotonic() - begun < SETTLED_SECONDS:
        tasks = session.execute(
            "SELECT kind FROM system_views.sstable_tasks", timeout=30, execution_profile=PROFILE
        )
        if not list(tasks):
            return
        sleep(2)
    say(f"Cassandra still puts in order what was loaded, after {SETTLED_SECONDS} seconds.")


def growth(asked: argparse.Namespace) -> None:
    begun, version = monotonic(), wrk.provide()
    sizes = sorted(asked.sizes or (QUICK_SIZES if asked.quick else SIZES))
    with ground.made() as variables:
        bench = Growth(asked, variables)
        # The smallest last: Cassandra has compiled itself by then, and it is measured minutes
        # after the largest, on the machine as it was for that.
        measured = [bench.at(size) for size in (*sizes[1:], sizes[0])]
        measured.sort(key=itemgetter("readings"))
    found = {
        **machine.facts(asked, version),
        "sizes": measured,
        "dearer": figures.dearer(measured, "per_second"),
        "dearer_over_floor": figures.dearer(measured, "over_floor"),
        "lost": sum(size["lost"] for size in measured),
        "seconds": round(monotonic() - begun),
    }
    path = ground.VAR / "growth.json"
    path.write_text(report.as_json(found))
    say(f"\n{report.growth_text(found)}\nWritten to {path.relative_to(ground.ROOT)}")
    if not asked.quick and not asked.sizes:
        say(f"Written to {report.publish(growth=found)}")
