"""Groups and the devices in them."""

from typing import Any, cast

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import check_may_change
from accounts.requests import current_actor, current_user
from accounts.serializers import MessageAnswer
from devices import services
from devices.filters import filtered
from devices.models import Device, DeviceGroup, GroupMembership
from devices.presence import presences
from devices.serializers import groups as shapes
from devices.serializers.devices import device_bodies
from devices.views.base import (
    DEVICE_FILTERS,
    UserViewSet,
    visible_device,
)
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, flag, paginate
from iotflow.lib.timeparse import format_datetime

INCLUDE_DEVICES = OpenApiParameter("include_devices", bool)


def visible_group(request: Request, group_id: int) -> DeviceGroup:
    groups = DeviceGroup.objects.visible_to(current_user(request)).with_device_count()
    return cast(DeviceGroup, get_object_or_404(groups, pk=group_id))


def changeable_group(
    request: Request, group_id: int, permission: str = "devices.change_devicegroup"
) -> DeviceGroup:
    """As `visible_group`, for who may change it too."""
    group = visible_group(request, group_id)
    check_may_change(current_user(request), group.owner_id, permission)
    return group


def group_bodies(groups: list[DeviceGroup], include_devices: bool) -> list[dict[str, Any]]:
    """Groups as answered; with devices, two more round trips for any number of groups."""
    if not include_devices:
        return [dict(shapes.GroupSerializer(group).data) for group in groups]
    memberships = GroupMembership.objects.filter(group__in=groups).select_related("device")
    devices_of: dict[int, list[Device]] = {group.pk: [] for group in groups}
    for membership in memberships:
        devices_of[membership.group_id].append(membership.device)
    states = presences([device for devices in devices_of.values() for device in devices])
    return [
        {
            **shapes.GroupSerializer(group).data,
            "devices": device_bodies(devices_of[group.pk], states),
        }
        for group in groups
    ]


class GroupViewSet(UserViewSet):
    lookup_url_kwarg = "group_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=[*PAGE, INCLUDE_DEVICES], responses=shapes.GroupList)
    def list(self, request: Request) -> Response:
        """Your groups; everybody's for staff."""
        groups = DeviceGroup.objects.visible_to(current_user(request)).with_device_count()
        include_devices = flag(request, "include_devices", False)
        page = paginate(request, groups)
        bodies = group_bodies(page.rows, include_devices)
        return Response({"status": "success", "groups": bodies, "meta": page.meta})

    @extend_schema(request=shapes.GroupFields, responses={201: shapes.GroupMessage, 409: Error})
    def create(self, request: Request) -> Response:
        """Make a group."""
        fields = shapes.GroupFields(data=request.data)
        fields.is_valid(raise_exception=True)
        group = services.create_group(
            owner=current_user(request),
            fields=fields.validated_data,
            actor=current_actor(request),
        )
        group.device_count = 0  # type: ignore[attr-defined]
        return Response(
            {
                "status": "success",
                "message": "Group created successfully",
                "group": shapes.GroupSerializer(group).data,
            },
            status=201,
        )

    @extend_schema(parameters=[INCLUDE_DEVICES], responses=shapes.GroupAnswer)
    def retrieve(self, request: Request, group_id: int) -> Response:
        """One group, with its devices unless told otherwise."""
        group = visible_group(request, group_id)
        [body] = group_bodies([group], flag(request, "include_devices", True))
        return Response({"status": "success", "group": body})

    @extend_schema(
        request=shapes.GroupFields(partial=True), responses={200: shapes.GroupMessage, 409: Error}
    )
    def update(self, request: Request, group_id: int) -> Response:
        """Change the fields sent; the rest stays."""
        group = changeable_group(request, group_id)
        fields = shapes.GroupFields(group, data=request.data, partial=True)
        fields.is_valid(raise_exception=True)
        services.change_group(
            group=group, fields=fields.validated_data, actor=current_actor(request)
        )
        return Response(
            {
                "status": "success",
                "message": "Group updated",
                "group": shapes.GroupSerializer(group).data,
            }
        )

    @extend_schema(
        request=shapes.GroupFields(partial=True), responses={200: shapes.GroupMessage, 409: Error}
    )
    def partial_update(self, request: Request, group_id: int) -> Response:
        """The same as PUT."""
        return self.update(request, group_id)

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, group_id: int) -> Response:
        """Delete the group; its devices stay."""
        group = changeable_group(request, group_id, "devices.delete_devicegroup")
        services.delete_group(group=group, actor=current_actor(request))
        return Response({"status": "success", "message": "Group deleted"})


