"""Rules and alerts as the API shows and takes them."""

import math
from functools import partial
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from devices.models import Device, DeviceGroup
from events.kinds import Severity
from events.models import Alert
from iotflow.lib import ids
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime
from telemetry.alerting.machine import Kind
from telemetry.alerting.models import Aggregation, AlertRule, Window
from telemetry.alerting.numbers import ALL, NEEDED, SUMMED_UP, faults

LIMIT = 1e300
# What may be said of a rule that is there.
FIELDS = [
    *("name", "measurement", "kind", "aggregation", "window", *ALL, "hysteresis", "raise_after"),
    *("clear_after", "severity", "late_seconds", "enabled", "muted_from", "muted_until"),
    *("muted_weekly", "muted_timezone"),
]


class Number(serializers.FloatField):
    """A finite number."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=kwargs.pop("min_value", -LIMIT), max_value=LIMIT, **kwargs)

    def to_internal_value(self, data: Any) -> float:
        try:
            number = super().to_internal_value(data)
        except OverflowError:  # of an integer
            number = math.inf
        if not math.isfinite(number):
            raise serializers.ValidationError("Must be a finite number.")
        return number


class RuleChanges(serializers.ModelSerializer[AlertRule]):
    """What may be said of a rule that is there: all but what it is about."""

    threshold = Number(required=False, allow_null=True)
    low = Number(required=False, allow_null=True)
    high = Number(required=False, allow_null=True)
    hysteresis = Number(required=False, min_value=0)

    class Meta:
        model = AlertRule
        fields = FIELDS

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """As the rule will be. Raises ValidationError for what makes no sense together."""
        kind = self._will_be(attrs, "kind")
        for name in ALL:
            if name not in NEEDED[kind] and attrs.get(name) is None:
                attrs[name] = None  # what the kind that it had before needed
        if kind not in SUMMED_UP and not attrs.get("aggregation"):
            attrs |= {"aggregation": "", "window": attrs.get("window", "")}
        if errors := faults(kind, partial(self._will_be, attrs)):
            raise serializers.ValidationError(errors)
        return attrs

    def _will_be(self, attrs: dict[str, Any], name: str) -> Any:
        if name in attrs:
            return attrs[name]
        return getattr(self.instance, name, None)


class RuleFields(RuleChanges):
    """What a new rule is: about exactly one of a device, a group and a type of one's devices."""

    device_id = serializers.IntegerField(required=False, min_value=1, max_value=ids.MAX)
    group_id = serializers.IntegerField(required=False, min_value=1, max_value=ids.MAX)
    device_type = serializers.CharField(required=False, max_length=50)

    class Meta(RuleChanges.Meta):
        fields = ["device_id", "group_id", "device_type", *FIELDS]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        scopes = [name for name in ("device_id", "group_id", "device_type") if name in attrs]
        if len(scopes) != 1:
            name = scopes[0] if scopes else "device_id"
            reason = "Give exactly one of device_id, group_id and device_type."
            raise serializers.ValidationError({name: [reason]})
        return super().validate(attrs)


class RuleBody(serializers.ModelSerializer[AlertRule]):
    """A rule in an answer."""

    owner_id = serializers.IntegerField(read_only=True)
    device_id = serializers.IntegerField(allow_null=True)
    group_id = serializers.IntegerField(allow_null=True)
    aggregation = serializers.ChoiceField(choices=Aggregation.choices, allow_blank=True)
    window = serializers.ChoiceField(choices=Window.choices, allow_blank=True)
    muted_from = Instant(allow_null=True)
    muted_until = Instant(allow_null=True)
    created_at = Instant()
    updated_at = Instant()

    class Meta:
        model = AlertRule
        fields = [
            *("id", "owner_id", "device_id", "group_id", "device_type"),
            *FIELDS,
            *("created_at", "updated_at"),
        ]
        read_only_fields = fields


class RuleAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    rule = RuleBody()


class RuleMessage(RuleAnswer):
    message = serializers.CharField()


@extend_schema_serializer(many=False)
class RuleList(serializers.Serializer[Any]):
    status = serializers.CharField()
    rules = RuleBody(many=True)
    meta = PageMeta()


class AlertStep(serializers.Serializer[Any]):
    """One transition; `seq` counts them, `reason` and `assignee` where there was any."""

    seq = serializers.IntegerField()
    time = Instant()
    what = serializers.ChoiceField(
        choices=["raised", "acknowledged", "commented", "cleared", "resolved"]
    )
    actor = serializers.CharField()
    reason = serializers.CharField(required=False)
    assignee = serializers.CharField(required=False)


class AlertComment(serializers.Serializer[Any]):
    time = Instant()
    actor = serializers.CharField()
    text = serializers.CharField()


class AlertBody(serializers.Serializer[Any]):
    """An alert; `details` has the rule's numbers and the values that raised and cleared it."""

    id = serializers.UUIDField()
    seq = serializers.IntegerField()
    user_id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    rule_id = serializers.IntegerField()
    rule_name = serializers.CharField()
    kind = serializers.ChoiceField(choices=Kind.choices)
    measurement = serializers.CharField(allow_blank=True)
    severity = serializers.ChoiceField(choices=Severity.choices)
    status = serializers.ChoiceField(choices=Alert.Status.choices)
    message = serializers.CharField()
    raised_at = Instant()
    acknowledged_at = Instant(allow_null=True)
    resolved_at = Instant(allow_null=True)
    resolution = serializers.CharField(allow_null=True)
    assignee = serializers.CharField(allow_null=True)
    comments = AlertComment(many=True)
    history = AlertStep(many=True)
    details = serializers.DictField(child=serializers.JSONField())


def alert_body(alert: Alert) -> dict[str, Any]:
    return {
        "id": str(alert.id),
        "seq": alert.seq,
        "user_id": alert.user_id,
        "device_id": alert.device_id,
        "device_name": alert.device_name,
        "rule_id": alert.rule_id,
        "rule_name": alert.rule_name,
        "kind": alert.kind,
        "measurement": alert.measurement,
        "severity": alert.severity,
        "status": alert.status,
        "message": alert.message,
        "raised_at": format_datetime(alert.raised_at),
        "acknowledged_at": format_datetime(alert.acknowledged_at),
        "resolved_at": format_datetime(alert.resolved_at),
        "resolution": alert.resolution,
        "assignee": alert.assignee,
        "comments": alert.comments or [],
        "history": alert.history or [],
        "details": alert.payload,
    }


class AlertAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    alert = AlertBody()


class AlertMessage(AlertAnswer):
    message = serializers.CharField()


@extend_schema_serializer(many=False)
class AlertList(serializers.Serializer[Any]):
    status = serializers.CharField()
    alerts = AlertBody(many=True)
    count = serializers.IntegerField(min_value=0)
    next_cursor = serializers.CharField(allow_null=True)


class Acknowledgement(serializers.Serializer[Any]):
    """`assignee`: who looks after it; whoever acknowledges it, where nobody is named."""

    assignee = serializers.CharField(required=False, max_length=150)


class Comment(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=2000)


def scope_of(
    fields: dict[str, Any], device: Device | None, group: DeviceGroup | None
) -> dict[str, Any]:
    """The fields of a rule, with what its ids stand for."""
    rest = {name: value for name, value in fields.items() if name not in ("device_id", "group_id")}
    return {**rest, "device": device, "group": group}
