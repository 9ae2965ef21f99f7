"""Documents in MongoDB (events, configurations, alerts) and the outbox in PostgreSQL.

The documents are flat and hold numbers, not foreign keys: they outlive what they speak of.
A UUID primary key is stored in MongoDB's own `_id`.
"""

import uuid
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from events.kinds import Kind, Severity
from events.lookups import RangeInOne
from events.querysets import EventLogs


def document_id() -> Any:
    return models.UUIDField(
        "id", primary_key=True, db_column="_id", default=uuid.uuid4, editable=False
    )


def kinds() -> list[tuple[str, str]]:
    """The choices of a kind; a function, so that a new kind is no change of the schema."""
    return [(kind, kind) for kind in Kind.values]


class EventLog(models.Model):
    """One thing that happened. Written once, never changed, gone after `expires_at`."""

    id = document_id()
    time = models.DateTimeField()
    kind = models.CharField(max_length=40, choices=kinds)
    severity = models.CharField(max_length=10, choices=Severity)
    message = models.CharField(max_length=500)
    actor = models.CharField(max_length=200, help_text="Who did it: user:…, device:… or system.")
    user_id = models.BigIntegerField("user", null=True, help_text="Whose things it is about.")
    device_id = models.BigIntegerField("device", null=True)
    address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    payload = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    expires_at = models.DateTimeField()

    objects: ClassVar[EventLogs] = EventLogs.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "event_logs"
        ordering = ["-time"]
        verbose_name = "event"
        indexes = [
            # The id is in each, for pages go on after a (time, id): sorted by the index alone.
            models.Index(fields=["-time", "-id"], name="event_by_time"),
            models.Index(fields=["kind", "-time", "-id"], name="event_by_kind"),
            models.Index(fields=["severity", "-time", "-id"], name="event_by_severity"),
            models.Index(fields=["device_id", "-time", "-id"], name="event_by_device"),
            models.Index(fields=["user_id", "-time", "-id"], name="event_by_user"),
            models.Index(fields=["actor", "-time", "-id"], name="event_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.time:%Y-%m-%d %H:%M:%S}"


EventLog._meta.get_field("time").register_lookup(RangeInOne)


class DeviceConfig(models.Model):
    """One version of a device's desired configuration."""

    id = document_id()
    device_id = models.BigIntegerField("device")
    version = models.PositiveIntegerField()
    config = models.JSONField(default=dict)
    author = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    rolled_back_to = models.PositiveIntegerField(
        null=True, help_text="The version whose configuration this one repeats."
    )

    class Meta:
        db_table = "device_configs"
        ordering = ["device_id", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["device_id", "version"], name="config_version")
        ]

    def __str__(self) -> str:
        return f"device {self.device_id}, version {self.version}"


class ReportedConfig(models.Model):
    """The configuration that a device last said it runs: one document per device."""

    class Status(models.TextChoices):
        APPLIED = "applied"
        FAILED = "failed"
        PENDING = "pending"

    device_id = models.BigIntegerField("device", primary_key=True, db_column="_id")
    version = models.PositiveIntegerField()
    status = models.CharField(max_length=10, choices=Status)
    message = models.CharField(max_length=500, blank=True)
    reported_at = models.DateTimeField()

    class Meta:
        db_table = "reported_configs"
        ordering = ["device_id"]

    def __str__(self) -> str:
        return f"device {self.device_id}, version {self.version}: {self.status}"


class Alert(models.Model):
    """A rule's finding about a device, from raised to resolved."""

    class Status(models.TextChoices):
        RAISED = "raised"
        ACKNOWLEDGED = "acknowledged"
        RESOLVED = "resolved"

    id = document_id()
    device_id = models.BigIntegerField("device")
    rule_id = models.BigIntegerField("rule", null=True)
    severity = models.CharField(max_length=10, choices=Severity)
    status = models.CharField(max_length=12, choices=Status)
    message = models.CharField(max_length=500)
    raised_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    payload = models.JSONField(default=dict)

    class Meta:
        db_table = "alerts"
        ordering = ["-raised_at"]
        indexes = [
            models.Index(fields=["status", "-raised_at"], name="alert_status_raised"),
            models.Index(fields=["device_id", "-raised_at"], name="alert_device_raised"),
        ]

    def __str__(self) -> str:
        return f"{self.severity} on device {self.device_id}: {self.message}"


class Outbox(models.Model):
    """An event on its way to the event log, written in the transaction of what it tells of."""

    event_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    document = models.JSONField(encoder=DjangoJSONEncoder)

    class Meta:
        db_table = "outbox"
        verbose_name_plural = "outbox"

    def __str__(self) -> str:
        return f"{self.event_id}"
