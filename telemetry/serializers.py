"""What clients send about telemetry, checked; and the shapes of what they get."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from iotflow.lib.pagination import whole_number
from iotflow.lib.timeparse import NotATime, now_ms, parse_ms
from telemetry.cursors import FeedCursor, HistoryCursor, feed_cursor, history_cursor
from telemetry.readings import Value, metadata_errors, time_errors, value_errors

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Message:
    """A submitted reading, checked; `time` is None where the server is to give one."""

    values: dict[str, Value]
    metadata: dict[str, Any] | None
    time: int | None
    stamp: Any = None  # the time as it was sent


def parse_message(body: Any) -> Message:
    """A message from a request's body; a 400 names everything that is wrong with it at once."""
    if not isinstance(body, dict):
        raise ValidationError({"body": ["Must be an object with “data”."]})
    now = now_ms()
    data, metadata, stamp = body.get("data"), body.get("metadata"), body.get("timestamp")
    errors = {"data": ["This field is required."]} if data is None else value_errors(data)
    errors |= metadata_errors(metadata)
    time = None
    if stamp is not None:
        try:
            time = parse_ms(stamp, now)
            errors |= time_errors(time, now)
        except NotATime as error:
            errors["timestamp"] = [str(error)]
    if errors:
        raise ValidationError(errors)
    assert isinstance(data, dict)
    return Message(data, metadata or None, time, stamp)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time as asked for: its bounds in ms and its texts."""

    start: int
    end: int
    start_text: str
    end_text: str


def parse_span(query: QueryDict) -> Span:
    """`start_time` (default -24h) and `end_time` (default now); a 400 names what is wrong."""
    now = now_ms()
    start_text = query.get("start_time") or "-24h"
    end_text = query.get("end_time") or "now"
    errors, bounds = {}, {}
    for name, text in (("start_time", start_text), ("end_time", end_text)):
        try:
            bounds[name] = parse_ms(text, now)
        except NotATime as error:
            errors[name] = [str(error)]
    if not errors and bounds["start_time"] > bounds["end_time"]:
        errors["start_time"] = ["Must not be after end_time."]
    if errors:
        raise ValidationError(errors)
    # Readings may be ahead by the allowed skew; without an end_time they belong to the answer.
    slack = 0 if query.get("end_time") else 1000 * settings.CLOCK_SKEW_SECONDS
    return Span(bounds["start_time"], bounds["end_time"] + slack, start_text, end_text)


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
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise ValidationError({"order": ["Must be asc or desc."]})
    cursor = history_cursor(query["cursor"]) if query.get("cursor") else None
    if cursor is not None and cursor.descending != (order == "desc"):
        raise ValidationError({"cursor": [f"Belongs to a query with another order than {order}."]})
    return HistoryParameters(
        span=parse_span(query),
        limit=whole_number(request, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        descending=order == "desc",
        fields=frozenset(filter(None, (query.get("fields") or "").split(","))),
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
        span=parse_span(query),
        limit=whole_number(request, "limit", settings.HISTORY_LIMIT, 1, settings.HISTORY_LIMIT_MAX),
        cursor=feed_cursor(query["cursor"]) if query.get("cursor") else None,
    )


class SubmitBody(serializers.Serializer[Any]):
    """For the schema; `parse_message` does the work."""

    data = serializers.DictField(child=serializers.JSONField())  # type: ignore[assignment]
    metadata = serializers.DictField(required=False)
    timestamp = serializers.CharField(required=False)


class SubmitAnswer(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    timestamp = serializers.CharField()
    stored_in_cassandra = serializers.BooleanField()


class ReadingBody(serializers.Serializer[Any]):
    timestamp = serializers.CharField()
    measurements = serializers.DictField(child=serializers.JSONField())
    metadata = serializers.DictField(required=False)


class HistoryAnswer(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    device_type = serializers.CharField()
    start_time = serializers.CharField()
    end_time = serializers.CharField()
    data = ReadingBody(many=True)  # type: ignore[assignment]
    count = serializers.IntegerField()
    cassandra_available = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class LatestAnswer(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    device_type = serializers.CharField()
    latest_data = serializers.DictField(child=serializers.JSONField())
    timestamp = serializers.CharField(allow_null=True)
    cassandra_available = serializers.BooleanField()


class FeedEntry(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    timestamp = serializers.CharField()
    measurement_name = serializers.CharField()
    value = serializers.JSONField()


class FeedAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    user_id = serializers.CharField()
    telemetry = FeedEntry(many=True)
    count = serializers.IntegerField()
    limit = serializers.IntegerField()
    start_time = serializers.CharField()
    end_time = serializers.CharField()
    next_cursor = serializers.CharField(allow_null=True)


class StoreStatus(serializers.Serializer[Any]):
    backend = serializers.CharField()
    cassandra_available = serializers.BooleanField()
    status = serializers.CharField()
