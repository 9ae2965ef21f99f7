"""Devices, their keys and groups."""

import uuid
from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from devices.querysets import OPEN_COMMANDS, ApiKeys, Commands, Devices, Groups
from iotflow.lib.json import StoredDecoder

COLOR = RegexValidator(r"^#[0-9A-Fa-f]{6}\Z", "A colour is written #RRGGBB.")
SECONDS_MAX = 31_622_400  # a leap year
SECONDS = [MinValueValidator(1), MaxValueValidator(SECONDS_MAX)]


class Device(models.Model):
    """Something that submits telemetry, owned by one user."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive"  # switched off: its writes are refused
        MAINTENANCE = "maintenance"  # may submit, raises no alerts

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="devices"
    )
    name = models.CharField(max_length=100)
    device_type = models.CharField("type", max_length=50, default="sensor", db_index=True)
    description = models.TextField(max_length=1000, blank=True)
    location = models.CharField(max_length=200, blank=True)
    firmware_version = models.CharField(max_length=50, blank=True)
    hardware_version = models.CharField(max_length=50, blank=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE, db_index=True)
    last_seen = models.DateTimeField(
        null=True, blank=True, db_index=True, help_text="At most a minute behind; Redis is exact."
    )
    # Until when it counts as online if it is not heard again (devices.presence).
    online_until = models.DateTimeField(null=True, editable=False, db_index=True)
    expected_interval = models.PositiveIntegerField(
        "expected every (s)",
        null=True,
        blank=True,
        validators=SECONDS,
        help_text="How often it is to be heard, in seconds. Empty: as devices of its type.",
    )
    grace = models.PositiveIntegerField(
        "grace (s)",
        null=True,
        blank=True,
        validators=[MaxValueValidator(SECONDS_MAX)],
        help_text="How much later it may be before it is offline. Empty: as its type, or as long.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    # Deleting a range of telemetry moves the latest values to a new epoch (telemetry.stores).
    latest_epoch = models.PositiveIntegerField(default=0, editable=False)
    epochs_given = models.PositiveIntegerField(default=0, editable=False)
    # The last time the server gave a reading, in ms, while Redis was away (telemetry.clock).
    last_given_ms = models.BigIntegerField(default=0, editable=False)

    objects: ClassVar[Devices] = Devices.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                name="device_name_of_owner",
                violation_error_message="Its owner has a device of this name already.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class ReportingInterval(models.Model):
    """How often devices of a type are to be heard, where they have no interval of their own."""

    device_type = models.CharField("type", max_length=50, unique=True)
    expected_interval = models.PositiveIntegerField("expected every (s)", validators=SECONDS)
    grace = models.PositiveIntegerField(
        "grace (s)",
        null=True,
        blank=True,
        validators=[MaxValueValidator(SECONDS_MAX)],
        help_text="How much later they may be before they are offline. Empty: as long again.",
    )

    class Meta:
        ordering = ["device_type"]

    def __str__(self) -> str:
        return self.device_type


class PresenceChange(models.Model):
    """That a device came online or went offline, at a time of the server's clock."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="presence_changes")
    at = models.DateTimeField()
    is_online = models.BooleanField()
    # Its place in the stream that it was read from (devices.presence_history): rising.
    place = models.BigIntegerField()

    class Meta:
        ordering = ["device", "at"]
        constraints = [
            models.UniqueConstraint(fields=["device", "at"], name="one_presence_change_at_a_time")
        ]
        indexes = [models.Index(fields=["at"], name="presence_changes_by_time")]

    def __str__(self) -> str:
        return f"{self.device_id} {'online' if self.is_online else 'offline'} at {self.at}"


class ApiKey(models.Model):
    """A device's credential. The key itself is shown once and never stored."""

    class State(models.TextChoices):
        VALID = "valid"
        PENDING = "pending"  # not valid yet
        EXPIRED = "expired"
        REVOKED = "revoked"

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="keys")
    label = models.CharField(max_length=100, blank=True, default="", db_default="")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # The fingerprint of the pepper of the digest; empty for a key older than this field.
    pepper = models.CharField(max_length=8, blank=True, default="", db_default="", editable=False)
    prefix = models.CharField("starts with", max_length=16, editable=False)
    created_at = models.DateTimeField("created", auto_now_add=True)
    last_used = models.DateTimeField(null=True, editable=False)
    valid_from = models.DateTimeField("valid from", null=True, blank=True)
    expires_at = models.DateTimeField("expires", null=True, blank=True)
    revoked_at = models.DateTimeField("revoked", null=True, editable=False)

    objects: ClassVar[ApiKeys] = ApiKeys.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def state(self, now: datetime) -> State:
        if self.revoked_at is not None:
            return self.State.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return self.State.EXPIRED
        if self.valid_from is not None and self.valid_from > now:
            return self.State.PENDING
        return self.State.VALID

    def was_valid(self, moment: datetime) -> bool:
        """Whether it opened a door at a moment before now; it may have been revoked since."""
        if self.revoked_at is not None and self.revoked_at <= moment:
            return False
        if self.expires_at is not None and self.expires_at <= moment:
            return False
        return self.valid_from is None or self.valid_from <= moment


