"""The event log as the API shows it, and what clients may ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from events.filters import EventFilter, SpanForm
from events.kinds import Kind, Severity
from events.models import EventLog
from events.querysets import EventLogs
from iotflow.lib import cursors
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import whole_number
from iotflow.lib.timeparse import (
    EARLIEST,
    EPOCH,
    LATEST,
    format_datetime,
    now_ms,
    parse_ms,
    to_datetime,
    to_ms,
)

MICROSECOND = timedelta(microseconds=1)
REST_OF_MS = timedelta(microseconds=999)
DEFAULT_START = "-24h"
SECOND_MS = 1000
SLICE_GROWTH = 8


@dataclass(frozen=True, slots=True)
class EventCursor:
    """The last event given, and the bounds of its query in ms."""

    start: int
    end: int
    time: datetime
    event_id: UUID

    def encode(self) -> str:
        moment = (self.time - EPOCH) // MICROSECOND
        return cursors.encode([self.start, self.end, moment, self.event_id.hex])


def event_cursor(text: str) -> EventCursor:
    """Raises ValidationError (400)."""
    match cursors.decode(text):
        case [int() as start, int() as end, int() as moment, str() as name]:
            within = (EARLIEST <= part <= LATEST for part in (start, end, moment // 1000))
            if all(within) and len(name) == 32:
                try:
                    time = EPOCH + moment * MICROSECOND
                    return EventCursor(int(start), int(end), time, UUID(hex=name))
                except ValueError:
                    pass
    raise ValidationError(cursors.BAD)


@dataclass(frozen=True, slots=True)
class EventParameters:
    """A page of the event log as asked for; `start` and `end` in ms, both included."""

    filters: EventFilter
    start: int
    end: int
    limit: int
    cursor: EventCursor | None

    def page(self, visible: EventLogs) -> tuple[list[EventLog], str | None]:
        """Of what is visible, the events asked for, newest first; and the next page's cursor."""
        self.filters.queryset = visible
        events, end = self.filters.qs.newest_first(), self.end
        if self.cursor is not None:
            events = events.older_than(self.cursor.time, self.cursor.event_id)
            end = to_ms(self.cursor.time)
        rows: list[EventLog] = []
        for low, high in slices(self.start, end):
            rows += events.between(to_datetime(low), to_datetime(high) + REST_OF_MS)[
                : self.limit + 1 - len(rows)
            ]
            if len(rows) > self.limit:
                last = rows[self.limit - 1]
                cursor = EventCursor(self.start, self.end, last.time, last.id)
                return rows[: self.limit], cursor.encode()
        return rows, None


def slices(start: int, end: int) -> Iterator[tuple[int, int]]:
    """`start` to `end`, newest first, in slices of a second, eight, sixty-four, …; all in ms.

    MongoDB sorts what matches before it gives the first: Django's backend names the fields anew
    between the two, which keeps the index from being used for both. A page reads a slice at most.
    """
    width = SECOND_MS
    low = max(start, min(end, now_ms()) - width)
    while True:
        yield low, end
        if low <= start:
            return
        width *= SLICE_GROWTH
        end = low - 1
        low = max(start, end - width)


def parse_events(request: Request) -> EventParameters:
    """The query string of the event log; a 400 names everything that is wrong with it."""
    query = request.query_params
    filters, span = EventFilter(query, queryset=EventLog.objects.none()), SpanForm(query)
    errors = {} if filters.is_valid() else dict(filters.errors)
    if not span.is_valid():
        errors |= span.errors
    if errors:
        raise ValidationError(errors)
    limit = whole_number(request, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX)
    if query.get("cursor"):
        cursor = event_cursor(query["cursor"])
        return EventParameters(filters, cursor.start, cursor.end, limit, cursor)
    start, end = span.cleaned_data["start_time"], span.cleaned_data["end_time"]
    if start is None:
        start = parse_ms(DEFAULT_START, now_ms())
    return EventParameters(filters, start, LATEST if end is None else end, limit, None)


def event_body(event: EventLog, viewer: Any) -> dict[str, Any]:
    """An event as `viewer` may see it: where somebody else acted from is for staff."""
    own = event.actor == f"user:{viewer.get_username()}" or event.actor.startswith("device:")
    return {
        "id": str(event.id),
        "time": format_datetime(event.time),
        "kind": event.kind,
        "severity": event.severity,
        "message": event.message,
        "actor": event.actor,
        "user_id": event.user_id,
        "device_id": event.device_id,
        "address": event.address if own or viewer.is_staff else "",
        "request_id": event.request_id,
        "payload": event.payload,
    }


class EventBody(serializers.Serializer[Any]):
    """`user_id` is the integer id of the user whose things it is about.

    `address` is empty where no client asked for it, and, but for staff, where somebody else did.
    """

    id = serializers.UUIDField()
    time = Instant()
    kind = serializers.ChoiceField(choices=Kind.choices)
    severity = serializers.ChoiceField(choices=Severity.choices)
    message = serializers.CharField(allow_blank=True, max_length=500)
    actor = serializers.CharField(max_length=200)
    user_id = serializers.IntegerField(allow_null=True)
    device_id = serializers.IntegerField(allow_null=True)
    address = serializers.CharField(allow_blank=True, max_length=64)
    request_id = serializers.CharField(allow_blank=True, max_length=64)
    payload = serializers.DictField(child=serializers.JSONField())


class EventList(serializers.Serializer[Any]):
    status = serializers.CharField()
    events = EventBody(many=True)
    count = serializers.IntegerField(min_value=0)
    next_cursor = serializers.CharField(allow_null=True)


class EventAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    event = EventBody()
