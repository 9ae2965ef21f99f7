"""Reads of telemetry, in the shape they are answered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError

from accounts.models import User
from devices.key_cache import DeviceRecord
from devices.models import Device
from iotflow.lib.timeparse import EARLIEST, format_ms
from telemetry import charts
from telemetry.aggregates import PERCENTILES, Window, of_summaries, of_values
from telemetry.cursors import FeedCursor, HistoryCursor
from telemetry.latest import latest, latest_of
from telemetry.parameters import AggregateParameters, FeedParameters, HistoryParameters
from telemetry.plans import Budget, Source
from telemetry.readings import HistoryPage, HistoryQuery, LatestValue, StoredReading
from telemetry.stores import telemetry_store

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """The device whose telemetry is asked for."""

    id: int
    owner_id: int
    name: str
    device_type: str
    latest_epoch: int

    @classmethod
    def of(cls, device: DeviceRecord) -> "Subject":
        return cls(device.id, device.owner_id, device.name, device.device_type, device.latest_epoch)

    def heading(self) -> Body:
        return {
            "device_id": self.id,
            "device_name": self.name,
            "device_type": self.device_type,
        }


def history_body(subject: Subject, asked: HistoryParameters) -> Body:
    """A page of a device's readings, as it is answered. Raises StoreAway."""
    page, next_cursor = history(subject.id, asked)
    return {
        **subject.heading(),
        "start_time": asked.span.start_text,
        "end_time": asked.span.end_text,
        "data": [reading_body(reading) for reading in page.readings],
        "count": len(page.readings),
        "cassandra_available": cassandra_available(),
        "next_cursor": next_cursor,
    }


def history(device_id: int, asked: HistoryParameters) -> tuple[HistoryPage, str | None]:
    """A page of a device's readings and the cursor of the next one. Raises StoreAway."""
    start, end, after = asked.span.start, asked.span.end, None
    if asked.cursor is not None:
        start, end, after = asked.cursor.start, asked.cursor.end, asked.cursor.after
    page = telemetry_store().history(
        HistoryQuery(
            device_id=device_id,
            start=start,
            end=end,
            limit=asked.limit,
            descending=asked.descending,
            after=after,
            fields=asked.fields,
        )
    )
    if page.next_after is None:
        return page, None
    return page, HistoryCursor(asked.descending, start, end, page.next_after).encode()


def reading_body(reading: StoredReading) -> dict[str, Any]:
    body: dict[str, Any] = {
        "timestamp": format_ms(reading.time),
        "measurements": reading.values,
    }
    if reading.metadata is not None:
        body["metadata"] = reading.metadata
    return body


def latest_body(subject: Subject, cached: Mapping[bytes, bytes] | None = None) -> Body:
    """The newest values, their newest time, and whether Cassandra is there. Raises StoreAway.

    `cached` is what Redis has of the device, where that has been asked already.
    """
    return {
        **subject.heading(),
        **_latest_body(latest(subject.id, subject.latest_epoch, cached)),
        "cassandra_available": cassandra_available(),
    }


def latest_bodies(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """The newest values of each device, in their order: one round trip. Raises StoreAway."""
    places = {device.pk: (device.pk, device.latest_epoch) for device in devices}
    values = latest_of(list(places.values()))
    return [
        {
            "device_id": device.pk,
            "device_name": device.name,
            "device_type": device.device_type,
            **_latest_body(values[places[device.pk]]),
        }
        for device in devices
    ]


def _latest_body(values: dict[str, LatestValue]) -> dict[str, Any]:
    newest = max((value.time for value in values.values()), default=None)
    return {
        "latest_data": {name: value.value for name, value in values.items()},
        "timestamp": None if newest is None else format_ms(newest),
    }


def aggregated(
    subject: Subject, asked: AggregateParameters
) -> tuple[list[dict[str, Any]], int | None]:
    """The windows asked for, oldest first; and from when on there may be more, or None.

    Reads at most AGGREGATE_SCAN_VALUES values or rollups and answers at most AGGREGATE_WINDOWS_MAX
    windows; a window that was not read to its end is left for the next call. Raises StoreAway,
    and ValidationError where one window alone has too many values.
    """
    calendar, most = asked.calendar, settings.AGGREGATE_WINDOWS_MAX
    budget = Budget(settings.AGGREGATE_SCAN_VALUES)
    span = asked.span.start, asked.span.end + 1
    source = Source(subject.id, subject.device_type, asked.field, *span, budget)
    found = list(islice(_windows(source, asked), most + 1))
    if budget.spent and len(found) == 1:
        limit = settings.AGGREGATE_SCAN_VALUES
        raise ValidationError(
            {"window": [f"One has more than {limit} values; ask for shorter ones."]}
        )
    more = found.pop().start if found and (budget.spent or len(found) > most) else None
    if asked.points is not None:
        found = charts.thinned(found, calendar, asked.points, gaps=asked.fill)
    elif asked.fill:
        stop = source.stop if more is None else more
        found = list(islice(charts.filled(found, calendar, source.start, stop), most + 1))
        more = found.pop().start if len(found) > most else more
    rows = [
        {
            "timestamp": format_ms(max(window.start, EARLIEST)),
            "value": window.value,
            "count": window.size,
        }
        for window in found
    ]
    return rows, None if more is None else max(more, EARLIEST)


def _windows(source: Source, asked: AggregateParameters) -> Iterator[Window]:
    """Percentiles take every value; for the rest summaries of them do."""
    if asked.aggregation in PERCENTILES:
        return of_values(source.values(), asked.calendar, asked.aggregation)
    pieces = source.summaries(asked.calendar, asked.aggregation)
    return of_summaries(pieces, asked.calendar, asked.aggregation)


def feed(user: User, asked: FeedParameters) -> tuple[list[dict[str, Any]], str | None]:
    """Newest values across a user's devices, at most `limit`, and the cursor of the next page."""
    start, end, until = asked.span.start, asked.span.end, None
    cursor = asked.cursor
    if cursor is not None:
        start, end, until = cursor.start, cursor.end, (cursor.time, cursor.device_id)
    # A reading has at least one value: one reading more than values asked for is enough to see
    # whether there is a next page, even where the first one was given in part already.
    readings = telemetry_store().feed(user.pk, start, end, asked.limit + 2, until)
    entries = [
        (reading.time, reading.device_id, name, value)
        for reading in readings
        for name, value in reading.values.items()
        if cursor is None
        or (reading.time, reading.device_id) != (cursor.time, cursor.device_id)
        or name > cursor.name
    ]
    page = entries[: asked.limit]
    names = dict(
        Device.objects.filter(pk__in={entry[1] for entry in page}).values_list("pk", "name")
    )
    rows = [
        {
            "device_id": device_id,
            "device_name": names[device_id],
            "timestamp": format_ms(time),
            "measurement_name": name,
            "value": value,
        }
        for time, device_id, name, value in page
        if device_id in names
    ]
    if len(entries) <= asked.limit:
        return rows, None
    time, device_id, name, _ = page[-1]
    return rows, FeedCursor(start, end, time, device_id, name).encode()


def cassandra_available() -> bool:
    """Whether readings are in Cassandra and it is not known to be away."""
    store = telemetry_store()
    return store.is_cassandra and not store.is_away()
