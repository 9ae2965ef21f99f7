"""The limit: the bare driver writing the three tables, one process, as fast as it can.

The store's own statements in unlogged batches of the store's own grouping, on the session that
the application opens; but no HTTP, no checks, no Redis, no event log. A companion: asked
`single` or `batch`, it says readings a second.
"""

import argparse
from collections import deque
from itertools import count
from time import monotonic
from typing import Any

from tests.bench.companion import serve

SINGLES = 50  # readings of as many devices in one group, as the committer gathers them
BATCH = 100  # readings of one device, as in POST /telemetry/batch
DEVICES = range(1_000_000_001, 1_000_000_201)  # nobody's
OWNER = 1_000_000_000
IN_FLIGHT = 16
WARM_UP = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    asked = parser.parse_args()

    import django

    django.setup()
    serve(Limit(asked.seconds).measure)


class Limit:
    def __init__(self, seconds: float) -> None:
        from iotflow.lib.timeparse import now_ms
        from telemetry.stores.cassandra import STATEMENTS
        from telemetry.stores.cql import PROFILE, Cql

        cql = Cql({name: STATEMENTS[name] for name in ("write", "write_feed", "write_latest")})
        self._seconds = seconds
        self._session, self._profile = cql.session(), PROFILE
        self._bind = {name: prepared.bind for name, prepared in cql.prepared.items()}
        self._time = now_ms() - 120_000
        self._flying: deque[Any] = deque()

    def measure(self, kind: str) -> float:
        groups = self._singles if kind == "single" else self._batches
        self._write(groups, WARM_UP)
        return self._write(groups, self._seconds)

    def _write(self, groups: Any, seconds: float) -> float:
        """Write for so long, and until all is stored; readings a second."""
        begun, written = monotonic(), 0
        for number in count():
            if monotonic() - begun > seconds:
                break
            readings = groups(number)
            for batch in self._grouped(readings):
                self._send(batch)
            written += len(readings)
        while self._flying:
            self._flying.popleft().result()
        return written / (monotonic() - begun)

    def _send(self, batch: Any) -> None:
        if len(self._flying) >= IN_FLIGHT:
            self._flying.popleft().result()
        self._flying.append(
            self._session.execute_async(batch, timeout=10, execution_profile=self._profile)
        )

    def _singles(self, number: int) -> list[tuple[int, int]]:
        first = number * SINGLES
        return [(DEVICES[(first + place) % len(DEVICES)], self._next()) for place in range(SINGLES)]

    def _batches(self, number: int) -> list[tuple[int, int]]:
        device_id = DEVICES[number % len(DEVICES)]
        return [(device_id, self._next()) for _ in range(BATCH)]

    def _next(self) -> int:
        self._time += 1
        return self._time

    def _grouped(self, readings: list[tuple[int, int]]) -> list[Any]:
        """The readings' statements in batches, as the store packs them."""
        from cassandra.query import BatchStatement, BatchType
        from django.conf import settings

        from telemetry.stores.cassandra import packed

        units = [unit for reading in readings for unit in self._units(*reading)]
        units += [self._latest(*item) for item in dict(readings).items()]
        batches = []
        for statements, _size in packed(units, settings.INGEST_GROUP_BYTES):
            batch = BatchStatement(BatchType.UNLOGGED)
            for statement in statements:
                batch.add(statement)
            batches.append(batch)
        return batches

    def _units(self, device_id: int, time: int) -> list[Any]:
        from cassandra.query import UNSET_VALUE

        from iotflow.lib.timeparse import to_datetime
        from telemetry.stores.cassandra import HOUR_MS, ROW_BYTES, SHARDS, Unit

        day, written, unset = to_datetime(time).date(), 1000 * time, 3 * (UNSET_VALUE,)
        data = [
            self._bind["write"]((device_id, day, time, name, "float", value, *unset, written, 0))
            for name, value in values(time)
        ]
        texts = {name: str(value) for name, value in values(time)}
        place = (OWNER, time - time % HOUR_MS, device_id % SHARDS, time, device_id)
        feed = self._bind["write_feed"]((written, 7 * 86_400, texts, *place))
        size = sum(ROW_BYTES + len(name) for name in texts)
        text_size = sum(4 * len(text) for text in texts.values())
        return [Unit(data, size), Unit([feed], size + text_size)]

    def _latest(self, device_id: int, time: int) -> Any:
        from telemetry.stores.cassandra import ROW_BYTES, Unit

        written, none = 1000 * time, 3 * (None,)
        bound = [
            self._bind["write_latest"](
                (device_id, 0, name, time, (written, "float", value, *none), written, 0)
            )
            for name, value in values(time)
        ]
        return Unit(bound, sum(ROW_BYTES + len(name) for name, _ in values(time)))


def values(time: int) -> list[tuple[str, float]]:
    """The measurements that wrk.lua sends, too."""
    return [
        ("temperature", 15 + time % 97 / 10),
        ("humidity", 40 + time % 203 / 10),
        ("battery", float(time % 101)),
    ]


if __name__ == "__main__":
    main()
