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
from events.querysets import Alerts, EventLogs
from iotflow.lib.json import StoredDecoder


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
    """A rule's finding about a device, from raised to resolved.

    `seq` counts its transitions: of two writings of one alert, the one with more of them holds.
    `payload` has the rule's numbers and the values that raised and cleared it.
    """

    class Status(models.TextChoices):
        RAISED = "raised"
        ACKNOWLEDGED = "acknowledged"
        RESOLVED = "resolved"

    id = document_id()
    seq = models.PositiveIntegerField(null=True)
    user_id = models.BigIntegerField("user", null=True, help_text="Whose device it is about.")
    device_id = models.BigIntegerField("device")
    device_name = models.CharField(max_length=100, null=True, blank=True)
    rule_id = models.BigIntegerField("rule", null=True)
    rule_name = models.CharField(max_length=100, null=True, blank=True)
    kind = models.CharField(max_length=10, null=True, blank=True)
    measurement = models.CharField(max_length=255, null=True, blank=True)
    severity = models.CharField(max_length=10, choices=Severity)
    status = models.CharField(max_length=12, choices=Status)
    message = models.CharField(max_length=500)
    raised_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution = models.CharField(
        max_length=200, null=True, blank=True, help_text="Why it is resolved."
    )
    assignee = models.CharField(max_length=150, null=True, blank=True)
    comments = models.JSONField(null=True, blank=True)
    history = models.JSONField(null=True, blank=True)
    payload = models.JSONField(default=dict)

    objects: ClassVar[Alerts] = Alerts.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "alerts"
        ordering = ["-raised_at"]
        indexes = [
            models.Index(fields=["-raised_at", "-id"], name="alert_by_time"),
            models.Index(fields=["user_id", "-raised_at", "-id"], name="alert_by_user"),
            models.Index(fields=["rule_id", "-raised_at", "-id"], name="alert_by_rule"),
            models.Index(fields=["status", "-raised_at"], name="alert_status_raised"),
            models.Index(fields=["device_id", "-raised_at"], name="alert_device_raised"),
        ]

    def __str__(self) -> str:
        return f"{self.severity} on device {self.device_id}: {self.message}"


Alert._meta.get_field("raised_at").register_lookup(RangeInOne)


class Waiting(models.Manager["Outbox"]):
    def get_queryset(self) -> models.QuerySet["Outbox"]:
        return super().get_queryset().filter(delivered_at__isnull=True)


class Delivered(models.Manager["Outbox"]):
    def get_queryset(self) -> models.QuerySet["Outbox"]:
        return super().get_queryset().filter(delivered_at__isnull=False)


class Outbox(models.Model):
    """An event on its way to the event log, written in the transaction of what it tells of.

    `objects` are those that wait; `delivered` are there, and stay until they are sealed.
    """

    event_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    document = models.JSONField(encoder=DjangoJSONEncoder, decoder=StoredDecoder)
    delivered_at = models.DateTimeField(null=True, editable=False)

    objects = Waiting()
    delivered = Delivered()
    everything = models.Manager["Outbox"]()

    class Meta:
        db_table = "outbox"
        verbose_name_plural = "outbox"
        indexes = [
            models.Index(
                fields=["id"], name="outbox_waiting", condition=models.Q(delivered_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.event_id}"


class AuditLink(models.Model):
    """One link of the chain over the event log: what it covers, and a seal over the one before.

    An `event` covers one; a `minute` and what came `late` to one cover the sum of the digests of
    so many of the kind; a `start` says from which link (`count`) and which `time` on the event log
    is vouched for.
    """

    class Scope(models.TextChoices):
        EVENT = "event"
        MINUTE = "minute"
        LATE = "late"
        START = "start"

    number = models.PositiveBigIntegerField(primary_key=True)
    scope = models.CharField(max_length=6, choices=Scope)
    event_id = models.UUIDField(null=True, unique=True)
    kind = models.CharField(max_length=40, blank=True)
    time = models.DateTimeField()
    count = models.PositiveBigIntegerField(default=1)
    digest = models.BinaryField(max_length=32, default=bytes)
    expires_at = models.DateTimeField(help_text="From then on what it covers may be gone.")
    day = models.DateField(help_text="On which it was sealed.")
    key = models.CharField(max_length=8, help_text="The id of the key it was sealed with.")
    seal = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_links"
        ordering = ["number"]
        indexes = [
            models.Index(fields=["kind", "time", "event_id"], name="audit_by_kind"),
            models.Index(fields=["number"], name="audit_starts", condition=models.Q(scope="start")),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.scope} {self.kind}"


class AuditDay(models.Model):
    """The links sealed on a day: from where it goes on (`before`) to its own head (`seal`)."""

    day = models.DateField(primary_key=True)
    first = models.PositiveBigIntegerField()
    before = models.BinaryField(max_length=32)
    last = models.PositiveBigIntegerField()
    seal = models.BinaryField(max_length=32)
    expires_at = models.DateTimeField(help_text="From then on all that it covers is gone.")

    class Meta:
        db_table = "audit_days"
        ordering = ["day"]

    def __str__(self) -> str:
        return f"{self.day}: {self.first} to {self.last}"


class AuditHead(models.Model):
    """The one row that says how long the chain is, and up to where minutes are sealed."""

    number = models.PositiveBigIntegerField(default=0)
    seal = models.BinaryField(max_length=32, default=bytes)
    minutes_until = models.DateTimeField()

    class Meta:
        db_table = "audit_head"

    def __str__(self) -> str:
        return f"{self.number}"
