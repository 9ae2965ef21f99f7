"""Reads of the event log."""

from collections.abc import Iterator
from datetime import timedelta

from events.cursors import EventCursor
from events.models import EventLog
from events.parameters import EventParameters
from events.querysets import EventLogs
from iotflow.lib.timeparse import now_ms, to_datetime, to_ms

REST_OF_MS = timedelta(microseconds=999)
SECOND_MS = 1000
SLICE_GROWTH = 8


def page(visible: EventLogs, asked: EventParameters) -> tuple[list[EventLog], str | None]:
    """Of what is visible, the events asked for, newest first; and the next page's cursor."""
    asked.filters.queryset = visible
    events, start, end = asked.filters.qs, asked.span.start, asked.span.end
    until = end
    if (cursor := asked.cursor) is not None:
        events = events.older_than(cursor.time, cursor.event_id)
        start, end, until = cursor.start, cursor.end, to_ms(cursor.time)
    rows = newest(events, start, until, asked.limit + 1)
    if len(rows) <= asked.limit:
        return rows, None
    last = rows[asked.limit - 1]
    return rows[: asked.limit], EventCursor(start, end, last.time, last.id).encode()


def newest(events: EventLogs, start: int, end: int, most: int) -> list[EventLog]:
    """The newest of these events, `most` of them, from `start` to `end`, in ms and included."""
    rows: list[EventLog] = []
    for low, high in slices(start, end):
        part = events.newest_first().between(to_datetime(low), to_datetime(high) + REST_OF_MS)
        rows += part[: most - len(rows)]
        if len(rows) == most:
            break
    return rows


def slices(start: int, end: int, growth: int = SLICE_GROWTH) -> Iterator[tuple[int, int]]:
    """`start` to `end`, newest first, in slices of a second, `growth` seconds, …; all in ms.

    MongoDB sorts what matches before it gives the first: Django's backend names the fields anew
    between the two, which keeps the index from being used for both. A page reads a slice at most.
    """
    width = SECOND_MS
    low = max(start, min(end, now_ms()) - width)
    while True:
        yield low, end
        if low <= start:
            return
        width *= growth
        end = low - 1
        low = max(start, end - width)


def later_slices(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The same, oldest first."""
    width = SECOND_MS
    end = min(end, now_ms() + SECOND_MS)
    while start <= end:
        yield start, min(start + width, end)
        start += width + 1
        width *= SLICE_GROWTH
