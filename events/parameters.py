"""What is asked of the event log; each bad query string is a 400."""

from dataclasses import dataclass

from django.conf import settings
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from events.cursors import EventCursor, event_cursor
from events.filters import EventFilter
from events.models import EventLog
from iotflow.lib.pagination import whole_number
from iotflow.lib.spans import Span, parse_span


@dataclass(frozen=True, slots=True)
class EventParameters:
    """A page of the event log as asked for."""

    filters: EventFilter
    span: Span
    limit: int
    cursor: EventCursor | None


def parse_query(query: QueryDict) -> EventParameters:
    """The query string of the event log; a 400 names everything that is wrong with it."""
    filters = EventFilter(query, queryset=EventLog.objects.none())
    errors = {} if filters.is_valid() else dict(filters.errors)
    try:
        span = parse_span(query)
    except ValidationError as error:
        raise ValidationError(errors | dict(error.detail)) from error  # type: ignore[arg-type]
    if errors:
        raise ValidationError(errors)
    return EventParameters(
        filters=filters,
        span=span,
        limit=whole_number(query, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX),
        cursor=event_cursor(text) if (text := query.get("cursor")) else None,
    )
