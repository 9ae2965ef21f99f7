"""Figures of the whole system for staff. All are counted; what cannot be known now is null.

The cost hardly grows with the system: counts along indexes, sums of counters in Redis, and of
events at most EVENTS_COUNTED of each severity.
"""

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone
from rest_framework import serializers

from accounts.models import User
from devices.models import Device, DeviceGroup
from devices.presence import count_online
from events import outbox, sinks
from events.kinds import Severity
from events.models import EventLog, Outbox
from iotflow.lib import counters
from iotflow.lib.errors import StoreAway
from iotflow.lib.fields import Instant
from iotflow.lib.redis import shared
from iotflow.lib.timeparse import format_ms, now_ms

EVENTS_COUNTED = 100_000


class DeviceStats(serializers.Serializer[Any]):
    """`online`: their silence has not lasted too long, whatever their status."""

    total = serializers.IntegerField(min_value=0)
    active = serializers.IntegerField(min_value=0)
    inactive = serializers.IntegerField(min_value=0)
    maintenance = serializers.IntegerField(min_value=0)
    online = serializers.IntegerField(min_value=0)


class UserStats(serializers.Serializer[Any]):
    total = serializers.IntegerField(min_value=0)
    active = serializers.IntegerField(min_value=0)
    staff = serializers.IntegerField(min_value=0)


class Rate(serializers.Serializer[Any]):
    """What devices submitted: messages, the readings in them, the values in those."""

    messages = serializers.IntegerField(min_value=0)
    readings = serializers.IntegerField(min_value=0)
    values = serializers.IntegerField(min_value=0)


class TelemetryStats(serializers.Serializer[Any]):
    """`all_processes` is false on the embedded cache: then this process counts, since it began."""

    all_processes = serializers.BooleanField()
    last_minute = Rate()
    last_hour = Rate()
    last_day = Rate()


class EventStats(serializers.Serializer[Any]):
    """Of the last 24 hours; 100,000 of a severity stand for that many or more."""

    info = serializers.IntegerField(min_value=0, max_value=EVENTS_COUNTED)
    warning = serializers.IntegerField(min_value=0, max_value=EVENTS_COUNTED)
    error = serializers.IntegerField(min_value=0, max_value=EVENTS_COUNTED)


class CacheStats(serializers.Serializer[Any]):
    """Of the last hour; `hit_rate` is null where nothing was looked up."""

    hits = serializers.IntegerField(min_value=0)
    misses = serializers.IntegerField(min_value=0)
    hit_rate = serializers.FloatField(min_value=0, max_value=1, allow_null=True)


class CachesStats(serializers.Serializer[Any]):
    keys = CacheStats()
    latest = CacheStats()


class OutboxStats(serializers.Serializer[Any]):
    waiting = serializers.IntegerField(min_value=0)
    age_seconds = serializers.FloatField(min_value=0)


class Stats(serializers.Serializer[Any]):
    """`telemetry` is null while Redis is away, `events` while the event log is.

    `caches` is null while Redis is away or embedded, where nothing is cached.
    """

    status = serializers.CharField()
    time = Instant()
    devices = DeviceStats()
    users = UserStats()
    groups = serializers.IntegerField(min_value=0)
    telemetry = TelemetryStats(allow_null=True)
    events = EventStats(allow_null=True)
    caches = CachesStats(allow_null=True)
    outbox = OutboxStats()


def stats() -> dict[str, Any]:
    """The figures, in the shape of `Stats`."""
    counted = _counted()
    return {
        "status": "success",
        "time": format_ms(now_ms()),
        "devices": _devices(),
        "users": User.objects.aggregate(
            total=Count("pk"),
            active=Count("pk", filter=Q(is_active=True)),
            staff=Count("pk", filter=Q(is_staff=True)),
        ),
        "groups": DeviceGroup.objects.count(),
        "telemetry": None if counted is None else _telemetry(counted),
        "events": _events(),
        "caches": None if counted is None or not shared() else _caches(counted["last_hour"]),
        "outbox": {"waiting": Outbox.objects.count(), "age_seconds": outbox.age_seconds()},
    }


def _devices() -> dict[str, int]:
    found = dict(Device.objects.order_by().values_list("status").annotate(Count("pk")))
    by_status = {status: found.get(status, 0) for status in Device.Status.values}
    return {"total": sum(by_status.values()), **by_status, "online": count_online()}


def _counted() -> dict[str, dict[str, int]] | None:
    try:
        return counters.totals()
    except StoreAway:
        return None


def _telemetry(counted: dict[str, dict[str, int]]) -> dict[str, Any]:
    rates = {
        window: {name: times.get(name, 0) for name in ("messages", "readings", "values")}
        for window, times in counted.items()
    }
    return {"all_processes": shared(), **rates}


def _events() -> dict[str, int] | None:
    since = timezone.now() - timedelta(days=1)
    try:
        with sinks.guarded():
            return {
                severity: EventLog.objects.filter(severity=severity, time__gte=since)
                .order_by()[:EVENTS_COUNTED]  # sorting them would take longer than counting
                .count()
                for severity in Severity.values
            }
    except StoreAway:
        return None


def _caches(counted: dict[str, int]) -> dict[str, Any]:
    return {name: _cache(counted, name) for name in ("keys", "latest")}


def _cache(counted: dict[str, int], name: str) -> dict[str, Any]:
    return {
        "hits": counted.get(f"{name}.hits", 0),
        "misses": counted.get(f"{name}.misses", 0),
        "hit_rate": counters.hit_rate(counted, name),
    }
