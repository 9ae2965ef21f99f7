"""What staff ask of the event log in the admin site: the filters of the API and more."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import django_filters
from django.db.models import Q
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from events import sinks
from events.cursors import event_cursor
from events.filters import EventFilter
from events.models import EventLog
from events.parameters import EventParameters
from events.querysets import EventLogs
from events.selectors import REST_OF_MS, later_slices, page, slices
from iotflow.lib.spans import Span, parse_span
from iotflow.lib.timeparse import to_datetime, to_ms

PAGE = 50
SEARCHED_MAX = 50_000  # documents that a free text is looked for in
UNUSED_SHARE = 0.5  # of them that need not be used up: coming nearer takes more counting
UNINDEXED = ("address", "request_id", "q")  # what is looked for event by event
SEARCH_SECONDS = 5.0  # that this may take
NAMES = ("start_time", "end_time", "severity", "kind", "device_id", "user_id", *UNINDEXED)


class BrowseFilter(EventFilter):
    """For staff alone: where others acted from is theirs to see."""

    address = django_filters.CharFilter(max_length=64)
    q = django_filters.CharFilter(max_length=200, method="search")

    def search(self, events: EventLogs, name: str, text: str) -> EventLogs:
        return events.filter(Q(message__icontains=text) | Q(actor__icontains=text))


@dataclass(frozen=True, slots=True)
class Browse:
    """`asked` holds what the query string says, as it said it; `searched_since` where a free
    text was not looked for in the whole range, for there are more events than SEARCHED_MAX.
    """

    asked: dict[str, str]
    parameters: EventParameters
    searched_since: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it may take; None: what is usual."""
        return SEARCH_SECONDS if any(name in self.asked for name in UNINDEXED) else None


def parse(query: QueryDict, limit: int = PAGE) -> Browse:
    """Raises ValidationError naming everything that is wrong."""
    asked = {name: text for name in NAMES if (text := query.get(name, "").strip())}
    filters = BrowseFilter(asked, queryset=EventLog.objects.none())
    errors = {} if filters.is_valid() else dict(filters.errors)
    times = QueryDict(mutable=True)
    times.update({name: asked[name] for name in ("start_time", "end_time") if name in asked})
    try:
        span = parse_span(times)
    except ValidationError as error:
        raise ValidationError(errors | dict(error.detail)) from error  # type: ignore[arg-type]
    if errors:
        raise ValidationError(errors)
    cursor = event_cursor(at) if (at := query.get("cursor")) else None
    return Browse(asked, EventParameters(filters, span, limit, cursor))


def bounded(browse: Browse, visible: EventLogs) -> Browse:
    """The same, where it looks for a text from no earlier than its newest SEARCHED_MAX events."""
    if "q" not in browse.asked:
        return browse
    span = browse.parameters.span
    start = _start_of_newest(visible, span, SEARCHED_MAX)
    if start <= span.start:
        return browse
    narrow = replace(browse.parameters, span=replace(span, start=start))
    return replace(browse, parameters=narrow, searched_since=to_datetime(start))


def _start_of_newest(visible: EventLogs, span: Span, most: int) -> int:
    """From when on, in ms, the span has no more than `most` events, and not many fewer."""
    start, room = span.end + 1, most
    for low, high in slices(span.start, span.end, growth=4):
        counted = _count(visible, low, high, room + 1)
        if counted > room:
            break
        start, room = low, room - counted
    else:
        return span.start
    while room > most * UNUSED_SHARE and start - low > 1:
        middle = (low + start) // 2
        counted = _count(visible, middle, start - 1, room + 1)
        if counted > room:
            low = middle
        else:
            start, room = middle, room - counted
    return min(start, span.end)


def _count(visible: EventLogs, low: int, high: int, most: int) -> int:
    events = visible.between(to_datetime(low), to_datetime(high) + REST_OF_MS)
    return int(events.order_by()[:most].count())


def pages(browse: Browse, visible: EventLogs) -> Iterator[EventLog]:
    """Every event that is asked for, newest first, read page by page. Raises StoreAway."""
    asked = browse.parameters
    while True:
        with sinks.guarded(browse.seconds):
            events, cursor = page(visible, asked)
        yield from events
        if cursor is None:
            return
        asked = replace(asked, cursor=event_cursor(cursor))


def neighbours(
    event: EventLog, browse: Browse, visible: EventLogs
) -> tuple[UUID | None, UUID | None]:
    """The ids of the next newer and the next older event of those asked for; None at an end."""
    asked, span = browse.parameters, browse.parameters.span
    asked.filters.queryset = visible
    events, at = asked.filters.qs, to_ms(event.time)
    newer = events.filter(Q(time__gt=event.time) | Q(time=event.time, id__gt=event.id))
    older = events.older_than(event.time, event.id)
    return (
        _first(newer.order_by("time", "id"), later_slices(max(at, span.start), span.end)),
        _first(older.newest_first(), slices(span.start, min(at, span.end))),
    )


def _first(events: EventLogs, parts: Iterator[tuple[int, int]]) -> UUID | None:
    for low, high in parts:
        part = events.between(to_datetime(low), to_datetime(high) + REST_OF_MS)
        if (found := part.values_list("pk", flat=True).first()) is not None:
            return UUID(str(found))
    return None
