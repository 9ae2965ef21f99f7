"""Rules, how they stand with each device, and the alerts that are open.

Devices, groups and owners are referred to without a constraint of the database: the version before
deletes them without knowing of these tables. What that leaves is found by telemetry.alerting.sweep.
"""

import uuid
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q

from devices.models import Device, DeviceGroup
from events.kinds import Severity
from iotflow.lib.timeparse import to_ms
from telemetry.alerting import numbers
from telemetry.alerting.machine import Kind, Phase, Rule, Stand
from telemetry.alerting.querysets import AlertRules

# What of a rule may be changed while what it has found goes on to hold.
HARMLESS = frozenset({"name", "severity", "muted_until"})


class AlertRule(models.Model):
    """What is to be watched of a device, of those in a group, or of the owner's of a type."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="alert_rules",
        db_constraint=False,
    )
    name = models.CharField(max_length=100)
    device = models.ForeignKey(
        Device, on_delete=models.CASCADE, null=True, blank=True, db_constraint=False
    )
    group = models.ForeignKey(
        DeviceGroup, on_delete=models.CASCADE, null=True, blank=True, db_constraint=False
    )
    device_type = models.CharField(max_length=50, blank=True, default="")
    measurement = models.CharField(max_length=255, blank=True, default="")
    kind = models.CharField(max_length=10, choices=Kind)
    threshold = models.FloatField(null=True, blank=True)
    low = models.FloatField(null=True, blank=True)
    high = models.FloatField(null=True, blank=True)
    hysteresis = models.FloatField(default=0.0)
    raise_after = models.PositiveIntegerField(default=0, help_text="Seconds.")
    clear_after = models.PositiveIntegerField(default=0, help_text="Seconds.")
    expected_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="Between two readings."
    )
    missed = models.PositiveIntegerField(
        null=True, blank=True, help_text="So many times the expected seconds without a reading."
    )
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.WARNING)
    late_seconds = models.PositiveIntegerField(default=300)
    enabled = models.BooleanField(default=True)
    muted_until = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField("created", auto_now_add=True)
    updated_at = models.DateTimeField("changed", auto_now=True)

    objects: ClassVar[AlertRules] = AlertRules.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="alert_rule_one_scope",
                condition=Q(device__isnull=False, group__isnull=True, device_type="")
                | Q(device__isnull=True, group__isnull=False, device_type="")
                | (Q(device__isnull=True, group__isnull=True) & ~Q(device_type="")),
                violation_error_message="Exactly one of a device, a group and a device type.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        is_kind = self.kind in Kind.values  # else the form says so
        if is_kind and (found := numbers.faults(self.kind, partial(getattr, self))):
            raise ValidationError(dict(found))

    def condition(self) -> Rule:
        """The rule as evaluation knows it."""
        return Rule(
            id=self.pk,
            version=self.version,
            owner_id=self.owner_id,
            measurement=self.measurement,
            kind=self.kind,
            threshold=self.threshold or 0.0,
            low=self.low or 0.0,
            high=self.high or 0.0,
            hysteresis=self.hysteresis,
            raise_after=1000 * self.raise_after,
            clear_after=1000 * self.clear_after,
            late=1000 * self.late_seconds,
            muted_until=to_ms(self.muted_until) if self.muted_until else 0,
        )

    def quoted(self) -> dict[str, Any]:
        """What alerts quote of it."""
        names = ("threshold", "low", "high", "hysteresis", "raise_after", "clear_after")
        found = {name: getattr(self, name) for name in (*names, "expected_seconds", "missed")}
        return {name: value for name, value in found.items() if value is not None}


class AlertState(models.Model):
    """How a rule stands with a device (telemetry.alerting.machine.Stand); times in ms."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE)
    device_id = models.BigIntegerField(db_index=True)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.NORMAL)
    since = models.BigIntegerField(null=True)
    last_ms = models.BigIntegerField(null=True)
    last_value = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "device_id"], name="alert_state_of_device")
        ]

    def __str__(self) -> str:
        return f"rule {self.rule_id}, device {self.device_id}: {self.phase}"

    @property
    def stand(self) -> Stand:
        return Stand(self.phase, self.since, self.last_ms, self.last_value)

    @stand.setter
    def stand(self, stand: Stand) -> None:
        self.phase, self.since, self.last_ms, self.last_value = stand


class LiveAlert(models.Model):
    """An alert that is open, or of which the collection of alerts lacks the newest.

    `document` is the whole of it, as the collection has it; `seq` counts its transitions, and
    `delivered` is the newest of them that has arrived there.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.SET_NULL, null=True)
    device_id = models.BigIntegerField(db_index=True)
    owner_id = models.BigIntegerField()
    is_open = models.BooleanField(default=True)
    seq = models.PositiveIntegerField(default=1)
    delivered = models.PositiveIntegerField(default=0)
    document = models.JSONField(encoder=DjangoJSONEncoder)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "device_id"], condition=Q(is_open=True), name="alert_open_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["changed_at"],
                name="alert_undelivered",
                condition=Q(delivered__lt=models.F("seq")),
            )
        ]

    def __str__(self) -> str:
        return f"{self.pk}"
