"""History written past the server, straight with the store's own statements: many rows a second.

Every reading has its three measurements in `device_data`, and its day in `device_days`. Only the
last reading of a device takes the way of the application, which makes its latest values.
"""

import json
import math
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import Any

from tests.bench.failure import Failure
from tests.bench.ground import ROOT

PROCESSES = 2
IN_FLIGHT = 12
SECONDS = 30
ROWS = 300  # of a batch, on one partition: below the bytes that Cassandra takes
DAY_MS = 86_400_000
SAID_EVERY = 5000
INTEGER, DOUBLE = struct.Struct(">q"), struct.Struct(">d")
TIME_AT, DOUBLE_AT, LONG_AT, WRITTEN_AT = 2, 5, 6, 9  # places in the store's statement `write`


@dataclass(frozen=True)
class History:
    """`count` readings of a device, every `step` ms, the last one at `end` (ms since 1970)."""

    device_id: int
    owner_id: int
    count: int
    step: int
    end: int

    def times(self) -> range:
        return range(self.end - self.step * (self.count - 1), self.end + 1, self.step)


def temperature(time: int) -> float:
    """What the first measurement is at this time, so that answers can be checked."""
    return 20 + 5 * math.sin(time / 13_751_000) + time // 1000 % 7 / 10


MEASUREMENTS: tuple[tuple[str, str, int, Callable[[int], Any]], ...] = (
    ("temperature", "float", DOUBLE_AT, temperature),
    ("humidity", "float", DOUBLE_AT, lambda time: 40 + time % 203 / 10),
    ("battery", "int", LONG_AT, lambda time: time % 101),
)


def fill(histories: Sequence[History], variables: dict[str, str], title: str) -> float:
    """Write them all, by several processes, with a progress bar; readings a second."""
    from tqdm import tqdm

    begun = monotonic()
    total = sum(history.count for history in histories)
    shares = [histories[number::PROCESSES] for number in range(PROCESSES)]
    children = [_child(share, variables) for share in shares if share]
    try:
        with tqdm(total=total, desc=title, unit=" readings", unit_scale=True) as bar:
            for line in _lines(children):
                bar.update(int(line))
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
    if any(child.returncode for child in children):
        raise Failure("Readings could not be written beforehand; see above.")
    return total / (monotonic() - begun)


def _child(histories: Sequence[History], variables: dict[str, str]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.filling"],
        cwd=ROOT,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for whoever started it
    )
    assert child.stdin
    child.stdin.write(json.dumps([asdict(history) for history in histories]))
    child.stdin.close()
    return child


def _lines(children: Sequence[subprocess.Popen[str]]) -> Iterator[str]:
    """What they all say, as it comes."""
    import selectors

    with selectors.DefaultSelector() as ready:
        for child in children:
            ready.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        while ready.get_map():
            for key, _ in ready.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if line:
                    yield line
                else:
                    ready.unregister(key.fileobj)


def main() -> None:
    import django

    django.setup()
    histories = [History(**fields) for fields in json.load(sys.stdin)]
    writer = _Writer()
    for history in histories:
        writer.write(history)
    writer.finish(histories)


class _Writer:
    """Sends batches, so many at once, and says how many readings are stored."""

    def __init__(self) -> None:
        from telemetry.stores.cassandra import STATEMENTS
        from telemetry.stores.cql import PROFILE, Cql

        cql = Cql({name: STATEMENTS[name] for name in ("write", "mark_day")})
        self._session = cql.session()
        self._profile = PROFILE
        self._write, self._mark = cql.prepared["write"], cql.prepared["mark_day"]
        self._flying: deque[Any] = deque()
        self._unsaid = 0

    def write(self, history: History) -> None:
        for day, times in by_day(history):
            self._send(self._mark.bind((history.device_id, day)))
            for chunk in chunks(times, ROWS // 3):
                self._send(self._batch(history.device_id, day, chunk))
                self._say(len(chunk))

    def finish(self, histories: Sequence[History]) -> None:
        from telemetry import clock
        from telemetry.readings import Reading
        from telemetry.stores import telemetry_store

        while self._flying:
            self._settle(*self._flying.popleft())
        last = [
            Reading(
                device_id=history.device_id,
                owner_id=history.owner_id,
                time=history.end,
                written=clock.written(),
                values={name: value(history.end) for name, _, _, value in MEASUREMENTS},
            )
            for history in histories
        ]
        for chunk in chunks(last, 50):
            telemetry_store().write(chunk)
        self._say(0, last=True)

    def _batch(self, device_id: int, day: Any, times: Sequence[int]) -> Any:
        """One batch on one partition. What changes from row to row is put in as its bytes.

        The driver's own binding of each row would take most of the time of loading.
        """
        from cassandra.query import UNSET_VALUE, BatchStatement, BatchType

        batch = BatchStatement(BatchType.UNLOGGED)
        rows = batch._statements_and_parameters
        for key, kind, column, value in MEASUREMENTS:
            numbers = (0.0, UNSET_VALUE) if column == DOUBLE_AT else (UNSET_VALUE, 0)
            model = self._write.bind(
                (device_id, day, 0, key, kind, *numbers, UNSET_VALUE, UNSET_VALUE, 0, 0)
            )
            batch.add(model)  # tells the batch its partition
            prepared, query, _ = rows.pop()
            pack = DOUBLE.pack if column == DOUBLE_AT else INTEGER.pack
            for time in times:
                row = model.values.copy()
                row[TIME_AT] = INTEGER.pack(time)
                row[column] = pack(value(time))
                row[WRITTEN_AT] = INTEGER.pack(1000 * time)
                rows.append((prepared, query, row))
        return batch

    def _send(self, statement: Any) -> None:
        if len(self._flying) == IN_FLIGHT:
            self._settle(*self._flying.popleft())
        self._flying.append((statement, self._begin(statement)))

    def _begin(self, statement: Any) -> Any:
        return self._session.execute_async(
            statement, timeout=SECONDS, execution_profile=self._profile
        )

    def _settle(self, statement: Any, future: Any) -> None:
        """Wait until it is stored. A server that cannot keep up is asked again, in its own time."""
        from cassandra import DriverException

        for pause in (1, 2, 4, 8):
            try:
                future.result()
                return
            except DriverException:
                sleep(pause)
                future = self._begin(statement)
        future.result()

    def _say(self, count: int, last: bool = False) -> None:
        self._unsaid += count
        if self._unsaid >= SAID_EVERY or last:
            sys.stdout.write(f"{self._unsaid}\n")
            sys.stdout.flush()
            self._unsaid = 0


def by_day(history: History) -> Iterator[tuple[Any, Sequence[int]]]:
    """The days of a history, each with its times."""
    from iotflow.lib.timeparse import to_datetime

    times = history.times()
    while times:
        end = (times[0] // DAY_MS + 1) * DAY_MS
        count = min(len(times), -(-(end - times[0]) // history.step))
        yield to_datetime(times[0]).date(), times[:count]
        times = times[count:]


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


if __name__ == "__main__":
    main()
