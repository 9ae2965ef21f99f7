"""Telemetry on the relational database: the embedded default, and enough for a small install."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.core.management.color import no_style
from django.db import DatabaseError, DataError, connection, transaction
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Left
from django.db.models.lookups import Exact

from iotflow.lib import json
from iotflow.lib.batches import batched, delete_in_pieces, unheard
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import now_ms
from telemetry import retention
from telemetry.models import (
    DeviceData,
    LatestData,
    Rollup,
    RollupMark,
    RollupProgress,
    UserData,
)
from telemetry.readings import (
    Deletion,
    HistoryPage,
    HistoryQuery,
    LatestValue,
    Place,
    Reading,
    UserReading,
    Value,
    merged,
    newest,
)
from telemetry.retention import Keeping, Rules
from telemetry.stores.base import Holder, Overdue, Refused
from telemetry.stores.cells import METADATA_KEY, Cell, from_cell, to_cell, to_readings

DAY_MS = 86_400_000
CELL = Cell._fields
# Ten columns a row: below the 999 parameters that any SQLite takes.
LATEST_ROWS = 90
DELETE_SPAN = 20_000
VALUES_PAGE = 5000
LATEST_UPSERT = """
    INSERT INTO latest_data (device_id, key, ts, written, expires, {columns}) VALUES {rows}
    ON CONFLICT (device_id, key) DO UPDATE SET
        ts = excluded.ts, written = excluded.written, expires = excluded.expires, {updates}
    WHERE excluded.ts > latest_data.ts
       OR (excluded.ts = latest_data.ts AND excluded.written >= latest_data.written)
