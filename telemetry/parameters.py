"""What is asked of telemetry: query strings, and ranges to delete; each bad one is a 400."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import QueryDict
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from iotflow.lib.pagination import whole_number
from iotflow.lib.spans import Span, parse_bounds, parse_span
from iotflow.lib.timeparse import UNITS
from telemetry.aggregates import AGGREGATIONS
from telemetry.charts import auto_window
from telemetry.cursors import FeedCursor, HistoryCursor, feed_cursor, history_cursor
from telemetry.windows import DAY, HOUR, NO_ZONE, Calendar, zones

WINDOW = re.compile(r"([1-9]\d{0,6})([smhdw])", re.ASCII)
WINDOW_MIN, WINDOW_MAX = UNITS["m"], 30 * UNITS["d"]
FORMATS = ("csv", "ndjson", "parquet")
FILLS = ("none", "null")
POINTS, POINTS_MIN = 500, 3  # for `window=auto`; the ends and something between
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HistoryParameters:
    span: Span
    limit: int
    descending: bool
    fields: frozenset[str]
    cursor: HistoryCursor | None


def parse_history(query: QueryDict) -> HistoryParameters:
    """The query string of a history; a 400 names what is wrong."""
    descending = _descending(query, "desc")
    return HistoryParameters(
        span=_span(query),
        limit=whole_number(query, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        descending=descending,
        fields=_fields(query),
        cursor=_history_cursor(query, descending),
    )


@dataclass(frozen=True, slots=True)
class FeedParameters:
    span: Span
    limit: int
    cursor: FeedCursor | None


def parse_feed(query: QueryDict) -> FeedParameters:
    return FeedParameters(
        span=_span(query),
        limit=whole_number(query, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        cursor=feed_cursor(text) if (text := query.get("cursor")) else None,
    )


@dataclass(frozen=True, slots=True)
class AggregateParameters:
    """`points` is None where no budget was named; `fill`: windows without values are wanted too."""

    span: Span
    field: str
    aggregation: str
    calendar: Calendar
    window_text: str
    zone_text: str
    points: int | None
    fill: bool


def parse_aggregate(query: QueryDict) -> AggregateParameters:
    """The query string of an aggregate; a 400 names everything that is wrong."""
    errors: dict[str, list[str]] = {}
    if not (name := query.get("field") or ""):
        errors["field"] = ["Name the measurement to aggregate."]
    aggregation = query.get("aggregation") or "mean"
    if aggregation not in AGGREGATIONS:
        errors["aggregation"] = [f"Must be one of: {', '.join(AGGREGATIONS)}."]
    fill = query.get("fill") or "none"
    if fill not in FILLS:
        errors["fill"] = [f"Must be one of: {', '.join(FILLS)}."]
    zone_text = query.get("timezone") or "UTC"
    if zone_text not in zones():
        errors["timezone"] = [NO_ZONE]
    points = _noted(
        errors,
        lambda: whole_number(query, "points", 0, POINTS_MIN, settings.AGGREGATE_POINTS_MAX),
    )
    span = _noted(errors, lambda: _span(query))
    text = query.get("window") or "1h"
    if text == "auto" and span is not None:
        points = points or POINTS
        text = auto_window(span.end - span.start, points)
    length = _length(text) if text != "auto" else HOUR
    if not WINDOW_MIN <= length <= WINDOW_MAX:
        errors["window"] = ["Must be a length from 1m to 30d, such as 15m, 1h or 7d; or auto."]
    elif "timezone" not in errors and zone_text != "UTC" and DAY % length and length % DAY:
        errors["window"] = ["In a time zone, must divide a day or be of whole days."]
    if errors or span is None:
        raise ValidationError(errors)
    zone = None if zone_text == "UTC" else ZoneInfo(zone_text)
    return AggregateParameters(
        span,
        name,
        aggregation,
        Calendar(length, zone),
        text,
        zone_text,
        points or None,
        fill == "null",
    )


def _length(text: str) -> int:
    """The length that a window's text says, in ms; 0 where it says none."""
    found = WINDOW.fullmatch(text)
    return int(found[1]) * UNITS[found[2]] if found else 0


def _noted(errors: dict[str, list[str]], parse: Callable[[], T]) -> T | None:
    """What was parsed, or None where it is wrong, and why then in `errors`."""
    try:
        return parse()
    except ValidationError as error:
        errors.update(error.detail)  # type: ignore[arg-type]
        return None


@dataclass(frozen=True, slots=True)
class ExportParameters:
    span: Span
    format: str
    descending: bool
    fields: frozenset[str]
    cursor: HistoryCursor | None


def parse_export(query: QueryDict) -> ExportParameters:
    """The query string of an export; a 400 names what is wrong."""
    wanted = query.get("format") or "csv"
    if wanted not in FORMATS:
        raise ValidationError({"format": [f"Must be one of: {', '.join(FORMATS)}."]})
    descending = _descending(query, "asc")
    cursor = _history_cursor(query, descending)
    return ExportParameters(_span(query), wanted, descending, _fields(query), cursor)


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


def _history_cursor(query: QueryDict, descending: bool) -> HistoryCursor | None:
    cursor = history_cursor(text) if (text := query.get("cursor")) else None
    if cursor is not None and cursor.descending != descending:
        raise ValidationError({"cursor": ["Belongs to a query with the other order."]})
    return cursor


def _fields(query: QueryDict) -> frozenset[str]:
    fields = frozenset(filter(None, (query.get("fields") or "").split(",")))
    if len(fields) > settings.MEASUREMENTS_MAX:
        raise ValidationError({"fields": [f"At most {settings.MEASUREMENTS_MAX} measurements."]})
    return fields
