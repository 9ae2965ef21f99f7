"""What is asked of the alerts; each bad query string is a 400."""

from dataclasses import dataclass
from typing import Any

import django_filters
from django.conf import settings
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from events import selectors
from events.cursors import EventCursor, event_cursor
from events.filters import NumberFilter
from events.kinds import Severity
from events.models import Alert
from events.querysets import Alerts
from iotflow.lib.pagination import whole_number
from iotflow.lib.spans import NO_END, parse_bounds
from iotflow.lib.timeparse import to_ms

ANY_TIME = "1970-01-01T00:00:00Z"


class AlertFilter(django_filters.FilterSet):
    """Everything but the time."""

    status = django_filters.ChoiceFilter(choices=Alert.Status.choices)
    severity = django_filters.ChoiceFilter(choices=Severity.choices)
    device_id = NumberFilter()
    rule_id = NumberFilter()
    user_id = NumberFilter()

    class Meta:
        model = Alert
        fields = ["status", "severity", "device_id", "rule_id", "user_id"]


@dataclass(frozen=True, slots=True)
class AlertParameters:
    """A page of alerts as asked for; times in ms, both included."""

    filters: AlertFilter
    start: int
    end: int
    limit: int
    cursor: EventCursor | None


def parse_query(query: QueryDict) -> AlertParameters:
    """The query string; a 400 names everything that is wrong with it."""
    filters = AlertFilter(query, queryset=Alert.objects.none())
    errors = {} if filters.is_valid() else dict(filters.errors)
    end_text = query.get("end_time") or ""
    times = {
        "start_time": query.get("start_time") or ANY_TIME,
        "end_time": end_text or "now",
    }
    try:
        start, end = parse_bounds(times, slack_ms=0 if end_text else NO_END)
    except ValidationError as error:
        raise ValidationError(errors | dict(error.detail)) from error  # type: ignore[arg-type]
    if errors:
        raise ValidationError(errors)
    return AlertParameters(
        filters=filters,
        start=start,
        end=end,
        limit=whole_number(query, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX),
        cursor=event_cursor(text) if (text := query.get("cursor")) else None,
    )


def page(visible: Alerts, asked: AlertParameters) -> tuple[list[Alert], str | None]:
    """Of what is visible, the alerts asked for, raised last first; and the next page's cursor."""
    asked.filters.queryset = visible
    found, start, end = asked.filters.qs, asked.start, asked.end
    until = end
    if (cursor := asked.cursor) is not None:
        found = found.older_than(cursor.time, cursor.event_id)
        start, end, until = cursor.start, cursor.end, to_ms(cursor.time)
    rows: list[Any] = selectors.newest(found, start, until, asked.limit + 1)
    if len(rows) <= asked.limit:
        return rows, None
    last = rows[asked.limit - 1]
    return rows[: asked.limit], EventCursor(start, end, last.raised_at, last.id).encode()