"""


class SqlStore:
    name = "relational"
    is_cassandra = False

    def write(self, readings: Sequence[Reading]) -> None:
        # In one order everywhere, so that two writers never wait for each other in a circle.
        ordered = sorted(merged(readings), key=lambda r: (r.device_id, r.time))
        now, rules = now_ms(), retention.rules()
        try:
            with transaction.atomic():
                self._write_values(ordered, rules, now)
                self._write_latest(ordered, rules, now)
                self._write_feed(ordered, rules, now)
        except (DataError, OverflowError) as error:
            raise Refused(str(error)) from error
        except DatabaseError as error:
            raise StoreAway("The telemetry store") from error

    def history(self, query: HistoryQuery) -> HistoryPage:
        start, end = query.bounds
        rows = _unexpired(
            DeviceData.objects.filter(device_id=query.device_id, ts__gte=start, ts__lte=end)
        )
        order = "-ts" if query.descending else "ts"
        values = (
            rows.filter(key__in=query.fields) if query.fields else rows.exclude(key=METADATA_KEY)
        )
        times = list(
            values.order_by(order).values_list("ts", flat=True).distinct()[: query.limit + 1]
        )
        page = times[: query.limit]
        if not page:
            return HistoryPage([], None)
        # From the start: SQLite searches by the first bounds it is given, here those of the query.
        wanted = _unexpired(
            DeviceData.objects.filter(
                device_id=query.device_id, ts__gte=min(page), ts__lte=max(page)
            )
        ).order_by(order)
        if query.fields:
            wanted = wanted.filter(key__in=[*query.fields, METADATA_KEY])
        readings = to_readings(wanted.values_list("ts", "key", *CELL))
        return HistoryPage(readings, page[-1] if len(times) > query.limit else None)

    def latest(self, places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
        found: dict[int, dict[str, LatestValue]] = {device_id: {} for device_id, _ in places}
        rows = _unexpired(LatestData.objects.filter(device_id__in=found)).order_by("key")
        for device_id, key, ts, written, *cell in rows.values_list(
            "device_id", "key", "ts", "written", *CELL
        ):
            found[device_id][key] = LatestValue(ts, written, from_cell(Cell(*cell)))
        return {place: dict(sorted(found[place[0]].items())) for place in places}

    def values(
        self, device_id: int, name: str, start: int, end: int
    ) -> Iterator[tuple[int, Value]]:
        rows = _unexpired(
            DeviceData.objects.filter(device_id=device_id, ts__gte=start, ts__lte=end, key=name)
        )
        while page := list(rows.order_by("ts").values_list("ts", *CELL)[:VALUES_PAGE]):
            for ts, *cell in page:
                yield ts, from_cell(Cell(*cell))
            rows = rows.filter(ts__gt=page[-1][0])

    def feed(
        self, owner_id: int, start: int, end: int, limit: int, until: tuple[int, int] | None
    ) -> list[UserReading]:
        start = max(start, feed_start(now_ms()))
        rows = _unexpired(UserData.objects.filter(user_id=owner_id, ts__gte=start, ts__lte=end))
        if until is not None:
            time, device_id = until
            rows = rows.filter(Q(ts__lt=time) | Q(ts=time, device_id__gte=device_id))
        places = rows.order_by("-ts", "device_id").values_list("ts", "device_id").distinct()
        found: dict[tuple[int, int], dict[str, Any]] = {place: {} for place in places[:limit]}
        if not found:
            return []
        times = {ts for ts, _ in found}
        wanted = rows.filter(ts__gte=min(times), ts__lte=max(times))
        for ts, device_id, key, value in wanted.values_list("ts", "device_id", "key", "value"):
            if (ts, device_id) in found:
                found[ts, device_id][key] = json.loads(value)
        return [
            UserReading(*place, dict(sorted(values.items()))) for place, values in found.items()
        ]

    def delete(self, deletion: Deletion) -> None:
        device_id, owner_id = deletion.device_id, deletion.owner_id
        span = Q(device_id=device_id, ts__gte=deletion.start, ts__lte=deletion.end)
        for piece in _pieces(DeviceData.objects.filter(span)):
            piece.delete()
        with transaction.atomic():
            stale = list(LatestData.objects.filter(span).values_list("key", flat=True))
            DeviceData.objects.filter(span).delete()
            LatestData.objects.filter(span).delete()
            UserData.objects.filter(span, user_id=owner_id).delete()
            survivors = [reading for key in stale for reading in self._newest_left(deletion, key)]
            self._write_latest(survivors, retention.rules(), now_ms())

    def carry_latest(self, deletion: Deletion) -> dict[str, LatestValue]:
        return {}  # there is one place for latest values here, whatever the epoch

    def find_latest(
        self, deletion: Deletion, names: frozenset[str], until: int
    ) -> tuple[dict[str, LatestValue], int | None]:
        return {}, None  # `delete` has found them all

    def drop_latest(self, deletion: Deletion) -> None:
        """The next epoch has the same place here."""

    def count(self, device_id: int, owner_id: int, epoch: int) -> dict[str, int]:
        models = (DeviceData, LatestData, UserData)
        return {
            model._meta.db_table: model._default_manager.filter(device_id=device_id).count()
            for model in models
        }

    def erase(self, device_id: int, owner_id: int, epoch: int) -> None:
        for model in (DeviceData, LatestData, UserData):
            delete_in_pieces(model.objects.filter(device_id=device_id))

    def setup(self) -> None:
        """Its tables come with `manage.py migrate`."""

    def purge(self, now: int, advance: Callable[[int], object] = unheard) -> int:
        delete_in_pieces(LatestData.objects.filter(expires__lte=now))
        delete_in_pieces(UserData.objects.filter(ts__lt=feed_start(now)))
        delete_in_pieces(UserData.objects.filter(expires__lte=now))
        return delete_in_pieces(DeviceData.objects.filter(expires__lte=now), advance)

    def expired(self, now: int) -> int:
        return DeviceData.objects.filter(expires__lte=now).count()

    def overdue(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        found = Overdue()
        for rows, days in _by_measurement(_values_of(DeviceData, holder), keeping):
            kept = rows
            if days:
                old = rows.filter(ts__lte=now - DAY_MS * days)
                sums = old.aggregate(count=Count("ts"), first=Min("ts"), last=Max("ts"))
                found.values += sums["count"]
                found.span(sums["first"], sums["last"])
                kept = rows.filter(ts__gt=now - DAY_MS * days)
            found.misdated += _misdated(kept, days).count()
        return found

    def enforce(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        found = self.overdue(holder, keeping, now)
        for model in (DeviceData, LatestData, UserData):
            for rows, days in _by_measurement(_values_of(model, holder), keeping):
                if days:
                    _delete(rows.filter(ts__lte=now - DAY_MS * days))
                _redate(rows, 0 if model is UserData and _outlives_feed(days) else days)
        every = DeviceData.objects.filter(device_id=holder.device_id)
        values = every.exclude(key=METADATA_KEY).filter(ts=OuterRef("ts"))
        metadata = every.filter(key=METADATA_KEY)
        _delete(metadata.exclude(Exists(values)))
        _redate(metadata, keeping.longest)
        return found

    def is_empty(self) -> bool:
        return not DeviceData.objects.exists()

    def empty(self) -> None:
        models = (DeviceData, LatestData, UserData, Rollup, RollupProgress, RollupMark)
        tables = [model._meta.db_table for model in models]
        connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables))

    def faults(self) -> list[str]:
        return []  # its tables are those of the migrations

    def drift(self) -> list[str]:
        return []

    def largest_partitions(self) -> dict[str, int]:
        return {}

    def clock(self) -> int | None:
        return None

    def ping(self) -> str:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError as error:
            raise StoreAway("The telemetry store") from error
        return connection.display_name

    def is_away(self) -> bool:
        return False

    def is_refusing(self) -> bool:
        return False

    def is_shaky(self) -> bool:
        return False

    def _write_values(self, readings: Sequence[Reading], rules: Rules, now: int) -> None:
        DeviceData.objects.bulk_create(
            (
                DeviceData(
                    device_id=reading.device_id,
                    ts=reading.time,
                    key=key,
                    expires=expires,
                    **to_cell(value)._asdict(),
                )
                for reading in readings
                for expiries in (rules.expiries(reading),)
                for key, value in values_of(reading)
                if (expires := expiries[key]) is None or expires > now
            ),
            update_conflicts=True,
            unique_fields=["device_id", "ts", "key"],
            update_fields=[*CELL, "expires"],
        )

    def _write_latest(self, readings: Sequence[Reading], rules: Rules, now: int) -> None:
        types = {reading.device_id: reading.device_type for reading in readings}
        rows = [
            (device_id, key, latest.time, latest.written, expires, *to_cell(latest.value))
            for (device_id, _), values in sorted(newest(readings).items())
            for key, latest in sorted(values.items())
            if (expires := rules.expiry(types[device_id], key, latest.time)) is None
            or expires > now
        ]
        for chunk in batched(rows, LATEST_ROWS):
            width = len(chunk[0])
            statement = LATEST_UPSERT.format(
                columns=", ".join(CELL),
                updates=", ".join(f"{column} = excluded.{column}" for column in CELL),
                rows=", ".join([f"({', '.join(['%s'] * width)})"] * len(chunk)),
            )
            with connection.cursor() as cursor:
                cursor.execute(statement, [field for row in chunk for field in row])

    def _write_feed(self, readings: Sequence[Reading], rules: Rules, now: int) -> None:
        UserData.objects.bulk_create(
            (
                UserData(
                    user_id=reading.owner_id,
                    ts=reading.time,
                    device_id=reading.device_id,
                    key=key,
                    value=json.dumps(value).decode(),
                    expires=None if _outlives_feed(days) else reading.time + DAY_MS * days,
                )
                for reading in readings
                if reading.time >= feed_start(now)
                for key, value in by_name(reading)
                if not (days := rules.days(reading.device_type, key))
                or reading.time > now - DAY_MS * days
            ),
            update_conflicts=True,
            unique_fields=["user_id", "ts", "device_id", "key"],
            update_fields=["value", "expires"],
        )

    def _newest_left(self, deletion: Deletion, key: str) -> Iterator[Reading]:
        left = _unexpired(DeviceData.objects.filter(device_id=deletion.device_id, key=key))
        for ts, *cell in left.order_by("-ts").values_list("ts", *CELL)[:1]:
            yield Reading(
                deletion.device_id,
                deletion.owner_id,
                ts,
                0,
                {key: from_cell(Cell(*cell))},
                device_type=deletion.device_type,
            )


def by_name(reading: Reading) -> list[tuple[str, Value]]:
    return sorted(reading.values.items(), key=itemgetter(0))


def values_of(reading: Reading) -> Iterable[tuple[str, Value]]:
    """The values that a reading is stored as, by name, and its metadata."""
    yield from by_name(reading)
    if reading.metadata is not None:
        yield METADATA_KEY, dict(reading.metadata)


def feed_start(now: int) -> int:
    """The earliest time that an owner's feed goes back to."""
    return now - DAY_MS * settings.USER_FEED_DAYS


