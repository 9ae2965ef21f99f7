"""The limit: the bare driver writing the three tables, one process, as fast as it can.

The store's own statements in unlogged batches of the store's own grouping, on the session that
the application opens; but no HTTP, no checks, no Redis, no event log. Prints readings a second.
"""

import argparse
import sys
from collections import deque
from itertools import count
from time import monotonic
from typing import Any

MEASUREMENTS = 3
SINGLES = 50  # readings of as many devices in one batch, as the committer gathers them
BATCH = 100  # readings of one device, as in POST /telemetry/batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("single", "batch"))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--devices", required=True, help="ids, separated by commas")
    parser.add_argument("--owner", type=int, required=True)
    asked = parser.parse_args()

    import django

    django.setup()
    rate = Limit(asked).run()
    sys.stdout.write(f"{rate:.1f}\n")


class Limit:
    def __init__(self, asked: argparse.Namespace) -> None:
        from telemetry.stores.cassandra import STATEMENTS
        from telemetry.stores.cql import PROFILE, Cql

        self._asked = asked
        self._devices = [int(number) for number in asked.devices.split(",")]
        cql = Cql({name: STATEMENTS[name] for name in ("write", "write_feed", "write_latest")})
        self._session, self._profile = cql.session(), PROFILE
        self._bind = {name: prepared.bind for name, prepared in cql.prepared.items()}

    def run(self) -> float:
        """Write for so long, a warm-up first; readings a second."""
        size = SINGLES if self._asked.kind == "single" else BATCH
        flying: deque[Any] = deque()
        begun, until, written = 0.0, monotonic() + 1, 0
        for number in count():
            if monotonic() > until:
                if begun:
                    break
                while flying:
                    flying.popleft().result()
                begun, written = monotonic(), 0
                until = begun + self._asked.seconds
            for batch in self._batches(number):
                if len(flying) >= self._asked.in_flight:
                    flying.popleft().result()
                flying.append(
                    self._session.execute_async(batch, timeout=10, execution_profile=self._profile)
                )
            written += size
        while flying:
            flying.popleft().result()
        return written / (monotonic() - begun)

    def _batches(self, number: int) -> list[Any]:
        """One group: of many devices a reading each, or of one device a batch of readings."""
        from django.conf import settings

        from telemetry.stores.cassandra import packed

        if self._asked.kind == "single":
            first = self._asked.slot + number * SINGLES
            readings = [
                (self._devices[(number * SINGLES + at) % len(self._devices)], first + at)
                for at in range(SINGLES)
            ]
        else:
            device_id = self._devices[number % len(self._devices)]
            first = self._asked.slot + number * BATCH
            readings = [(device_id, first + at) for at in range(BATCH)]
        units = [unit for reading in readings for unit in self._units(*reading)]
        units += [self._latest(*item) for item in dict(readings).items()]
        return [self._together(batch) for batch in packed(units, settings.INGEST_GROUP_BYTES)]

    def _units(self, device_id: int, time: int) -> list[Any]:
        from cassandra.query import UNSET_VALUE

        from iotflow.lib.timeparse import to_datetime
        from telemetry.stores.cassandra import HOUR_MS, ROW_BYTES, SHARDS, Unit

        day, written = to_datetime(time).date(), 1000 * time
        data = [
            self._bind["write"](
                (device_id, day, time, name, "float", value, *3 * (UNSET_VALUE,), written, 0)
            )
            for name, value in self._values(time)
        ]
        texts = {name: str(value) for name, value in self._values(time)}
        hour = time - time % HOUR_MS
        place = (self._asked.owner, hour, device_id % SHARDS, time, device_id)
        feed = self._bind["write_feed"]((written, 7 * 86_400, texts, *place))
        size = MEASUREMENTS * (ROW_BYTES + 11)
        return [Unit(data, size), Unit([feed], size)]

    def _latest(self, device_id: int, time: int) -> Any:
        from telemetry.stores.cassandra import ROW_BYTES, Unit

        bound = [
            self._bind["write_latest"](
                (device_id, 0, name, time, (1000 * time, "float", value, *3 * (None,)))
                + (1000 * time, 0)
            )
            for name, value in self._values(time)
        ]
        return Unit(bound, MEASUREMENTS * (ROW_BYTES + 11))

    def _values(self, time: int) -> list[tuple[str, float]]:
        return [
            ("temperature", 15 + time % 97 / 10),
            ("humidity", 40 + time % 203 / 10),
            ("battery", float(time % 101)),
        ]

    def _together(self, statements: list[Any]) -> Any:
        from cassandra.query import BatchStatement, BatchType

        batch = BatchStatement(BatchType.UNLOGGED)
        for statement in statements:
            batch.add(statement)
        return batch


if __name__ == "__main__":
    main()
