"""Telemetry on the relational database, for an installation without Cassandra; and what telemetry
keeps there in any case. Cassandra's tables are in telemetry.tables.
"""

from dataclasses import fields

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.core.validators import MaxValueValidator, ProhibitNullCharactersValidator
from django.db import models

from telemetry.alerting.models import AlertRule, AlertState, LiveAlert  # noqa: F401
from telemetry.notifications.models import Delivery, NotificationChannel  # noqa: F401
from telemetry.readings import NAME, Deletion

if settings.CASSANDRA_HOSTS:
    from telemetry.tables import (  # noqa: F401  (sync_cassandra looks for them here)
        BucketLayoutTable,
        DeviceDataTable,
        DeviceDayTable,
        LatestDataTable,
        RollupBucketTable,
        RollupProgressTable,
        RollupTable,
        UserDataTable,
        UserHourTable,
    )


class TypedValue(models.Model):
    """A value in the column of its type; `kind` names it (telemetry.stores.cells)."""

    kind = models.CharField(max_length=5)
    double_value = models.FloatField(null=True)
    long_value = models.BigIntegerField(null=True)
    bool_value = models.BooleanField(null=True)
    text_value = models.TextField(null=True)

    class Meta:
        abstract = True


class DeviceData(TypedValue):
    """One value of one measurement; its `key` is empty in the row that holds metadata."""

    pk = models.CompositePrimaryKey("device_id", "ts", "key")
    device_id = models.BigIntegerField()
    ts = models.BigIntegerField()
    key = models.CharField(max_length=255)
    expires = models.BigIntegerField(null=True)

    class Meta:
        db_table = "device_data"
        indexes = [
            models.Index(
                fields=["expires"],
                name="device_data_expires",
                condition=models.Q(expires__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.ts} {self.key}"


class LatestData(TypedValue):
    pk = models.CompositePrimaryKey("device_id", "key")
    device_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    ts = models.BigIntegerField()
    written = models.BigIntegerField()
    expires = models.BigIntegerField(null=True)

    class Meta:
        db_table = "latest_data"

    def __str__(self) -> str:
        return f"{self.device_id} {self.key}"


class UserData(models.Model):
    """A value in the feed of its device's owner, kept for USER_FEED_DAYS."""

    pk = models.CompositePrimaryKey("user_id", "ts", "device_id", "key")
    user_id = models.BigIntegerField()
    ts = models.BigIntegerField()
    device_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    value = models.TextField()
    # Where it is kept for less than that.
    expires = models.BigIntegerField(null=True)

    class Meta:
        db_table = "user_data"
        indexes = [models.Index(fields=["ts"], name="user_data_ts")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.ts} {self.device_id} {self.key}"


class Erasure(models.Model):
    """Telemetry of a deleted device, on its way out. Written in the transaction of the deletion.

    `latest_epoch` is the last that was given; `rows` by table, once they are counted.
    """

    device_id = models.BigIntegerField(unique=True)
    owner_id = models.BigIntegerField()
    latest_epoch = models.PositiveIntegerField()
    rows = models.JSONField(null=True)
    requested_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"device {self.device_id}"


class RangeDeletion(models.Model):
    """A deleted range whose latest values still have to be settled (telemetry.deleting).

    `names` are measurements to look for, further back than `until`; null before anything is done.
    """

    device_id = models.BigIntegerField(db_index=True)
    owner_id = models.BigIntegerField()
    start = models.BigIntegerField()
    end = models.BigIntegerField()
    epoch = models.PositiveIntegerField()
    next_epoch = models.PositiveIntegerField()
    device_type = models.CharField(max_length=50, default="", db_default="")
    names = models.JSONField(null=True)
    until = models.BigIntegerField(null=True)
    requested_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.start} to {self.end} of device {self.device_id}"

    @classmethod
    def of(cls, deletion: Deletion) -> "RangeDeletion":
        return cls(**{field.name: getattr(deletion, field.name) for field in fields(deletion)})

    def deletion(self) -> Deletion:
        return Deletion(*(getattr(self, field.name) for field in fields(Deletion)))


class RetentionPolicy(models.Model):
    """How many days telemetry is kept, counted from its own time; 0 is for ever.

    How policies rank is told by telemetry.retention; change them by telemetry.policies.
    """

    DAYS_MAX = 3650

    device_type = models.CharField(
        "device type",
        max_length=50,
        blank=True,
        default="",
        validators=[ProhibitNullCharactersValidator()],
        help_text="Empty for any.",
    )
    measurement = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text="A name, the beginning of names with a * behind, or empty for any.",
    )
    days = models.PositiveIntegerField(
        validators=[MaxValueValidator(DAYS_MAX)],
        help_text="From a value's own time on; 0 for ever.",
    )
    rollup_days = models.PositiveIntegerField(
        "days of rollups",
        null=True,
        blank=True,
        validators=[MaxValueValidator(DAYS_MAX)],
        help_text="What is rolled up of the values: as long at least; 0 for ever, empty for what "
        "ROLLUP_RETENTION_DAYS says.",
    )
    created_at = models.DateTimeField("created", auto_now_add=True)
    changed_at = models.DateTimeField("changed", auto_now=True)

    class Meta:
        ordering = ["device_type", "measurement"]
        verbose_name_plural = "retention policies"
        constraints = [
            models.UniqueConstraint(
                fields=["device_type", "measurement"],
                name="retention_policy_of_values",
                violation_error_message="There is a policy for these values already.",
            )
        ]

    def __str__(self) -> str:
        return what(self.device_type, self.measurement)

    def clean(self) -> None:
        name = self.measurement.removesuffix("*")
        if self.measurement and not NAME.fullmatch(name):
            raise ValidationError({"measurement": "No name, or beginning of one with a * behind."})
        if self.rollup_days and (not self.days or self.rollup_days < self.days):
            raise ValidationError({"rollup_days": "As long as the values at least."})


