"""What was acknowledged against what is in Cassandra afterwards."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

MEASUREMENTS = 3
BATCH, SPREAD, STEP = 100, 10, 201  # as in wrk.lua
READINGS = """SELECT to_unix_timestamp(ts), COUNT(*) FROM {ks}.device_data
    WHERE device_id = ? AND day = ? GROUP BY ts"""

Taken = Mapping[int, set[int]]  # times in ms, by device


@dataclass
class Ledger:
    """The readings that the server has acknowledged, by device."""

    taken: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def enter(self, kind: str, path: Path, slot: int, devices: Sequence[int]) -> None:
        """Enter what a run of wrk.lua has written to `path`."""
        for line in path.read_text().split():
            first = to_ms(line)
            for device_id, time in readings(kind, first, slot, devices):
                self.taken[device_id].add(time)

    def settle(self) -> dict[str, int]:
        """`acknowledged`, `found` (what nobody waited for any more, too), and `lost`."""
        found = stored(self.taken)
        return compare(self.taken, found)


def to_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round(moment.timestamp() * 1000)


def readings(kind: str, first: int, slot: int, devices: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Device and time of each reading of the message whose first reading has the time `first`."""
    number = first - slot
    if kind == "submit":
        yield devices[number % len(devices)], first
    elif kind == "batch":
        for place in range(BATCH):
            yield devices[number % len(devices)], first + place * STEP
    else:
        for place in range(BATCH):
            turn = number * SPREAD + place % SPREAD
            yield devices[turn % len(devices)], first + place // SPREAD * STEP


def compare(taken: Taken, found: Taken) -> dict[str, int]:
    return {
        "acknowledged": sum(map(len, taken.values())),
        "found": sum(map(len, found.values())),
        "lost": sum(len(times - found.get(device, set())) for device, times in taken.items()),
    }


def stored(taken: Taken) -> dict[int, set[int]]:
    """The times of these devices' whole readings in Cassandra, of the days in question."""
    from iotflow.lib.batches import batched
    from iotflow.lib.timeparse import to_datetime
    from telemetry.stores.cql import IN_FLIGHT, PROFILE, Cql

    cql = Cql({"readings": READINGS})
    session = cql.session()
    found: dict[int, set[int]] = defaultdict(set)
    places = [
        (device, day)
        for device, times in taken.items()
        for day in sorted({to_datetime(time).date() for time in times})
    ]
    for chunk in batched(places, IN_FLIGHT):
        futures: list[tuple[int, Any]] = [
            (
                place[0],
                session.execute_async(
                    cql.prepared["readings"].bind(place), timeout=60, execution_profile=PROFILE
                ),
            )
            for place in chunk
        ]
        for device, future in futures:
            found[device] |= {time for time, rows in future.result() if rows == MEASUREMENTS}
    return found
