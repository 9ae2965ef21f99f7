"""Rules, how they stand with each device, and the alerts that are open.

Devices, groups and owners are referred to without a constraint of the database: the version before
deletes them without knowing of these tables. What that leaves is found by telemetry.alerting.sweep.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from devices.models import Device, DeviceGroup
from events.kinds import Severity
from iotflow.lib.json import StoredDecoder
from iotflow.lib.timeparse import to_ms
from telemetry.alerting import numbers, weekly
from telemetry.alerting.machine import Kind, Phase, Rule, Stand
from telemetry.alerting.querysets import AlertRules, LiveAlerts
from telemetry.windows import DAY, HOUR

# What of a rule may be changed while what it has found goes on to hold.
HARMLESS = frozenset(
    {"name", "severity", "muted_from", "muted_until", "muted_weekly", "muted_timezone"}
)
SECONDS_MAX = 7 * 86_400
WATCHED_AT_ONCE = 500


def seconds(*, least: int = 0, **options: Any) -> Any:
    """A field of whole seconds, up to a week."""
    bounds = [MinValueValidator(least), MaxValueValidator(SECONDS_MAX)]
    return models.PositiveIntegerField(validators=bounds, **options)


class Window(models.TextChoices):
    """What a rule about rollups looks at the whole of."""

    HOUR = "1h", "hourly"
    DAY = "1d", "daily"

    @property
    def length(self) -> int:
        """In ms."""
        return HOUR if self == Window.HOUR else DAY


class Aggregation(models.TextChoices):
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"


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
    aggregation = models.CharField(
        max_length=10,
        choices=Aggregation,
        blank=True,
        default="",
        help_text="Of each whole hour or day; without it every value is looked at.",
    )
    window = models.CharField(max_length=2, choices=Window, blank=True, default="")
    threshold = models.FloatField(null=True, blank=True)
    low = models.FloatField(null=True, blank=True)
    high = models.FloatField(null=True, blank=True)
    within_seconds = seconds(
        least=1, null=True, blank=True, help_text="In which more changes are flapping."
    )
    hysteresis = models.FloatField(default=0.0, validators=[MinValueValidator(0.0)])
    raise_after = seconds(default=0, help_text="Seconds.")
    clear_after = seconds(default=0, help_text="Seconds.")
    expected_seconds = seconds(least=1, null=True, blank=True, help_text="Between two readings.")
    missed = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text="So many times the expected seconds without a reading.",
    )
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.WARNING)
    late_seconds = seconds(least=1, default=300)
    enabled = models.BooleanField(default=True)
    muted_from = models.DateTimeField(null=True, blank=True)
    muted_until = models.DateTimeField(null=True, blank=True)
    muted_weekly = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="Such as Mon-Fri 22:00-06:00, Sun 02:00-04:00.",
    )
    muted_timezone = models.CharField(
        max_length=64, default="UTC", db_default="UTC", help_text="Of the weekly times."
    )
    version = models.PositiveIntegerField(default=0, editable=False)
    begun_at = models.DateTimeField(null=True, default=timezone.now, editable=False)
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
            within=1000 * (self.within_seconds or 0),
            late=1000 * self.late_seconds,
            muted_from=to_ms(self.muted_from) if self.muted_from else 0,
            muted_until=to_ms(self.muted_until) if self.muted_until else 0,
            muted_weekly=weekly.parse(self.muted_weekly, self.muted_timezone),
        )

    def watched(self) -> Iterator[list[Device]]:
        """The devices that it is about and that are meant to say something, WATCHED_AT_ONCE of
        them in a list. Asks nothing where it was read with its one device.
        """
        if self.device_id is not None:
            device = self.device
            if device and (device.owner_id, device.status) == (self.owner_id, Device.Status.ACTIVE):
                yield [device]
            return
        devices = Device.objects.filter(owner_id=self.owner_id, status=Device.Status.ACTIVE)
        if self.group_id is not None:
            devices = devices.filter(memberships__group_id=self.group_id)
        else:
            devices = devices.filter(device_type=self.device_type)
        after = 0
        while found := list(devices.filter(pk__gt=after).order_by("pk")[:WATCHED_AT_ONCE]):
            yield found
            after = found[-1].pk

    @property
    def begun(self) -> datetime:
        """Since when it is the condition that it is."""
        return self.begun_at or self.updated_at

    @property
    def silence_seconds(self) -> int:
        """How long nothing may be heard."""
        return (self.expected_seconds or 0) * (self.missed or 0)

    def quoted(self) -> dict[str, Any]:
        """What alerts quote of it."""
        names = ("aggregation", "window", *numbers.ALL, "hysteresis", "raise_after", "clear_after")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value not in (None, "")}


class AlertState(models.Model):
    """How a rule stands with a device (telemetry.alerting.machine.Stand); times in ms."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE)
    device_id = models.BigIntegerField(db_index=True)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.NORMAL)
    since = models.BigIntegerField(null=True)
    last_ms = models.BigIntegerField(null=True)
    last_value = models.FloatField(null=True)
    changes = models.JSONField(default=list)
    usual = models.JSONField(null=True, decoder=StoredDecoder)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "device_id"], name="alert_state_of_device")
        ]

    def __str__(self) -> str:
        return f"rule {self.rule_id}, device {self.device_id}: {self.phase}"

    @classmethod
    def of(cls, rule_id: int, device_id: int, stand: Stand) -> "AlertState":
        phase, since, time, value, changes, usual = stand
        return cls(
            rule_id=rule_id,
            device_id=device_id,
            phase=phase,
            since=since,
            last_ms=time,
            last_value=value,
            changes=list(changes),
            usual=usual,
        )

    @property
    def stand(self) -> Stand:
        return Stand(
            self.phase, self.since, self.last_ms, self.last_value, self.changes, self.usual
        )


class LiveAlert(models.Model):
    """An alert that is open, or of which the collection of alerts lacks the newest.

    `document` is the whole of it, as the collection has it; `seq` counts its transitions, and
    `delivered` is the newest of them that has arrived there.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.SET_NULL, null=True)
    device_id = models.BigIntegerField(db_index=True)
    owner_id = models.BigIntegerField()
    raised_at = models.DateTimeField()
    is_open = models.BooleanField(default=True)
    seq = models.PositiveIntegerField(default=1)
    delivered = models.PositiveIntegerField(default=0)
    document = models.JSONField(encoder=DjangoJSONEncoder, decoder=StoredDecoder)
    changed_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[LiveAlerts] = LiveAlerts.as_manager()  # type: ignore[assignment]

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
