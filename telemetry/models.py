"""Telemetry on the relational database, for an installation without Cassandra; and what telemetry
keeps there in any case. Cassandra's tables are in telemetry.tables.
"""

from dataclasses import fields

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from telemetry.readings import Deletion

if settings.CASSANDRA_HOSTS:
    from telemetry.tables import (  # noqa: F401  (sync_cassandra looks for them here)
        DeviceDataTable,
        DeviceDayTable,
        LatestDataTable,
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
