"""Devices and groups as the API shows and takes them."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from devices.models import ApiKey, Device, DeviceGroup
from devices.presence import Presence
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime


class DeviceSerializer(serializers.ModelSerializer[Device]):
    """A device as stored; `is_online` and the exact `last_seen` are added by `device_bodies`."""

    created_at = serializers.SerializerMethodField()
    updated_at = serializers.SerializerMethodField()

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
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_created_at(self, device: Device) -> str | None:
        return format_datetime(device.created_at)

    def get_updated_at(self, device: Device) -> str | None:
        return format_datetime(device.updated_at)


class DeviceBody(DeviceSerializer):
    """The documented shape of a device in an answer."""

    is_online = serializers.BooleanField()
    last_seen = serializers.CharField(allow_null=True)

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


class DeviceFields(serializers.Serializer[Any]):
    """What an owner says about a device."""

    name = serializers.CharField(max_length=100)
    device_type = serializers.CharField(max_length=50, default="sensor")
    description = serializers.CharField(max_length=1000, required=False, allow_blank=True)
    location = serializers.CharField(max_length=200, required=False, allow_blank=True)
    firmware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)
    hardware_version = serializers.CharField(max_length=50, required=False, allow_blank=True)


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


class AnyDeviceFields(DeviceFields):
    """What staff may change of a device."""

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


class DeviceMessage(serializers.Serializer[Any]):
    message = serializers.CharField()
    device = DeviceBody()


class DeviceList(serializers.Serializer[Any]):
    status = serializers.CharField()
    devices = DeviceBody(many=True)
    meta = PageMeta()


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
    last_seen = serializers.CharField(allow_null=True)


class DeviceStatuses(serializers.Serializer[Any]):
    status = serializers.CharField()
    devices = DeviceStatusRow(many=True)
    meta = PageMeta()


class OwnStatus(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    name = serializers.CharField()
    device_type = serializers.CharField()
    status = serializers.CharField()
    is_online = serializers.BooleanField()
    last_seen = serializers.CharField(allow_null=True)


class Heartbeat(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    timestamp = serializers.CharField()


class Credentials(serializers.Serializer[Any]):
    device_id = serializers.IntegerField()
    name = serializers.CharField()
    key_prefix = serializers.CharField()
    created_at = serializers.CharField()
    last_used = serializers.CharField(allow_null=True)
    expires_at = serializers.CharField(allow_null=True)


def credentials_body(api_key: ApiKey, last_used: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "id": api_key.device_id,
        "device_id": api_key.device_id,
        "name": api_key.device.name,
        "key_prefix": api_key.prefix,
        "created_at": format_datetime(api_key.created_at),
        "last_used": format_datetime(last_used),
        "expires_at": format_datetime(api_key.expires_at),
    }


class GroupFields(serializers.ModelSerializer[DeviceGroup]):
    """What an owner says about a group."""

    class Meta:
        model = DeviceGroup
        fields = ["name", "description", "color"]


class GroupSerializer(serializers.ModelSerializer[DeviceGroup]):
    device_count = serializers.IntegerField()
    created_at = serializers.SerializerMethodField()
    updated_at = serializers.SerializerMethodField()

    class Meta:
        model = DeviceGroup
        fields = [
            "id",
            "name",
            "description",
            "color",
            "device_count",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_created_at(self, group: DeviceGroup) -> str | None:
        return format_datetime(group.created_at)

    def get_updated_at(self, group: DeviceGroup) -> str | None:
        return format_datetime(group.updated_at)


class GroupBody(GroupSerializer):
    """A group in an answer; `devices` where they were asked for."""

    devices = DeviceBody(many=True, required=False)

    class Meta(GroupSerializer.Meta):
        fields = [*GroupSerializer.Meta.fields, "devices"]


class GroupAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    group = GroupBody()


class GroupMessage(GroupAnswer):
    message = serializers.CharField()


class GroupList(serializers.Serializer[Any]):
    status = serializers.CharField()
    groups = GroupBody(many=True)
    meta = PageMeta()


class MembershipOf(GroupSerializer):
    added_at = serializers.CharField()

    class Meta(GroupSerializer.Meta):
        fields = [*GroupSerializer.Meta.fields, "added_at"]


class GroupsOfDevice(serializers.Serializer[Any]):
    status = serializers.CharField()
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    groups = MembershipOf(many=True)
    total_groups = serializers.IntegerField()


class AddDevice(serializers.Serializer[Any]):
    device_id = serializers.IntegerField(min_value=1, max_value=2**63 - 1)


class AddDevices(serializers.Serializer[Any]):
    device_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        allow_empty=False,
        max_length=1000,
    )


class BulkAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    added = serializers.IntegerField()
    skipped = serializers.IntegerField()


class Membership(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    group_id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    added_at = serializers.CharField()


class MembershipAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    membership = Membership()
