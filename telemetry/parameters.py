"""What is asked of telemetry: query strings, and ranges to delete; each bad one is a 400."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.http import QueryDict
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from iotflow.lib.pagination import whole_number
from iotflow.lib.spans import Span, parse_bounds, parse_span
from iotflow.lib.timeparse import UNITS
from telemetry.aggregates import AGGREGATIONS
from telemetry.cursors import FeedCursor, HistoryCursor, feed_cursor, history_cursor
from telemetry.windows import Calendar

WINDOW = re.compile(r"([1-9]\d{0,6})([smhdw])", re.ASCII)
WINDOW_MIN, WINDOW_MAX = UNITS["m"], 30 * UNITS["d"]
FORMATS = ("csv", "ndjson")


@dataclass(frozen=True, slots=True)
class HistoryParameters:
    span: Span
    limit: int
    descending: bool
    fields: frozenset[str]
    cursor: HistoryCursor | None


def parse_history(request: Request) -> HistoryParameters:
    """The query string of a history; a 400 names what is wrong."""
    query = request.query_params
    descending = _descending(query, "desc")
    cursor = history_cursor(query["cursor"]) if query.get("cursor") else None
    if cursor is not None and cursor.descending != descending:
        raise ValidationError({"cursor": ["Belongs to a query with the other order."]})
    return HistoryParameters(
        span=_span(query),
        limit=whole_number(request, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        descending=descending,
        fields=_fields(query),
        cursor=cursor,
    )


@dataclass(frozen=True, slots=True)
class FeedParameters:
    span: Span
    limit: int
    cursor: FeedCursor | None


def parse_feed(request: Request) -> FeedParameters:
    query = request.query_params
    return FeedParameters(
        span=_span(query),
        limit=whole_number(request, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        cursor=feed_cursor(query["cursor"]) if query.get("cursor") else None,
    )


@dataclass(frozen=True, slots=True)
class AggregateParameters:
    span: Span
    field: str
    aggregation: str
    calendar: Calendar
    window_text: str


def parse_aggregate(query: QueryDict) -> AggregateParameters:
    """The query string of an aggregate; a 400 names everything that is wrong."""
    errors: dict[str, list[str]] = {}
    if not (name := query.get("field") or ""):
        errors["field"] = ["Name the measurement to aggregate."]
    aggregation = query.get("aggregation") or "mean"
    if aggregation not in AGGREGATIONS:
        errors["aggregation"] = [f"Must be one of: {', '.join(AGGREGATIONS)}."]
    window_text = query.get("window") or "1h"
    found = WINDOW.fullmatch(window_text)
    window = int(found[1]) * UNITS[found[2]] if found else 0
    if not WINDOW_MIN <= window <= WINDOW_MAX:
        errors["window"] = ["Must be a length from 1m to 30d, such as 15m, 1h or 7d."]
    try:
        span = _span(query)
    except ValidationError as error:
        raise ValidationError(errors | dict(error.detail)) from error  # type: ignore[arg-type]
    if errors:
        raise ValidationError(errors)
    return AggregateParameters(span, name, aggregation, Calendar(window), window_text)


@dataclass(frozen=True, slots=True)
class ExportParameters:
    span: Span
    format: str
    descending: bool
    fields: frozenset[str]


def parse_export(query: QueryDict) -> ExportParameters:
    """The query string of an export; a 400 names what is wrong."""
    wanted = query.get("format") or "csv"
    if wanted not in FORMATS:
        raise ValidationError({"format": [f"Must be one of: {', '.join(FORMATS)}."]})
    return ExportParameters(_span(query), wanted, _descending(query, "asc"), _fields(query))


def parse_range(request: Request) -> tuple[int, int]:
    """`start_time` and `stop_time` of a deletion, both required, from the body or the query."""
    body = request.data if isinstance(request.data, Mapping) else {}
    names = ("start_time", "stop_time")
    return parse_bounds(
        {name: body.get(name, request.query_params.get(name)) for name in names},
        missing="Say from when to when to delete.",
    )


def _span(query: QueryDict) -> Span:
    """Readings may be ahead by the allowed skew; without an end_time they belong to the answer."""
    return parse_span(query, slack_ms=1000 * settings.CLOCK_SKEW_SECONDS)


def _descending(query: QueryDict, default: str) -> bool:
    order = query.get("order") or default
    if order not in ("asc", "desc"):
        raise ValidationError({"order": ["Must be asc or desc."]})
    return order == "desc"


def _fields(query: QueryDict) -> frozenset[str]:
    fields = frozenset(filter(None, (query.get("fields") or "").split(",")))
    if len(fields) > settings.MEASUREMENTS_MAX:
        raise ValidationError({"fields": [f"At most {settings.MEASUREMENTS_MAX} measurements."]})
    return fields