class RetentionChange(models.Model):
    """That values are kept otherwise than before: what is written does not change by itself.

    `previous_days` is None where nobody knows; `applied_at`: when `purge --policy` ran through
    for the last time since.
    """

    class How(models.TextChoices):
        SET = "set"
        REMOVED = "removed"
        SETTING = "setting"  # TELEMETRY_RETENTION_DAYS, as the worker found it

    how = models.CharField(max_length=7, choices=How)
    device_type = models.CharField("device type", max_length=50, blank=True)
    measurement = models.CharField(max_length=255, blank=True)
    days = models.PositiveIntegerField()
    previous_days = models.PositiveIntegerField(null=True)
    actor = models.CharField(max_length=200)
    changed_at = models.DateTimeField("changed", auto_now_add=True)
    applied_at = models.DateTimeField("applied", null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return what(self.device_type, self.measurement)


def what(device_type: str, measurement: str) -> str:
    """The values that a policy is about, in words."""
    values = f"“{measurement}”" if measurement else "everything"
    return f"{values} of type “{device_type}”" if device_type else values


class IdempotencyKey(models.Model):
    """What a client's Idempotency-Key stands for: a body, its readings' times, the answer.

    `caller` is `device:ID` or `user:ID`.
    """

    caller = models.CharField(max_length=32)
    key = models.CharField(max_length=255)
    body_digest = models.CharField(max_length=64)
    times = models.JSONField()
    answer = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["caller", "key"], name="idempotency_key_of_caller")
        ]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"


class Rollup(models.Model):
    """The summary (telemetry.summaries) of a measurement's values in an hour or a day from `ts`."""

    pk = models.CompositePrimaryKey("device_id", "length", "key", "ts")
    device_id = models.BigIntegerField()
    length = models.IntegerField()
    key = models.CharField(max_length=255)
    ts = models.BigIntegerField()
    summary = models.TextField()
    expires = models.BigIntegerField(null=True)

    class Meta:
        db_table = "rollups"
        indexes = [
            models.Index(fields=["device_id", "length", "ts"], name="rollups_by_time"),
            models.Index(
                fields=["expires"],
                name="rollups_expires",
                condition=models.Q(expires__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.key} {self.ts}"


class RollupProgress(models.Model):
    """How far a device's rollups are; `computed` is the newest look at its readings, in µs."""

    device_id = models.BigIntegerField(primary_key=True)
    until = models.BigIntegerField(null=True)
    computed = models.BigIntegerField(default=0)

    class Meta:
        db_table = "rollup_progress"

    def __str__(self) -> str:
        return f"device {self.device_id}"


class RollupMark(models.Model):
    """Hours of a device to be rolled up again (telemetry.stores.rollups.Mark)."""

    pk = models.CompositePrimaryKey("device_id", "start", "stop", "deleted")
    device_id = models.BigIntegerField()
    start = models.BigIntegerField()
    stop = models.BigIntegerField()
    deleted = models.BooleanField()
    due = models.BigIntegerField()
    version = models.BigIntegerField()

    class Meta:
        db_table = "rollup_marks"

    def __str__(self) -> str:
        return f"{self.start} to {self.stop} of device {self.device_id}"
