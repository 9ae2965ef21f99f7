"""The event log as the API shows it."""

from typing import Any

from rest_framework import serializers

from events.kinds import Kind, Severity
from events.models import EventLog
from iotflow.lib.fields import Instant
from iotflow.lib.timeparse import format_datetime


def event_body(event: EventLog, viewer: Any) -> dict[str, Any]:
    """An event as `viewer` may see it: where somebody else acted from is for staff."""
    return {
        "id": str(event.id),
        "time": format_datetime(event.time),
        "kind": event.kind,
        "severity": event.severity,
        "message": event.message,
        "actor": event.actor,
        "user_id": event.user_id,
        "device_id": event.device_id,
        "address": "" if hides_address(event.actor, viewer) else event.address,
        "request_id": event.request_id,
        "payload": event.payload,
    }


def hides_address(actor: str, viewer: Any) -> bool:
    """Whether it was somebody else who acted, and the viewer is not of staff."""
    own = actor == f"user:{viewer.get_username()}" or actor.startswith("device:")
    return not own and not viewer.is_staff


class EventBody(serializers.Serializer[Any]):
    """`user_id` is the integer id of the user whose things it is about.

    `address` is empty where no client asked for it, and, but for staff, where somebody else did.
    """

    id = serializers.UUIDField()
    time = Instant()
    kind = serializers.ChoiceField(choices=Kind.choices)
    severity = serializers.ChoiceField(choices=Severity.choices)
    message = serializers.CharField(allow_blank=True, max_length=500)
    actor = serializers.CharField(max_length=200)
    user_id = serializers.IntegerField(allow_null=True)
    device_id = serializers.IntegerField(allow_null=True)
    address = serializers.CharField(allow_blank=True, max_length=64)
    request_id = serializers.CharField(allow_blank=True, max_length=64)
    payload = serializers.DictField(child=serializers.JSONField())


class EventList(serializers.Serializer[Any]):
    status = serializers.CharField()
    events = EventBody(many=True)
    count = serializers.IntegerField(min_value=0)
    next_cursor = serializers.CharField(allow_null=True)


class EventAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    event = EventBody()
