"""Groups and their members as the API shows and takes them."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from devices.models import DeviceGroup
from devices.serializers.devices import DeviceBody, DeviceList
from iotflow.lib import ids
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta


class GroupFields(serializers.ModelSerializer[DeviceGroup]):
    """What an owner says about a group."""

    class Meta:
        model = DeviceGroup
        fields = ["name", "description", "color"]


class GroupSerializer(serializers.ModelSerializer[DeviceGroup]):
    device_count = serializers.IntegerField()
    created_at = Instant(read_only=True)
    updated_at = Instant(read_only=True)

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


@extend_schema_serializer(many=False)
class GroupList(serializers.Serializer[Any]):
    status = serializers.CharField()
    groups = GroupBody(many=True)
    meta = PageMeta()


@extend_schema_serializer(many=False)
class DevicesOfGroup(DeviceList):
    group_id = serializers.IntegerField()


class MembershipOf(GroupSerializer):
    added_at = Instant()

    class Meta(GroupSerializer.Meta):
        fields = [*GroupSerializer.Meta.fields, "added_at"]


class GroupsOfDevice(serializers.Serializer[Any]):
    status = serializers.CharField()
    device_id = serializers.IntegerField()
    device_name = serializers.CharField()
    groups = MembershipOf(many=True)
    total_groups = serializers.IntegerField()


class AddDevice(serializers.Serializer[Any]):
    device_id = serializers.IntegerField(min_value=1, max_value=ids.MAX)


class DeviceIds(serializers.Serializer[Any]):
    device_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=ids.MAX),
        allow_empty=False,
        max_length=1000,
    )


class BulkAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    added = serializers.IntegerField()
    skipped = serializers.IntegerField()


class RemovedAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    removed = serializers.IntegerField()
    skipped = serializers.IntegerField()


class Membership(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    group_id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    added_at = Instant()


class MembershipAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    membership = Membership()
