"""Devices as the API shows and takes them."""

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from devices.models import SECONDS_MAX, Device
from devices.presence import Presence
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime


class DeviceSerializer(serializers.ModelSerializer[Device]):
    """A device as stored; `is_online` and the exact `last_seen` are added by `device_bodies`."""

    created_at = Instant(read_only=True)
    updated_at = Instant(read_only=True)

    class Meta:
        model = Device
        fields = [
            "id",
            "name",
            "device_type",
            "description",
            "location",
            "firmware_version",
            "hardware_version",
            "status",
            "expected_interval",
            "grace",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class DeviceBody(DeviceSerializer):
    """The documented shape of a device in an answer."""

    is_online = serializers.BooleanField()
    last_seen = Instant(allow_null=True)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "is_online", "last_seen"]


def device_body(device: Device, presence: Presence) -> dict[str, Any]:
    return {
        **DeviceSerializer(device).data,
        "is_online": presence.is_online,
        "last_seen": format_datetime(presence.last_seen),
    }


def device_bodies(
    devices: Iterable[Device], presences: dict[int, Presence]
) -> list[dict[str, Any]]:
    return [device_body(device, presences[device.pk]) for device in devices]


def seconds(least: int) -> serializers.IntegerField:
    return serializers.IntegerField(
        min_value=least, max_value=SECONDS_MAX, required=False, allow_null=True
    )


class DeviceFields(serializers.Serializer[Any]):
    """What an owner says about a device."""

    name = serializers.CharField(max_length=100)
    device_type = serializers.CharField(max_length=50, default="sensor")
    description = serializers.CharField(max_length=1000, required=False, allow_blank=True)
    location = serializers.CharField(max_length=200, required=False, allow_blank=True)
    firmware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)
    hardware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)
    expected_interval = seconds(1)
    grace = seconds(0)


class DeviceConfigFields(serializers.Serializer[Any]):
    """What a device says about itself. Switching off is its owner's to do."""

    status = serializers.ChoiceField(
        choices=[Device.Status.ACTIVE, Device.Status.MAINTENANCE], required=False
    )
    location = serializers.CharField(max_length=200, required=False, allow_blank=True)
    firmware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)
    hardware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(f"Give at least one of: {', '.join(self.fields)}.")
        return attrs


class DeviceChanges(DeviceFields):
    """What its owner, and staff, may change of a device."""

    status = serializers.ChoiceField(choices=Device.Status.choices, required=False)


class StatusFields(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=Device.Status.choices)


class RegisteredDevice(DeviceBody):
    api_key = serializers.CharField()

    class Meta(DeviceBody.Meta):
        fields = [*DeviceBody.Meta.fields, "api_key"]


class RegisterAnswer(serializers.Serializer[Any]):
    message = serializers.CharField()
    device = RegisteredDevice()


class DeviceAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    device = DeviceBody()


class OwnedDevice(DeviceBody):
    user_id = serializers.UUIDField()

    class Meta(DeviceBody.Meta):
        fields = [*DeviceBody.Meta.fields, "user_id"]


class OneDevice(serializers.Serializer[Any]):
    status = serializers.CharField()
    device = OwnedDevice()


class DeviceChanged(DeviceAnswer):
    message = serializers.CharField()


class DeviceMessage(serializers.Serializer[Any]):
    message = serializers.CharField()
    device = DeviceBody()


@extend_schema_serializer(many=False)
class DeviceList(serializers.Serializer[Any]):
    status = serializers.CharField()
    devices = DeviceBody(many=True)
    meta = PageMeta()


@extend_schema_serializer(many=False)
class DevicesOfUser(DeviceList):
    user_id = serializers.CharField()
    username = serializers.CharField()
    total_devices = serializers.IntegerField()


class DeviceStatusRow(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    device_type = serializers.CharField()
    status = serializers.CharField()
    is_online = serializers.BooleanField()
    last_seen = Instant(allow_null=True)


@extend_schema_serializer(many=False)
class DeviceStatuses(serializers.Serializer[Any]):
    status = serializers.CharField()
    devices = DeviceStatusRow(many=True)
    meta = PageMeta()


class PresenceChangeBody(serializers.Serializer[Any]):
    at = Instant()
    is_online = serializers.BooleanField()


class PresenceAnswer(serializers.Serializer[Any]):
    """`uptime` is the share of `online_seconds` in what is known of the range; null for nothing."""

    status = serializers.CharField()
    device_id = serializers.IntegerField()
    is_online = serializers.BooleanField()
    last_seen = Instant(allow_null=True)
    allowed_silence = serializers.IntegerField()
    start_time = serializers.CharField()
    end_time = serializers.CharField()
    online_seconds = serializers.FloatField()
    offline_seconds = serializers.FloatField()
    uptime = serializers.FloatField(min_value=0, max_value=1, allow_null=True)
    changes = PresenceChangeBody(many=True)
    total_changes = serializers.IntegerField()
    truncated = serializers.BooleanField()


class OwnStatus(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    name = serializers.CharField()
    device_type = serializers.CharField()
    status = serializers.CharField()
    is_online = serializers.BooleanField()
    last_seen = Instant(allow_null=True)


class Heartbeat(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    timestamp = Instant()