def _outlives_feed(days: int) -> bool:
    """Whether values kept for so many days leave an owner's feed before they expire."""
    return not days or days >= settings.USER_FEED_DAYS


def _pieces(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """The rows in pieces of DELETE_SPAN, from the oldest on, each to be gone from `rows` before
    the next is asked for; what is less than a piece is left.
    """
    times = rows.order_by("ts").values_list("ts", flat=True)
    while edge := list(times[DELETE_SPAN : DELETE_SPAN + 1]):
        yield rows.filter(ts__lte=edge[0])


def _delete(rows: QuerySet[Any]) -> None:
    for piece in chain(_pieces(rows), [rows]):
        piece.delete()


def _values_of(model: type[Any], holder: Holder) -> QuerySet[Any]:
    rows = model.objects.filter(device_id=holder.device_id).exclude(key=METADATA_KEY)
    return rows.filter(user_id=holder.owner_id) if model is UserData else rows


def _by_measurement(rows: QuerySet[Any], keeping: Keeping) -> Iterator[tuple[QuerySet[Any], int]]:
    """The rows in parts by how many days they are kept: each rule's, without those of higher rank.

    Beginnings of names are compared by Left: LIKE does not tell cases apart on SQLite.
    """
    for measurement, days in keeping.days.items():
        if measurement.endswith("*"):
            beginning = measurement[:-1]
            covered = Q(Exact(Left("key", len(beginning)), beginning))
        else:
            covered = Q(key=measurement) if measurement else Q()
        yield rows.filter(covered), days
        rows = rows.exclude(covered) if measurement else rows.none()


def _misdated(rows: QuerySet[Any], days: int) -> QuerySet[Any]:
    """Those that are not to expire when they do."""
    if not days:
        return rows.filter(expires__isnull=False)
    return rows.filter(Q(expires=None) | ~Q(expires=F("ts") + DAY_MS * days))


def _redate(rows: QuerySet[Any], days: int) -> None:
    misdated = _misdated(rows, days)
    for piece in chain(_pieces(misdated), [misdated]):
        piece.update(expires=F("ts") + DAY_MS * days if days else None)


def _unexpired(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(Q(expires=None) | Q(expires__gt=now_ms()))
