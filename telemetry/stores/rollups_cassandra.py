"""Rollups on Cassandra: a partition holds the hours of a device's month, or the days of its year.

What is computed is written at the time of the look at the readings that it comes from, so that
the newest look wins whoever writes last; what is cleared is deleted at such a time too.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from cassandra.cluster import Session
from cassandra.query import BatchStatement, BatchType

from iotflow.lib.batches import batched
from iotflow.lib.breaker import Breaker
from iotflow.lib.timeparse import EARLIEST, EPOCH, LATEST, now_ms
from telemetry import retention
from telemetry.stores import layouts
from telemetry.stores.cql import AWAY, IN_FLIGHT, PROFILE, READ_SECONDS, Bound, Cql, Row, ttl_of
from telemetry.stores.groups_cassandra import Groups
from telemetry.stores.rollups import MARKS_MAX, Group, Mark, Named, Progress
from telemetry.summaries import Summary, dumps, loads
from telemetry.windows import DAY, HOUR

STATEMENTS = {
    "progress": """SELECT to_unix_timestamp(until), to_unix_timestamp(start),
        to_unix_timestamp(stop), deleted, to_unix_timestamp(due), writetime(due)
        FROM {ks}.rollup_progress WHERE device_id = ? LIMIT ?""",
    "mark": """INSERT INTO {ks}.rollup_progress (device_id, start, stop, deleted, due)
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?""",
    "unmark": """DELETE FROM {ks}.rollup_progress USING TIMESTAMP ?
        WHERE device_id = ? AND start = ? AND stop = ? AND deleted = ?""",
    "advance": "INSERT INTO {ks}.rollup_progress (device_id, until) VALUES (?, ?)",
    "days": "SELECT day FROM {ks}.device_days WHERE device_id = ? AND day >= ? AND day <= ?",
    "note_bucket": "INSERT INTO {ks}.rollup_buckets (device_id, length, bucket) VALUES (?, ?, ?)",
    "buckets": """SELECT bucket FROM {ks}.rollup_buckets
        WHERE device_id = ? AND length = ? AND bucket >= ? AND bucket <= ?""",
    "erase_buckets": "DELETE FROM {ks}.rollup_buckets WHERE device_id = ?",
    "read": """SELECT to_unix_timestamp(ts), summary FROM {ks}.rollups
        WHERE device_id = ? AND length = ? AND bucket = ? AND key = ? AND ts >= ? AND ts < ?""",
    "read_all": """SELECT key, to_unix_timestamp(ts), summary FROM {ks}.rollups
        WHERE device_id = ? AND length = ? AND bucket = ? AND ts >= ? AND ts < ?
        ALLOW FILTERING""",
    "write": """INSERT INTO {ks}.rollups (device_id, length, bucket, key, ts, summary)
        VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?""",
    "keys": """SELECT key FROM {ks}.rollups WHERE device_id = ? AND length = ? AND bucket = ?
        GROUP BY key""",
    "clear": """DELETE FROM {ks}.rollups USING TIMESTAMP ?
        WHERE device_id = ? AND length = ? AND bucket = ? AND key = ? AND ts >= ? AND ts < ?""",
    "count": """SELECT COUNT(*) FROM {ks}.rollups
        WHERE device_id = ? AND length = ? AND bucket = ?""",
    "count_progress": "SELECT COUNT(*) FROM {ks}.rollup_progress WHERE device_id = ?",
    "erase": """DELETE FROM {ks}.rollups USING TIMESTAMP ?
        WHERE device_id = ? AND length = ? AND bucket = ?""",
    "erase_progress": "DELETE FROM {ks}.rollup_progress USING TIMESTAMP ? WHERE device_id = ?",
}
# In µs, later than anything is computed: no id of a device is given twice.
LATE = 1000 * LATEST
NEXT = {HOUR: 31, DAY: 366}  # how many days the next month, or year, is away at most
BATCH_ROWS = 50


class CassandraRollups:
    def __init__(self) -> None:
        self._breaker = Breaker("Cassandra", *AWAY, failures=2, pause=1.0, calls="rollups")
        self._cql = Cql({**STATEMENTS, **layouts.STATEMENTS})
        self._groups = Groups(self._cql, layouts.StoredLayouts(self._cql))

    def progress(self, device_ids: Sequence[int]) -> dict[int, Progress]:
        with self._breaker.guard():
            asked = [("progress", device_id, MARKS_MAX + 1) for device_id in device_ids]
            found = (list(rows) for rows in self._read_each(asked))
            return {
                device_id: to_progress(rows)
                for device_id, rows in zip(device_ids, found, strict=True)
            }

    def mark(self, device_id: int, marks: Iterable[Mark]) -> None:
        with self._breaker.guard():
            self._cql.execute_all(
                ("mark", device_id, *edges(mark), mark.deleted, mark.due, mark.version)
                for mark in marks
            )

    def unmark(self, device_id: int, marks: Iterable[Mark]) -> None:
        with self._breaker.guard():
            self._cql.execute_all(
                ("unmark", mark.version, device_id, *edges(mark), mark.deleted) for mark in marks
            )

    def advance(self, device_id: int, until: int) -> None:
        with self._breaker.guard():
            self._cql.execute("advance", device_id, until)

    def read(
        self, device_id: int, name: str, length: int, start: int, stop: int
    ) -> Iterator[Summary]:
        with self._breaker.guard():
            asked = [
                ("read", device_id, length, bucket, name, bound(start), bound(stop))
                for bucket in self._buckets(device_id, length, start, stop)
            ]
            for rows in self._read_each(asked):
                yield from loads(rows)

    def read_all(self, device_id: int, length: int, start: int, stop: int) -> list[Named]:
        place = device_id, length, bucket_of(length, start)
        with self._breaker.guard():
            rows = list(self._cql.read("read_all", *place, bound(start), bound(stop)))
            summaries = loads((ts, text) for _, ts, text in rows)
            return list(zip((key for key, _, _ in rows), summaries, strict=True))

    def everything(self, device_id: int, length: int) -> Iterator[Named]:
        with self._breaker.guard():
            buckets = self._buckets(device_id, length, EARLIEST, LATEST)
        for bucket in buckets:
            start = DAY * (bucket - EPOCH.date()).days
            yield from self.read_all(device_id, length, start, start + NEXT[length] * DAY)

    def groups(
        self, device_id: int, name: str, start: int, stop: int, grain: int, wanted: str
    ) -> Iterator[Group]:
        if start < 0:
            yield Group(start, min(stop, 0), None)  # Cassandra counts groups from 1970 on
            start = min(stop, 0)
        with self._breaker.guard():
            days = self._days(device_id, start, stop) if start < stop else []
            yield from self._groups.read(device_id, name, days, start, stop, grain, wanted)

    def write(
        self,
        device_id: int,
        device_type: str,
        length: int,
        rollups: Sequence[Named],
        computed: int,
    ) -> bool:
        rules, now = retention.rules(), now_ms()
        buckets: dict[date, list[Bound]] = {}
        with self._breaker.guard():
            session = self._cql.session()
            for name, found in rollups:
                ttl = ttl_of(rules.rollup_expiry(device_type, name, found.start + length), now)
                if ttl is None:
                    continue
                bucket = bucket_of(length, found.start)
                row = (device_id, length, bucket, name, bound(found.start), dumps(found))
                statement = self._cql.prepared["write"].bind((*row, computed, ttl))
                buckets.setdefault(bucket, []).append(statement)
            self._cql.execute_all(("note_bucket", device_id, length, b) for b in buckets)
            for statements in buckets.values():
                self._send(session, statements)
        return True

    def clear(self, device_id: int, start: int, stop: int, computed: int) -> bool:
        with self._breaker.guard():
            for length, first in ((HOUR, start), (DAY, bound(start) // DAY * DAY)):
                span = bound(first), bound(stop)
                for bucket in self._buckets(device_id, length, *span):
                    place = device_id, length, bucket
                    keys = [key for (key,) in self._cql.read("keys", *place)]
                    self._cql.execute_all(("clear", computed, *place, key, *span) for key in keys)
        return True

    def count(self, device_id: int) -> dict[str, int]:
        with self._breaker.guard():
            return {
                "rollups": sum(
                    self._cql.one("count", device_id, length, bucket)
                    for length in (HOUR, DAY)
                    for bucket in self._buckets(device_id, length, EARLIEST, LATEST)
                ),
                "rollup_progress": self._cql.one("count_progress", device_id),
            }

    def erase(self, device_id: int) -> None:
        with self._breaker.guard():
            self._cql.execute_all(
                ("erase", LATE, device_id, length, bucket)
                for length in (HOUR, DAY)
                for bucket in self._buckets(device_id, length, EARLIEST, LATEST)
            )
            self._cql.execute("erase_progress", LATE, device_id)
            self._cql.execute("erase_buckets", device_id)  # last, for it says what is left to do

    def purge(self, now: int) -> None:
        """Cassandra drops what has outlived its TTL."""

    def _send(self, session: Session, statements: list[Bound]) -> None:
        """In batches, all of one partition; a background job may wait for them."""
        for chunk in batched(statements, BATCH_ROWS):
            batch = BatchStatement(BatchType.UNLOGGED)
            for statement in chunk:
                batch.add(statement)
            session.execute(batch, timeout=READ_SECONDS, execution_profile=PROFILE)

    def _buckets(self, device_id: int, length: int, start: int, stop: int) -> list[date]:
        """The months, or the years, of which the device has rollups, in order; two that lie next
        to each other are not asked for.
        """
        first, last = bucket_of(length, start), bucket_of(length, stop - 1)
        if (last - first).days <= NEXT[length]:
            return [first] if first == last else [first, last]
        rows = self._cql.read("buckets", device_id, length, first, last)
        return [bucket.date() for (bucket,) in rows]

    def _days(self, device_id: int, start: int, stop: int) -> list[date]:
        """The days on which it has, in order."""
        rows = self._cql.read("days", device_id, day_of(start), day_of(stop - 1))
        return sorted(day.date() for (day,) in rows)

    def _read_each(self, asked: Sequence[tuple[Any, ...]]) -> Iterator[Iterable[Row]]:
        """The rows of each (statement, *parameters), IN_FLIGHT of them asked for at once."""
        session = self._cql.session()
        for chunk in batched(asked, IN_FLIGHT):
            futures = [
                session.execute_async(
                    self._cql.prepared[name].bind(parameters),
                    timeout=READ_SECONDS,
                    execution_profile=PROFILE,
                )
                for name, *parameters in chunk
            ]
            for future in futures:
                yield future.result()


def to_progress(rows: Iterable[Row]) -> Progress:
    until = None
    marks = []
    for until_ms, start, stop, deleted, due, version in rows:
        until = until_ms
        if start is not None:
            marks.append(Mark(start, stop, due, version, deleted))
    return Progress(until, tuple(marks))


def edges(mark: Mark) -> tuple[int, int]:
    return bound(mark.start), bound(mark.stop)


def bound(ms: int) -> int:
    return min(max(ms, EARLIEST), LATEST)


def day_of(ms: int) -> date:
    return (EPOCH + timedelta(days=bound(ms) // DAY)).date()


def bucket_of(length: int, start: int) -> date:
    return bucket_on(length, day_of(start))


def bucket_on(length: int, day: date) -> date:
    return day.replace(day=1) if length == HOUR else day.replace(month=1, day=1)
