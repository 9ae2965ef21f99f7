"""Telemetry on the relational database: the embedded default, and enough for a small install."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db import DatabaseError, DataError, connection, transaction
from django.db.models import Q, QuerySet

from iotflow.lib import json
from iotflow.lib.batches import batched, delete_in_pieces
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import now_ms
from telemetry.models import DeviceData, LatestData, UserData
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
from telemetry.stores.base import Refused
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
        now = now_ms()
        try:
            with transaction.atomic():
                self._write_values(ordered, _expiry(now))
                self._write_latest(ordered, _expiry(now))
                self._write_feed(ordered, now)
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
        wanted = rows.filter(ts__gte=min(page), ts__lte=max(page)).order_by(order)
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
        rows = UserData.objects.filter(user_id=owner_id, ts__gte=start, ts__lte=end)
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
        _delete_by_time(DeviceData.objects.filter(span))
        with transaction.atomic():
            stale = list(LatestData.objects.filter(span).values_list("key", flat=True))
            DeviceData.objects.filter(span).delete()
            LatestData.objects.filter(span).delete()
            UserData.objects.filter(span, user_id=owner_id).delete()
            survivors = [
                reading for key in stale for reading in self._newest_left(device_id, owner_id, key)
            ]
            self._write_latest(survivors, _expiry(now_ms()))

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

    def purge(self, now: int) -> int:
        delete_in_pieces(LatestData.objects.filter(expires__lte=now))
        delete_in_pieces(UserData.objects.filter(ts__lt=feed_start(now)))
        return delete_in_pieces(DeviceData.objects.filter(expires__lte=now))

    def ping(self) -> str:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError as error:
            raise StoreAway("The telemetry store") from error
        return connection.display_name

    def is_away(self) -> bool:
        return False

    def _write_values(self, readings: Sequence[Reading], expires: int | None) -> None:
        DeviceData.objects.bulk_create(
            (
                DeviceData(
                    device_id=reading.device_id,
                    ts=reading.time,
                    key=key,
                    expires=expires,
                    **cell._asdict(),
                )
                for reading in readings
                for key, cell in cells_of(reading)
            ),
            update_conflicts=True,
            unique_fields=["device_id", "ts", "key"],
            update_fields=[*CELL, "expires"],
        )

    def _write_latest(self, readings: Sequence[Reading], expires: int | None) -> None:
        rows = [
            (device_id, key, latest.time, latest.written, expires, *to_cell(latest.value))
            for (device_id, _), values in sorted(newest(readings).items())
            for key, latest in sorted(values.items())
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

    def _write_feed(self, readings: Sequence[Reading], now: int) -> None:
        UserData.objects.bulk_create(
            (
                UserData(
                    user_id=reading.owner_id,
                    ts=reading.time,
                    device_id=reading.device_id,
                    key=key,
                    value=json.dumps(value).decode(),
                )
                for reading in readings
                if reading.time >= feed_start(now)
                for key, value in reading.values.items()
            ),
            update_conflicts=True,
            unique_fields=["user_id", "ts", "device_id", "key"],
            update_fields=["value"],
        )

    def _newest_left(self, device_id: int, owner_id: int, key: str) -> Iterator[Reading]:
        left = _unexpired(DeviceData.objects.filter(device_id=device_id, key=key))
        for ts, *cell in left.order_by("-ts").values_list("ts", *CELL)[:1]:
            yield Reading(device_id, owner_id, ts, 0, {key: from_cell(Cell(*cell))})


def cells_of(reading: Reading) -> Iterable[tuple[str, Cell]]:
    """The cells that a reading is stored as, its metadata among them."""
    for key, value in reading.values.items():
        yield key, to_cell(value)
    if reading.metadata is not None:
        yield METADATA_KEY, to_cell(dict(reading.metadata))


def feed_start(now: int) -> int:
    """The earliest time that an owner's feed goes back to."""
    return now - DAY_MS * settings.USER_FEED_DAYS


def _delete_by_time(rows: QuerySet[Any]) -> None:
    """Delete rows in pieces of DELETE_SPAN, from the oldest on; the last piece is left."""
    times = rows.order_by("ts").values_list("ts", flat=True)
    while edge := list(times[DELETE_SPAN : DELETE_SPAN + 1]):
        rows.filter(ts__lte=edge[0]).delete()


def _expiry(now: int) -> int | None:
    days = settings.TELEMETRY_RETENTION_DAYS
    return now + DAY_MS * days if days else None


def _unexpired(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(Q(expires=None) | Q(expires__gt=now_ms()))
