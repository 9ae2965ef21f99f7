"""Telemetry on Cassandra: prepared statements on the session that django-cassandra-engine opens.

Everything that a group of readings writes goes out as unlogged batches, one per set of replicas
and within a size that Cassandra takes. What one message writes to one partition is in one batch,
which Cassandra applies whole or not at all.
"""

import logging
import re
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import ResponseFuture, Session
from cassandra.query import BatchStatement, BatchType
from cassandra.util import Date
from django.conf import settings
from django.core.management import call_command

from iotflow.lib import json
from iotflow.lib.batches import batched, unheard
from iotflow.lib.breaker import Breaker
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EARLIEST, EPOCH, LATEST, now_ms
from telemetry import retention
from telemetry.readings import (
    Deletion,
    HistoryPage,
    HistoryQuery,
    LatestValue,
    Place,
    Reading,
    StoredReading,
    UserReading,
    Value,
    merged,
    newest,
)
from telemetry.retention import Keeping
from telemetry.stores import inspection, layouts, packing
from telemetry.stores.base import Holder, Overdue, Refused
from telemetry.stores.cells import METADATA_KEY, Cell, from_cell, to_reading
from telemetry.stores.cql import (
    AWAY,
    FETCH_ROWS,
    IN_FLIGHT,
    PROFILE,
    READ_SECONDS,
    REQUEST_SECONDS,
    Bound,
    Cql,
    Row,
    open_session,
    rows_of,
    ttl_of,
)
from telemetry.stores.packing import bound, integer, long, short
from telemetry.stores.sql import feed_start, values_of
from telemetry.stores.unsynced import Unsynced
from telemetry.tables import TABLES, BucketLayoutTable

logger = logging.getLogger(__name__)

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
SHARDS = 8
UNCONFIGURED = re.compile("unconfigured table|keyspace .* does not exist", re.IGNORECASE)
MARKS = 200_000
MARK_SECONDS = 3600
FEED_TTL_MAX = 2 * 366 * 86_400
CELL_COLUMNS = "kind, double_value, long_value, bool_value, text_value"
STATEMENTS = {
    "write": f"""INSERT INTO {{ks}}.device_data (device_id, day, ts, key, {CELL_COLUMNS})
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?""",
    # A measurement has one kind as a rule: each with its one column alone.
    **{
        f"write_{kind}": f"""INSERT INTO {{ks}}.device_data
        (device_id, day, ts, key, kind, {column}) VALUES (?, ?, ?, ?, '{kind}', ?)
        USING TIMESTAMP ? AND TTL ?"""
        for kind, column in packing.COLUMNS.items()
    },
    "mark_day": "INSERT INTO {ks}.device_days (device_id, day) VALUES (?, ?)",
    "write_latest": """INSERT INTO {ks}.latest_data (device_id, epoch, key, ts, value)
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?""",
    "write_feed": """UPDATE {ks}.user_data USING TIMESTAMP ? AND TTL ?
        SET measurements = measurements + ?
        WHERE user_id = ? AND hour = ? AND shard = ? AND ts = ? AND device_id = ?""",
    "mark_hour": """INSERT INTO {ks}.user_hours (user_id, hour, shard)
        VALUES (?, ?, ?) USING TTL ?""",
    "any": "SELECT device_id FROM {ks}.device_days LIMIT 1",
    "days": """SELECT day FROM {ks}.device_days
        WHERE device_id = ? AND day >= ? AND day <= ? ORDER BY day DESC""",
    "days_rising": """SELECT day FROM {ks}.device_days
        WHERE device_id = ? AND day >= ? AND day <= ? ORDER BY day ASC""",
    "day": f"""SELECT to_unix_timestamp(ts), key, {CELL_COLUMNS} FROM {{ks}}.device_data
        WHERE device_id = ? AND day = ? AND ts >= ? AND ts <= ? ORDER BY ts DESC, key ASC""",
    "day_rising": f"""SELECT to_unix_timestamp(ts), key, {CELL_COLUMNS} FROM {{ks}}.device_data
        WHERE device_id = ? AND day = ? AND ts >= ? AND ts <= ? ORDER BY ts ASC, key DESC""",
    "values": f"""SELECT to_unix_timestamp(ts), {CELL_COLUMNS} FROM {{ks}}.device_data
        WHERE device_id = ? AND day = ? AND ts >= ? AND ts <= ? AND key = ?
        ORDER BY ts ASC, key DESC ALLOW FILTERING""",
    "newest": f"""SELECT to_unix_timestamp(ts), {CELL_COLUMNS} FROM {{ks}}.device_data
        WHERE device_id = ? AND day = ? AND key = ? LIMIT 1 ALLOW FILTERING""",
    "value": """SELECT kind FROM {ks}.device_data
        WHERE device_id = ? AND day = ? AND ts = ? AND key = ?""",
    "count_day": "SELECT COUNT(*) FROM {ks}.device_data WHERE device_id = ? AND day = ?",
    "count_latest": "SELECT COUNT(*) FROM {ks}.latest_data WHERE device_id = ? AND epoch = ?",
    "latest": """SELECT key, to_unix_timestamp(ts), value FROM {ks}.latest_data
        WHERE device_id = ? AND epoch = ?""",
    "hours": """SELECT to_unix_timestamp(hour), shard FROM {ks}.user_hours
        WHERE user_id = ? AND hour >= ? AND hour <= ?""",
    "feed": """SELECT to_unix_timestamp(ts), device_id, measurements FROM {ks}.user_data
        WHERE user_id = ? AND hour = ? AND shard = ? AND ts >= ? AND ts <= ? LIMIT ?""",
    "feed_at": """SELECT to_unix_timestamp(ts), device_id, measurements FROM {ks}.user_data
        WHERE user_id = ? AND hour = ? AND shard = ? AND ts = ? AND device_id >= ? LIMIT ?""",
    "delete_range": """DELETE FROM {ks}.device_data
        WHERE device_id = ? AND day = ? AND ts >= ? AND ts <= ?""",
    "delete_feed": """DELETE FROM {ks}.user_data
        WHERE user_id = ? AND hour = ? AND shard = ? AND ts = ? AND device_id = ?""",
    "first": "SELECT key FROM {ks}.device_data WHERE device_id = ? AND day = ? LIMIT 1",
    "keys": """SELECT to_unix_timestamp(ts), key FROM {ks}.device_data
        WHERE device_id = ? AND day = ? AND ts <= ?""",
    "delete_value": """DELETE FROM {ks}.device_data
        WHERE device_id = ? AND day = ? AND ts = ? AND key = ?""",
    "delete_feed_value": """DELETE measurements[?] FROM {ks}.user_data
        WHERE user_id = ? AND hour = ? AND shard = ? AND ts = ? AND device_id = ?""",
    "delete_latest_value": """DELETE FROM {ks}.latest_data USING TIMESTAMP ?
        WHERE device_id = ? AND epoch = ? AND key = ?""",
    "delete_day": "DELETE FROM {ks}.device_data WHERE device_id = ? AND day = ?",
    "delete_days": "DELETE FROM {ks}.device_days WHERE device_id = ?",
    "delete_latest": """DELETE FROM {ks}.latest_data USING TIMESTAMP ?
        WHERE device_id = ? AND epoch = ?""",
}