class MemberViewSet(UserViewSet):
    """The devices of one group."""

    lookup_url_kwarg = "device_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=shapes.DevicesOfGroup)
    def list(self, request: Request, group_id: int) -> Response:
        """The devices of a group."""
        group = visible_group(request, group_id)
        page = paginate(request, filtered(group.devices.all(), request.query_params))
        bodies = device_bodies(page.rows, presences(page.rows))
        return Response(
            {"status": "success", "group_id": group.pk, "devices": bodies, "meta": page.meta}
        )

    @extend_schema(request=shapes.AddDevice, responses={201: shapes.MembershipAnswer, 409: Error})
    def create(self, request: Request, group_id: int) -> Response:
        """Put a device into the group."""
        group = changeable_group(request, group_id)
        fields = shapes.AddDevice(data=request.data)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, fields.validated_data["device_id"])
        membership = services.add_to_group(group=group, device=device, actor=current_actor(request))
        return Response(
            {
                "status": "success",
                "message": "Device added to group",
                "membership": {
                    "id": membership.pk,
                    "group_id": group.pk,
                    "device_id": device.pk,
                    "added_at": format_datetime(membership.added_at),
                },
            },
            status=201,
        )

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, group_id: int, device_id: int) -> Response:
        """Take a device out of the group."""
        membership = get_object_or_404(
            GroupMembership.objects.select_related("group", "device"),
            group=changeable_group(request, group_id),
            device_id=device_id,
        )
        services.remove_from_group(membership=membership, actor=current_actor(request))
        return Response({"status": "success", "message": "Device removed from group"})

    @extend_schema(request=shapes.DeviceIds, responses={201: shapes.BulkAnswer})
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request, group_id: int) -> Response:
        """Put many devices into the group; those that are in it already are skipped."""
        group = changeable_group(request, group_id)
        fields = shapes.DeviceIds(data=request.data)
        fields.is_valid(raise_exception=True)
        wanted = set(fields.validated_data["device_ids"])
        devices = list(Device.objects.visible_to(current_user(request)).filter(pk__in=wanted))
        if missing := wanted - {device.pk for device in devices}:
            raise services.no_such_devices(missing)
        added = services.add_all_to_group(
            group=group, devices=devices, actor=current_actor(request)
        )
        return Response(
            {
                "status": "success",
                "message": f"{added} device(s) added to group",
                "added": added,
                "skipped": len(devices) - added,
            },
            status=201,
        )

    @extend_schema(request=shapes.DeviceIds, responses={200: shapes.RemovedAnswer})
    @bulk.mapping.delete
    def bulk_remove(self, request: Request, group_id: int) -> Response:
        """Take many devices out of the group; what is not in it is skipped."""
        group = changeable_group(request, group_id)
        fields = shapes.DeviceIds(data=request.data)
        fields.is_valid(raise_exception=True)
        wanted = set(fields.validated_data["device_ids"])
        removed = services.remove_all_from_group(
            group=group, device_ids=wanted, actor=current_actor(request)
        )
        return Response(
            {
                "status": "success",
                "message": f"{removed} device(s) removed from group",
                "removed": removed,
                "skipped": len(wanted) - removed,
            }
        )
