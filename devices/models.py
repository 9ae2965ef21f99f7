"""Devices, their keys and groups."""

from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from devices.querysets import ApiKeys, Devices, Groups

COLOR = RegexValidator(r"^#[0-9A-Fa-f]{6}\Z", "A colour is written #RRGGBB.")


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

    subject = models.CharField(max_length=8, choices=Subject)
    device_id = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.subject} of device {self.device_id}"


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
