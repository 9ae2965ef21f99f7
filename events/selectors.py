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
    events, start, end = asked.filters.qs.newest_first(), asked.span.start, asked.span.end
    until = end
    if (cursor := asked.cursor) is not None:
        events = events.older_than(cursor.time, cursor.event_id)
        start, end, until = cursor.start, cursor.end, to_ms(cursor.time)
    rows: list[EventLog] = []
    for low, high in slices(start, until):
        rows += events.between(to_datetime(low), to_datetime(high) + REST_OF_MS)[
            : asked.limit + 1 - len(rows)
        ]
        if len(rows) > asked.limit:
            last = rows[asked.limit - 1]
            return rows[: asked.limit], EventCursor(start, end, last.time, last.id).encode()
    return rows, None


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