class KeyInvalidation(models.Model):
    """A key's cached record that must not be trusted any more, until Redis has been told.

    Written in the transaction of the change itself, so that no fault of Redis revives a key.
    """

    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.digest[:8]


class BrokerNotice(models.Model):
    """What the MQTT broker has to be told about a device, until it has been.

    Written in the transaction of the change itself; the device may be gone by now.
    """

    class Subject(models.TextChoices):
        CONFIG = "config"  # another version is the newest one, or there is none any more
        KEYS = "keys"  # keys have ended: whoever is connected has to log in again
        COMMANDS = "commands"  # there are new ones
        ASKED = "asked"  # it asks for all that it has not acknowledged

    subject = models.CharField(max_length=8, choices=Subject)
    device_id = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.subject} of device {self.device_id}"


class Command(models.Model):
    """What a device is asked to do, and what came of it.

    It is its owner's at that time: of one who has the device later neither the device nor they
    themselves hear of it. The device is referred to without a constraint of the database: the
    version before deletes devices without knowing of commands.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"  # handed to the device, or to the broker for it; maybe more than once
        ACKNOWLEDGED = "acknowledged"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        EXPIRED = "expired"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    device = models.ForeignKey(
        Device, on_delete=models.CASCADE, related_name="commands", db_constraint=False
    )
    owner_id = models.BigIntegerField()
    name = models.CharField(max_length=100)
    params = models.JSONField(default=dict, decoder=StoredDecoder)
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED)
    result = models.JSONField(null=True, decoder=StoredDecoder)
    created_by = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=255, default="", blank=True)
    times_sent = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField("created")
    expires_at = models.DateTimeField("expires")
    sent_at = models.DateTimeField("sent", null=True)
    acknowledged_at = models.DateTimeField("acknowledged", null=True)
    finished_at = models.DateTimeField("finished", null=True)

    objects: ClassVar[Commands] = Commands.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "owner_id", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="command_once_under_its_key",
            )
        ]
        indexes = [
            models.Index(fields=["device", "-created_at"], name="commands_of_device"),
            models.Index(
                fields=["expires_at"],
                name="commands_open",
                condition=models.Q(status__in=OPEN_COMMANDS),
            ),
            models.Index(fields=["created_at"], name="commands_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.device_id}"

    def status_at(self, moment: datetime) -> Status:
        """What it is by the clock, be the worker late or away."""
        is_over = self.status in OPEN_COMMANDS and self.expires_at <= moment
        return self.Status.EXPIRED if is_over else self.Status(self.status)


class DeviceGroup(models.Model):
    """Devices that a user looks at together."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="device_groups"
    )
    name = models.CharField(max_length=100)
    description = models.TextField(max_length=1000, blank=True)
    color = models.CharField(max_length=7, default="#3B82F6", validators=[COLOR])
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    devices = models.ManyToManyField(Device, through="GroupMembership", related_name="groups")

    objects: ClassVar[Groups] = Groups.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["id"]
        verbose_name = "group"
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                name="group_name_of_owner",
                violation_error_message="Its owner has a group of this name already.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class GroupMembership(models.Model):
    group = models.ForeignKey(DeviceGroup, on_delete=models.CASCADE, related_name="memberships")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="memberships")
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        verbose_name = "membership"
        constraints = [
            models.UniqueConstraint(
                fields=["group", "device"],
                name="device_once_in_group",
                violation_error_message="The device is in this group already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.device} in {self.group}"

    def clean(self) -> None:
        """Whoever sees a group sees its devices, so they have one owner."""
        if self.group.owner_id != self.device.owner_id:
            raise ValidationError({"device": "The device and the group have different owners."})