ROW_BYTES = 120
IN_FLIGHT_BYTES = 2_000_000
SEARCH_DAYS = 100
DAYS_AHEAD = 16
DAYS_UNASKED = 3
FETCH_LEAST = 50
TRUNCATE_SECONDS = 60.0
WIDTHS = 20_000
# In µs, later than any event time: or what is dated ahead would outlive its deletion.
LATE = 1000 * LATEST + 999

TIME_OF = itemgetter(0)


class CassandraStore:
    name = "cassandra"
    is_cassandra = True

    def __init__(self) -> None:
        self.breaker = Breaker("Cassandra", *AWAY, failures=2, pause=1.0, calls="writes")
        # Apart, so that a heavy read that takes too long keeps nobody from writing.
        self.reads = Breaker("Cassandra", *AWAY, failures=2, pause=1.0, calls="reads")
        self._cql = Cql({**STATEMENTS, **layouts.STATEMENTS})
        self.layouts = layouts.StoredLayouts(self._cql)
        self._marked = Marks()
        self._widths = Widths()
        self.unsynced = Unsynced(self._hear, self._write_again)

    def write(self, readings: Sequence[Reading]) -> None:
        with self.breaker.guard():
            self._cql.session()
            try:
                self._write(merged(readings))
            except (InvalidRequest, TypeError, ValueError, struct.error) as error:
                if UNCONFIGURED.search(str(error)):
                    logger.exception("Cassandra has lost its tables; run manage.py setup_stores")
                    raise StoreAway("Cassandra") from error
                # The server's no, or the driver's when a value does not fit its column.
                logger.warning("Cassandra refused a group or a reading: %s", error)
                raise Refused("The store refuses this reading.") from error

    def history(self, query: HistoryQuery) -> HistoryPage:
        with self.reads.guard():
            return self._history(query)

    def latest(self, places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
        with self.reads.guard():
            return dict(zip(places, self._latest(places), strict=True))

    def values(
        self, device_id: int, name: str, start: int, end: int
    ) -> Iterator[tuple[int, Value]]:
        bounds = _bound(start), _bound(end)
        with self.reads.guard():
            for day in self._days(device_id, start, end, descending=False):
                for ts, *cell in self._cql.read("values", device_id, day, *bounds, name):
                    if cell[0] is not None:
                        yield ts, from_cell(Cell(*cell))

    def feed(
        self, owner_id: int, start: int, end: int, limit: int, until: tuple[int, int] | None
    ) -> list[UserReading]:
        start = max(start, feed_start(now_ms()))
        with self.reads.guard():
            found: list[UserReading] = []
            if until is not None and start <= until[0] <= end:
                end = until[0]
                for hour, shards in self._hours(owner_id, end, end):
                    found += self._feed_part("feed_at", owner_id, hour, shards, *until, limit)
                end -= 1
            for hour, shards in self._hours(owner_id, start, end):
                if len(found) >= limit:
                    break
                found += self._feed_part("feed", owner_id, hour, shards, start, end, limit)
            return found[:limit]

    def delete(self, deletion: Deletion) -> None:
        start, end = deletion.start, deletion.end
        with self.breaker.guard():
            self._delete_feed(deletion.device_id, deletion.owner_id, start, end)
            days = self._days(deletion.device_id, start, end, descending=True, everywhere=True)
            self._cql.execute_all(
                ("delete_range", deletion.device_id, day, _bound(start), _bound(end))
                for day in days
            )
            self._move_latest(deletion)

    def carry_latest(self, deletion: Deletion) -> dict[str, LatestValue]:
        with self.breaker.guard():
            known = self._latest_at(deletion.device_id, deletion.epoch)
            kept = {
                name: value
                for name, value in known.items()
                if value.time not in deletion or self._is_there(deletion.device_id, name, value)
            }
            self._put_latest(deletion, kept)
            return kept

    def find_latest(
        self, deletion: Deletion, names: frozenset[str], until: int
    ) -> tuple[dict[str, LatestValue], int | None]:
        missing, found = set(names), {}
        with self.breaker.guard():
            days = self._days(deletion.device_id, EARLIEST, until, descending=True)
            for day in islice(days, SEARCH_DAYS):
                for name in sorted(missing):
                    for ts, *cell in self._cql.read("newest", deletion.device_id, day, name):
                        found[name] = LatestValue(ts, 0, from_cell(Cell(*cell)))
                missing -= set(found)
                if not missing:
                    break
            self._put_latest(deletion, found)
            further = next(days, None) if missing else None
        if further is None:
            return found, None
        return found, min(self.layouts.get().end_of(further.days_from_epoch), LATEST)

    def drop_latest(self, deletion: Deletion) -> None:
        with self.breaker.guard():
            self._cql.execute("delete_latest", LATE, deletion.device_id, deletion.epoch)

    def count(self, device_id: int, owner_id: int, epoch: int) -> dict[str, int]:
        with self.breaker.guard():
            days = self._days(device_id, EARLIEST, LATEST, descending=True)
            feed = self._feed_places(device_id, owner_id, EARLIEST, LATEST)
            return {
                "device_data": sum(self._cql.one("count_day", device_id, day) for day in days),
                "latest_data": sum(
                    self._cql.one("count_latest", device_id, number) for number in range(epoch + 1)
                ),
                "user_data": sum(1 for _ in feed),
            }

    def erase(self, device_id: int, owner_id: int, epoch: int) -> None:
        with self.breaker.guard():
            self._delete_feed(device_id, owner_id, EARLIEST, LATEST)
            days = self._days(device_id, EARLIEST, LATEST, descending=True, everywhere=True)
            self._cql.execute_all(("delete_day", device_id, day) for day in days)
            self._cql.execute_all(
                ("delete_latest", LATE, device_id, number) for number in range(epoch + 1)
            )
            self._cql.execute("delete_days", device_id)  # last, for it says what is left to do

    def setup(self) -> None:
        """Make keyspace and tables, by sync_cassandra; with a default that is safe to repeat."""
        with self.breaker.guard():
            call_command("sync_cassandra", database="cassandra", stdout=_Silent())

    def is_empty(self) -> bool:
        with self.reads.guard():
            return not list(self._cql.read("any"))

    def empty(self) -> None:
        """All but how wide partitions are."""
        with self.breaker.guard():
            for model in TABLES:
                if model is not BucketLayoutTable:
                    name = f"{settings.CASSANDRA_KEYSPACE}.{model.__table_name__}"
                    open_session().execute(f"TRUNCATE {name}", timeout=TRUNCATE_SECONDS)
        self._marked = Marks()

    def purge(self, now: int, advance: Callable[[int], object] = unheard) -> int:
        return 0  # Cassandra drops what has outlived its TTL

    def expired(self, now: int) -> int:
        return 0

    def overdue(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        found = Overdue()
        with self.reads.guard():
            for day in self._old_days(holder, keeping, now):
                day.count_in(found)
        return found

    def enforce(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        """The marks of days stay: rollups are found, and erased, by them."""
        found, device_id = Overdue(), holder.device_id
        with self.breaker.guard():
            for old in self._old_days(holder, keeping, now):
                if old.is_whole:
                    self._cql.execute_all(("delete_day", device_id, part) for part in old.parts)
                self._cql.execute_all(("delete_value", device_id, *value) for value in old.values)
                old.count_in(found)
            self._enforce_latest(holder, keeping, now)
            self._enforce_feed(holder, keeping, now)
        return found

    def faults(self) -> list[str]:
        tables = self._tables()
        if tables is None:
            return [f"There is no keyspace {settings.CASSANDRA_KEYSPACE}."]
        return inspection.faults(tables)

    def drift(self) -> list[str]:
        return inspection.drift(self._tables() or {})

    def largest_partitions(self) -> dict[str, int]:
        with self.reads.guard():
            return inspection.largest_partitions(open_session())

    def clock(self) -> int | None:
        with self.reads.guard():
            return inspection.clock(open_session())

    def _tables(self) -> Any:
        """Cassandra's tables by name, as the driver knows them; None without a keyspace."""
        with self.breaker.guard():
            keyspaces = open_session().cluster.metadata.keyspaces
        known = keyspaces.get(settings.CASSANDRA_KEYSPACE)
        return None if known is None else known.tables

    def ping(self) -> str:
        with self.breaker.guard():
            session = self._cql.session()
            row = session.execute(
                "SELECT release_version FROM system.local",
                timeout=REQUEST_SECONDS,
                execution_profile=PROFILE,
            ).one()
            self._cql.execute("latest", 0, 0)  # one node answers also where too few do
            return f"Apache Cassandra {row[0]}"

    def is_away(self) -> bool:
        return self.breaker.is_open

    def is_refusing(self) -> bool:
        return self.breaker.is_refusing

    def is_shaky(self) -> bool:
        return self.breaker.is_shaky

    # --- writing ---------------------------------------------------------------------------------
    def _write(self, readings: Sequence[Reading]) -> None:
        now = now_ms()
        marks: dict[tuple[Any, ...], None] = {}
        units = [unit for reading in readings for unit in self._units_of(reading, now, marks)]
        # Only the newest of a measurement in the group is worth writing as its latest value.
        types = {reading.device_id: reading.device_type for reading in readings}
        units += [
            self._latest_unit(place, types[place[0]], values, now)
            for place, values in newest(readings).items()
        ]
        self._send(units)
        self._marked.add(marks)

    def _units_of(
        self, reading: Reading, now: int, marks: dict[tuple[Any, ...], None]
    ) -> Iterator["Unit"]:
        """What a reading writes, partition by partition; its latest values apart."""
        expiries = retention.rules().expiries(reading)
        written, size = long(reading.written), 0
        ttls: dict[str, int] = {}
        cells = []
        for key, value in values_of(reading):
            ttl = ttl_of(expiries[key], now)
            if ttl is None:
                continue  # it has expired on the way
            ttls[key] = ttl
            kind, cell = packing.cell(value)
            statement = self._cql.prepared[f"write_{kind}"]
            cells.append((statement, (key.encode(), cell, written, integer(ttl))))
            size += ROW_BYTES + len(key) + len(cell)
        if not cells:
            return
        device_id, time = long(reading.device_id), long(reading.time)
        for partition in self.layouts.get().to_write(reading.time):
            place = device_id, packing.date(partition), time
            yield Unit([bound(statement, *place, *values) for statement, values in cells], size)
        left = _feed_ttl(reading, now)
        if left:
            yield self._feed_unit(reading, left, ttls)
        for mark in self._new_marks(reading, left, marks):
            yield Unit([mark], ROW_BYTES)

    def _feed_unit(self, reading: Reading, left: int, ttls: dict[str, int]) -> "Unit":
        """The reading in its owner's feed: one statement, or more where some values expire before
        they leave it.
        """
        by_ttl: dict[int, dict[str, bytes]] = {}
        size = 0
        for key, value in reading.values.items():
            if key in ttls:
                text = json.dumps(value)
                by_ttl.setdefault(min(left, ttls[key] or left), {})[key] = text
                size += ROW_BYTES + len(key) + len(text)
        owner, hour, shard = _feed_key(reading)
        place = long(owner), long(hour), short(shard), long(reading.time), long(reading.device_id)
        written, statement = long(reading.written), self._cql.prepared["write_feed"]
        entries = [
            bound(statement, written, integer(ttl), packing.texts(texts), *place)
            for ttl, texts in by_ttl.items()
        ]
        return Unit(entries, size)

    def _new_marks(
        self, reading: Reading, left: int, marks: dict[tuple[Any, ...], None]
    ) -> Iterator[Bound]:
        """Statements that note the day, and the owner's hour, unless they were noted lately.

        `left` is how many seconds the reading stays in the feed.
        """
        day = ("mark_day", reading.device_id, _day(reading.time))
        if day not in marks and self._marked.is_new(day):
            marks[day] = None
            yield self._cql.prepared["mark_day"].bind(day[1:])
        hour = ("mark_hour", *_feed_key(reading))
        if left and hour not in marks and self._marked.is_new(hour):
            marks[hour] = None
            # Longer than its newest row, which may come at the end of the hour or of the mark.
            yield self._cql.prepared["mark_hour"].bind((*hour[1:], left + 3600 + MARK_SECONDS))

    def _latest_unit(
        self, place: Place, device_type: str, values: dict[str, LatestValue], now: int
    ) -> "Unit":
        """The values written as the latest of a place, each at its own time."""
        rules, statement = retention.rules(), self._cql.prepared["write_latest"]
        device_id, epoch = long(place[0]), integer(place[1])
        rows, size = [], 0
        for key, latest in values.items():
            ttl = ttl_of(rules.expiry(device_type, key, latest.time), now)
            if ttl is None:
                continue
            name, value = key.encode(), packing.latest_value(latest.written, latest.value)
            time = long(latest.time), value, long(1000 * latest.time)
            rows.append(bound(statement, device_id, epoch, name, *time, integer(ttl)))
            size += ROW_BYTES + len(name) + len(value)
        return Unit(rows, size)

    def _send(self, units: list["Unit"]) -> None:
        """Send the units in batches, one or more per set of replicas; wait for every one.

        Each has REQUEST_SECONDS from when it is sent, so that not all large ones go at once.
        """
        session = self._cql.session()
        is_alone = len(session.cluster.metadata.all_hosts()) == 1
        sent: deque[tuple[BatchStatement, ResponseFuture, int]] = deque()
        flying = 0

        def land() -> int:
            batch, future, size = sent.popleft()
            future.result()
            if is_alone:
                self.unsynced.keep(batch, future)
            return size

        for group in by_replicas(session, [unit for unit in units if unit.statements]):
            for statements, size in packed(group, settings.INGEST_GROUP_BYTES):
                while sent and (len(sent) == IN_FLIGHT or flying + size > IN_FLIGHT_BYTES):
                    flying -= land()
                batch = BatchStatement(BatchType.UNLOGGED)
                # So that a second node is asked when the first is slow; not with what is slow
                # because it is large.
                batch.is_idempotent = size <= settings.INGEST_GROUP_BYTES
                for statement in statements:
                    batch.add(statement)
                sent.append((batch, self._begin(batch), size))
                flying += size
        while sent:
            land()

    def _begin(self, batch: BatchStatement) -> ResponseFuture:
        return self._cql.session().execute_async(
            batch, timeout=REQUEST_SECONDS, execution_profile=PROFILE
        )

    def _hear(self) -> None:
        if self._cql.session().is_shutdown:
            raise StoreAway(self.breaker.store)  # this process ends; it is no failure of Cassandra
        with self.breaker.guard():
            self._cql.execute("latest", 0, 0)

    def _write_again(self, batch: BatchStatement) -> None:
        with self.breaker.guard():
            future = self._begin(batch)
            future.result()
        self.unsynced.keep(batch, future)

    # --- reading ---------------------------------------------------------------------------------
    def _history(self, query: HistoryQuery) -> HistoryPage:
        """Read until `limit` readings or HISTORY_SCAN_ROWS rows."""
        start, end = query.bounds
        most = settings.HISTORY_SCAN_ROWS
        readings: list[StoredReading] = []
        scanned = times = 0
        last = None
        # With one row more than wanted, which says whether there is more.
        fetch = self._widths.rows(query.device_id, query.limit) + 1
        for moment, of_time in groupby(self._rows(query, start, end, fetch), key=TIME_OF):
            if times and (len(readings) == query.limit or scanned > most):
                break
            rows = list(of_time)
            times += 1
            scanned += len(rows)
            by_name = rows if query.descending else rows[::-1]
            if reading := to_reading(moment, by_name, query.fields):
                readings.append(reading)
            last = moment
        else:
            last = None
        self._widths.note(query.device_id, scanned, times)
        return HistoryPage(readings, last)

    def _rows(self, query: HistoryQuery, start: int, end: int, fetch: int) -> Iterator[Row]:
        """Rows of a device, `fetch` of a day at a time.

        While there are few in a day, more and more of the next days are read ahead.
        """
        if start > end:
            return
        statement = "day" if query.descending else "day_rising"
        bounds = _bound(start), _bound(end)
        days = self._days(query.device_id, start, end, query.descending)
        ahead: deque[ResponseFuture] = deque()
        wanted = 1
        while True:
            for day in islice(days, wanted - len(ahead)):
                ahead.append(self._cql.begin(statement, query.device_id, day, *bounds, fetch=fetch))
            if not ahead:
                return
            yield from rows_of(ahead.popleft().result())
            wanted = min(2 * wanted, DAYS_AHEAD)

    def _days(
        self, device_id: int, start: int, end: int, descending: bool, everywhere: bool = False
    ) -> Iterator[Date]:
        """The partitions of a device's days that may have data, in order of time.

        `everywhere`: also those that are written and not read, while days are moved.
        """
        known = self.layouts.get()
        for day in self._dates(device_id, start, end, descending):
            for partition in known.of_day(
                day, start, end, descending=descending, everywhere=everywhere
            ):
                yield Date(partition)

    def _dates(self, device_id: int, start: int, end: int, descending: bool) -> Iterator[int]:
        """The days, since 1970, that may have data: those that have, unless there are but a few
        to look at.
        """
        first, last = _bound(start) // DAY_MS, _bound(end) // DAY_MS
        if last - first < DAYS_UNASKED:
            yield from range(last, first - 1, -1) if descending else range(first, last + 1)
            return
        statement = "days" if descending else "days_rising"
        for (day,) in self._cql.read(statement, device_id, Date(first), Date(last)):
            yield day.days_from_epoch

    def _hours(self, owner_id: int, start: int, end: int) -> Iterator[tuple[int, list[int]]]:
        """The hours of an owner that have readings, newest first, with their shards."""
        hours: dict[int, list[int]] = {}
        if start <= end:
            for hour, shard in self._cql.read("hours", owner_id, _hour(start), _hour(end)):
                hours.setdefault(hour, []).append(shard)
        yield from hours.items()

    def _feed_part(
        self, statement: str, owner_id: int, hour: int, shards: list[int], *bounds: int
    ) -> list[UserReading]:
        """The readings of an owner's hour, newest first: all its shards at once."""
        session = self._cql.session()
        futures = [
            session.execute_async(
                self._cql.prepared[statement].bind((owner_id, hour, shard, *bounds)),
                timeout=READ_SECONDS,
                execution_profile=PROFILE,
            )
            for shard in shards
        ]
        found = [
            UserReading(ts, device_id, {key: json.loads(values[key]) for key in sorted(values)})
            for future in futures
            for ts, device_id, values in future.result()
            if values
        ]
        return sorted(found, key=lambda reading: (-reading.time, reading.device_id))

    # --- latest values ---------------------------------------------------------------------------
    def _latest(self, places: Sequence[Place]) -> Iterator[dict[str, LatestValue]]:
        session = self._cql.session()
        for chunk in batched(places, IN_FLIGHT):
            futures = [
                session.execute_async(
                    self._cql.prepared["latest"].bind(place),
                    timeout=READ_SECONDS,
                    execution_profile=PROFILE,
                )
                for place in chunk
            ]
            for future in futures:
                yield {
                    key: LatestValue(ts, value[0], from_cell(Cell(*value[1:])))
                    for key, ts, value in future.result()
                }

    def _latest_at(self, *place: int) -> dict[str, LatestValue]:
        return next(self._latest([(place[0], place[1])]))

    def _put_latest(self, deletion: Deletion, values: dict[str, LatestValue]) -> None:
        if values:
            place = deletion.device_id, deletion.next_epoch
            self._send([self._latest_unit(place, deletion.device_type, values, now_ms())])

    def _move_latest(self, deletion: Deletion) -> None:
        """Write the latest values that are left into the next epoch.

        The next older one of a value in the range is looked for within HISTORY_SCAN_ROWS.
        """
        known = self._latest_at(deletion.device_id, deletion.epoch)
        kept = {name: value for name, value in known.items() if value.time not in deletion}
        missing = set(known) - set(kept)
        query = HistoryQuery(deletion.device_id, EARLIEST, LATEST, limit=1)
        rows = self._rows(query, EARLIEST, LATEST, FETCH_ROWS) if missing else ()
        for scanned, (moment, name, *cell) in enumerate(rows):
            if name in missing:
                kept[name] = LatestValue(moment, 0, from_cell(Cell(*cell)))
                missing.remove(name)
            if not missing or scanned > settings.HISTORY_SCAN_ROWS:
                break
        self._put_latest(deletion, kept)

    def _is_there(self, device_id: int, name: str, value: LatestValue) -> bool:
        partition = Date(self.layouts.get().to_read(_bound(value.time)))
        return bool(list(self._cql.read("value", device_id, partition, value.time, name)))

    # --- deleting --------------------------------------------------------------------------------
    def _old_days(self, holder: Holder, keeping: Keeping, now: int) -> Iterator["OldDay"]:
        """What a device has longer than it is to be kept, from the oldest day on."""
        if not keeping.shortest:
            return
        until = now - DAY_MS * keeping.shortest
        known = self.layouts.get()
        for number in self._dates(holder.device_id, EARLIEST, until, descending=False):
            everything = known.of_day(number, EARLIEST, LATEST, descending=False, everywhere=True)
            parts, day = [Date(part) for part in everything], Date(number)
            if keeping.longest and _end_of(day) <= now - DAY_MS * keeping.longest:
                parts = [p for p in parts if list(self._cql.read("first", holder.device_id, p))]
                if parts:
                    yield OldDay(day, parts, True, [])
                continue
            values = [
                (part, *value)
                for part in parts
                for value in _old_values(
                    self._cql.read("keys", holder.device_id, part, _bound(until)), keeping, now
                )
            ]
            if values:
                yield OldDay(day, parts, False, values)

    def _enforce_latest(self, holder: Holder, keeping: Keeping, now: int) -> None:
        """Deleted at their own time, they hide only what is older, and so not kept either."""
        place = holder.device_id, holder.epoch
        self._cql.execute_all(
            ("delete_latest_value", 1000 * value.time, *place, name)
            for name, value in self._latest_at(*place).items()
            if _is_old(value.time, keeping.of(name), now)
        )

    def _enforce_feed(self, holder: Holder, keeping: Keeping, now: int) -> None:
        if not keeping.shortest:
            return
        until = now - DAY_MS * keeping.shortest
        rows = self._feed_rows(holder.device_id, holder.owner_id, EARLIEST, until)
        self._cql.execute_all(
            ("delete_feed_value", name, holder.owner_id, hour, shard, ts, holder.device_id)
            for hour, shard, ts, names in rows
            for name in names
            if _is_old(ts, keeping.of(name), now)
        )

    def _delete_feed(self, device_id: int, owner_id: int, start: int, end: int) -> None:
        places = self._feed_places(device_id, owner_id, start, end)
        self._cql.execute_all(("delete_feed", owner_id, *place, device_id) for place in places)

    def _feed_places(
        self, device_id: int, owner_id: int, start: int, end: int
    ) -> Iterator[tuple[int, int, int]]:
        """Hour, shard and time of a device's readings in its owner's feed."""
        for *place, _ in self._feed_rows(device_id, owner_id, start, end):
            yield place[0], place[1], place[2]

    def _feed_rows(
        self, device_id: int, owner_id: int, start: int, end: int
    ) -> Iterator[tuple[int, int, int, list[str]]]:
        """The same, each with its measurements."""
        start = max(start, feed_start(now_ms()) - HOUR_MS)
        shard = device_id % SHARDS
        for hour, shards in self._hours(owner_id, start, end):
            if shard not in shards:
                continue
            rows = self._cql.read("feed", owner_id, hour, shard, start, end, 2**31 - 1)
            for ts, of_device, values in rows:
                if of_device == device_id:
                    yield hour, shard, ts, list(values or ())


class OldDay(NamedTuple):
    """What of a device's day is overdue: the whole, or these values by partition, time and
    measurement.
    """

    day: Date
    parts: list[Date]  # its partitions
    is_whole: bool
    values: list[tuple[Date, int, str]]

    def count_in(self, found: Overdue) -> None:
        if self.is_whole:
            found.days += 1
            found.span(_end_of(self.day) - DAY_MS + 1, _end_of(self.day))
        elif self.values:
            # In two places while days are moved, and one value all the same.
            values = {(time, key) for _, time, key in self.values}
            found.values += sum(1 for _, key in values if key)
            times = [time for time, _ in values]
            found.span(min(times), max(times))


class Unit(NamedTuple):
    """Statements on one partition, which belong together, and about how many bytes they are."""

    statements: list[Bound]
    size: int


def packed(units: Iterable[Unit], most: int) -> Iterator[tuple[list[Bound], int]]:
    """The units' statements in batches of `most` bytes at the most, and how many they are.

    A unit that is larger by itself is a batch of its own: Cassandra bounds the size of batches
    across partitions only.
    """
    batch: list[Bound] = []
    size = 0
    for unit in units:
        if batch and size + unit.size > most:
            yield batch, size
            batch, size = [], 0
        batch += unit.statements
        size += unit.size
    if batch:
        yield batch, size


def by_replicas(session: Session, units: list[Unit]) -> list[list[Unit]]:
    """Units by the nodes that hold them, so that no coordinator carries foreign partitions.

    Where every node holds everything, as three do at a replication factor of three, that is one
    group, found with one look at the ring instead of one for each unit.
    """
    if not units:
        return []
    metadata = session.cluster.metadata
    nodes = metadata.all_hosts()
    if len(nodes) == 1 or len(_replicas(metadata, units[0])) == len(nodes):
        return [units]
    here = settings.CASSANDRA_DATACENTER
    near = frozenset(id(node) for node in nodes if here in ("", node.datacenter))
    groups: dict[frozenset[int], list[Unit]] = {}
    for unit in units:
        groups.setdefault(near.intersection(map(id, _replicas(metadata, unit))), []).append(unit)
    return list(groups.values())


def _replicas(metadata: Any, unit: Unit) -> list[Any]:
    key = unit.statements[0].routing_key
    replicas: list[Any] = metadata.get_replicas(settings.CASSANDRA_KEYSPACE, key)
    return replicas


class Marks:
    """What this process has noted lately: bounded, and forgotten after MARK_SECONDS."""

    def __init__(self) -> None:
        self._at: OrderedDict[tuple[Any, ...], float] = OrderedDict()

    def is_new(self, mark: tuple[Any, ...]) -> bool:
        return self._at.get(mark, 0.0) + MARK_SECONDS < time.monotonic() or mark not in self._at

    def add(self, marks: Iterable[tuple[Any, ...]]) -> None:
        now = time.monotonic()
        for mark in marks:
            self._at[mark] = now
            self._at.move_to_end(mark)
        while len(self._at) > MARKS:
            self._at.popitem(last=False)


class _Silent:
    def write(self, text: str) -> None:
        """sync_cassandra tells every table; setup_stores tells the store."""


class Widths:
    """How many rows a reading of a device has, as last seen: so no more are read than asked for."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}

    def rows(self, device_id: int, times: int) -> int:
        """How many rows to read at once for so many times."""
        return min(max(times * self._of.get(device_id, 4), FETCH_LEAST), FETCH_ROWS)

    def note(self, device_id: int, rows: int, times: int) -> None:
        if times:
            if len(self._of) >= WIDTHS:
                self._of.clear()
            self._of[device_id] = -(-rows // times)


def _is_old(ts: int, days: int, now: int) -> bool:
    return bool(days) and ts <= now - DAY_MS * days


def _old_values(
    rows: Iterable[tuple[int, str]], keeping: Keeping, now: int
) -> Iterator[tuple[int, str]]:
    """Of (time, measurement) by time those that are overdue; metadata with the last of its time."""
    for ts, of_time in groupby(rows, key=itemgetter(0)):
        names = [name for _, name in of_time]
        old = [name for name in names if name and _is_old(ts, keeping.of(name), now)]
        if METADATA_KEY in names and len(old) == len(names) - 1:
            old.append(METADATA_KEY)
        yield from ((ts, name) for name in old)


def _bound(ms: int) -> int:
    return min(max(ms, EARLIEST), LATEST)


def _day(ms: int) -> date:
    return (EPOCH + timedelta(days=_bound(ms) // DAY_MS)).date()


def _end_of(day: Date) -> int:
    """The last millisecond of a day."""
    return min(day.days_from_epoch * DAY_MS + DAY_MS - 1, LATEST)


def _hour(ms: int) -> int:
    return _bound(ms) // HOUR_MS * HOUR_MS


def _feed_ttl(reading: Reading, now: int) -> int:
    """How many seconds a reading belongs to the feed; 0 where it is too old for it.

    Capped for what is dated far ahead: Cassandra refuses to expire anything after 2038.
    """
    return max(0, min((reading.time - feed_start(now)) // 1000, FEED_TTL_MAX))


def _feed_key(reading: Reading) -> tuple[int, int, int]:
    """The partition of a reading in its owner's feed."""
    return reading.owner_id, _hour(reading.time), reading.device_id % SHARDS
