"""The shapes of what is sent and answered, for the schema."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from iotflow.lib import ids
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import TEXT_MAX
from telemetry.aggregates import AGGREGATIONS


@extend_schema_field({"type": ["string", "number"], "maxLength": TEXT_MAX})
class TimeField(serializers.CharField):
    """A time as clients write it: ISO 8601, an epoch, or relative to now."""


@extend_schema_field(
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": settings.MEASUREMENTS_MAX,
        "propertyNames": {"pattern": f"^[A-Za-z0-9_.:/% -]{{1,{settings.MEASUREMENT_NAME_MAX}}}$"},
        "additionalProperties": {"type": ["number", "boolean", "string", "object", "array"]},
    }
)
class MeasurementsField(serializers.DictField):
    """Values by name."""


class SubmitBody(serializers.Serializer[Any]):
    """For the schema; telemetry.messages does the work."""

    data = MeasurementsField()  # type: ignore[assignment]
    metadata = serializers.DictField(required=False)
    timestamp = TimeField(required=False)


class SubmitAnswer(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    timestamp = Instant()
    stored_in_cassandra = serializers.BooleanField()


class ReadingBody(serializers.Serializer[Any]):
    timestamp = Instant()
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
    timestamp = Instant(allow_null=True)
    cassandra_available = serializers.BooleanField()


class FeedEntry(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    timestamp = Instant()
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


class BatchBody(serializers.Serializer[Any]):
    readings = SubmitBody(many=True)


class AddressedReading(SubmitBody):
    device_id = serializers.IntegerField(min_value=1, max_value=ids.MAX)


class BulkBody(serializers.Serializer[Any]):
    readings = AddressedReading(many=True)


class Verdict(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["stored", "duplicate", "rejected"])
    timestamp = Instant(required=False)
    reason = serializers.CharField(required=False)
    details = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False
    )


class BatchAnswer(serializers.Serializer[Any]):
    results = Verdict(many=True)
    stored = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = serializers.IntegerField()
    stored_in_cassandra = serializers.BooleanField()


class AggregateRow(serializers.Serializer[Any]):
    timestamp = Instant()
    value = serializers.JSONField()  # null in a gap
    count = serializers.IntegerField()


class AggregateAnswer(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    device_type = serializers.CharField()
    field = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=list(AGGREGATIONS))
    window = serializers.CharField()
    timezone = serializers.CharField()
    start_time = serializers.CharField()
    end_time = serializers.CharField()
    data = AggregateRow(many=True)  # type: ignore[assignment]
    truncated = serializers.BooleanField()
    next_start_time = Instant(allow_null=True)
    cassandra_available = serializers.BooleanField()


class Range(serializers.Serializer[Any]):
    """Both are needed, here or in the query."""

    start_time = TimeField(required=False)
    stop_time = TimeField(required=False)


class DeleteAnswer(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    start_time = serializers.CharField()
    stop_time = serializers.CharField()


class LatestOfDevice(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    device_type = serializers.CharField()
    latest_data = serializers.DictField(child=serializers.JSONField())
    timestamp = Instant(allow_null=True)


class GroupLatestAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    group_id = serializers.IntegerField()
    group_name = serializers.CharField()
    devices = LatestOfDevice(many=True)
    meta = PageMeta()
    cassandra_available = serializers.BooleanField()
