"""Counts, sums and extremes of readings by Cassandra itself, which sends a row for each group."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from cassandra.cluster import ResponseFuture
from cassandra.util import Date
from django.conf import settings

from telemetry.stores.buckets import Layouts
from telemetry.stores.cql import PROFILE, READ_SECONDS, Cql, Row
from telemetry.stores.layouts import StoredLayouts
from telemetry.stores.rollups import Group
from telemetry.summaries import Summary
from telemetry.windows import HOUR

EPOCH = date(1970, 1, 1)
# A request scans all measurements of so many hours, and has READ_SECONDS.
CHUNK = 4 * HOUR
AHEAD = 3
# A value rewritten with another type leaves its old column set: where more columns are set than
# there are rows, Cassandra cannot tell which of them count.
SET = "count(*), count(double_value), count(long_value), count(bool_value), count(text_value)"
SUMS = f"{SET}, sum(double_value), sum(cast(long_value AS varint))"
WANTED = {
    "count": "count(*)",
    "mean": SUMS,
    "sum": SUMS,
    "min": f"{SET}, min(double_value), min(long_value)",
    "max": f"{SET}, max(double_value), max(long_value)",
}
GROUP = """SELECT to_unix_timestamp(floor(ts, {grain}s)), {wanted} FROM {ks}.device_data
    WHERE device_id = ? AND day = ? AND ts >= ? AND ts <= ? AND key = ?
    GROUP BY device_id, day, floor(ts, {grain}s) ORDER BY ts ASC, key DESC ALLOW FILTERING"""


class Groups:
    """Asks for groups of `grain` ms, of which a whole number makes a day."""

    def __init__(self, cql: Cql, layouts: StoredLayouts) -> None:
        self._cql = cql
        self._layouts = layouts
        self._prepared: dict[tuple[int, str], Any] = {}

    def read(
        self,
        device_id: int,
        name: str,
        days: Iterable[date],
        start: int,
        stop: int,
        grain: int,
        wanted: str,
    ) -> Iterator[Group]:
        """Chunk by chunk, in order, AHEAD of them asked for before."""
        session, statement = self._cql.session(), self._statement(grain, wanted)
        waiting: deque[tuple[int, int, ResponseFuture]] = deque()
        for partition, first, last in chunks(days, start, stop, self._layouts.get()):
            bound = statement.bind((device_id, Date(partition), first, last - 1, name))
            future = session.execute_async(bound, timeout=READ_SECONDS, execution_profile=PROFILE)
            waiting.append((first, last, future))
            if len(waiting) > AHEAD:
                yield group(*waiting.popleft(), wanted)
        while waiting:
            yield group(*waiting.popleft(), wanted)

    def _statement(self, grain: int, wanted: str) -> Any:
        key = grain, WANTED[wanted]
        if key not in self._prepared:
            text = GROUP.format(
                ks=settings.CASSANDRA_KEYSPACE, grain=grain // 1000, wanted=WANTED[wanted]
            )
            self._prepared[key] = self._cql.session().prepare(text)
        return self._prepared[key]


def chunks(
    days: Iterable[date], start: int, stop: int, layouts: Layouts
) -> Iterator[tuple[int, int, int]]:
    """Partition, start and stop of what one request reads."""
    for day in days:
        number = (day - EPOCH).days
        layout = layouts.reading(number)
        for partition in layout.partitions(number):
            first, last = layout.bounds(partition)
            for begin in range(first, last + 1, CHUNK):
                span = max(begin, start), min(begin + CHUNK, last + 1, stop)
                if span[0] < span[1]:
                    yield partition, *span


def group(start: int, stop: int, future: ResponseFuture, wanted: str) -> Group:
    found = [summary_of(row, wanted) for row in future.result()]
    sound = [summary for summary in found if summary is not None]
    return Group(start, stop, sound if len(sound) == len(found) else None)


def summary_of(row: Row, wanted: str) -> Summary | None:
    """The summary of a group as far as it was wanted; None where the values have to be read."""
    start, count = row[:2]
    if wanted == "count":
        return bare(start, count)
    floats, wholes, booleans, texts = row[2:6]
    if booleans or floats + wholes + texts != count:
        return None
    of_floats, of_wholes = row[6:]
    if wanted in ("min", "max"):
        kept = [n for n, number in ((of_floats, floats), (of_wholes, wholes)) if number]
        extreme = (min if wanted == "min" else max)(kept, default=None)
        return bare(start, count)._replace(numbers=floats + wholes, least=extreme, most=extreme)
    if floats and not math.isfinite(of_floats):
        return None
    found = bare(start, count)._replace(
        numbers=floats + wholes,
        whole=int(of_wholes) if wholes else 0,
        real=of_floats if floats else None,
    )
    return found._replace(mean=(found.total or 0) / max(found.numbers, 1))


def bare(start: int, count: int) -> Summary:
    return Summary(start, count, 0, 0, None, 0.0, 0.0, None, None, first="", last="")
