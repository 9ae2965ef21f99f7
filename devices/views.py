"""Devices and groups over HTTP."""

from typing import Any, cast
from uuid import UUID

from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import IsStaff, IsUser
from accounts.serializers import MessageAnswer
from accounts.services import actor_name
from devices import serializers, services
from devices.authentication import (
    ApiKeyAuthentication,
    DevicePrincipal,
    IsDevice,
    IsWritingDevice,
)
from devices.filters import filtered
from devices.key_cache import DeviceRecord
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from devices.presence import key_last_used, presence, presences, touch
from iotflow.lib.pagination import PAGE, flag, paginate
from iotflow.lib.timeparse import format_datetime, format_ms, now_ms

DEVICE_FILTERS = [
    OpenApiParameter("status", str, enum=Device.Status.values),
    OpenApiParameter("device_type", str),
    OpenApiParameter("search", str, description="Part of name, description or location."),
]
INCLUDE_DEVICES = OpenApiParameter("include_devices", bool)


def current_user(request: Request) -> User:
    return cast(User, request.user)


def current_device(request: Request) -> DeviceRecord:
    return cast(DevicePrincipal, request.user).device


def visible_device(request: Request, device_id: int) -> Device:
    return get_object_or_404(Device.objects.visible_to(current_user(request)), pk=device_id)


class UserView(APIView):
    permission_classes = [IsUser]


class DeviceView(APIView):
    """Answers a device about itself; switched off or not."""

    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsDevice]


class RegisterView(UserView):
    @extend_schema(request=serializers.DeviceFields, responses={201: serializers.RegisterAnswer})
    def post(self, request: Request) -> Response:
        """Register a device; its API key is shown only here."""
        fields = serializers.DeviceFields(data=request.data)
        fields.is_valid(raise_exception=True)
        user = current_user(request)
        device, secret = services.register_device(
            owner=user, fields=fields.validated_data, actor=actor_name(user)
        )
        body = serializers.device_body(device, presence(device))
        return Response(
            {
                "message": "Device registered successfully",
                "device": {**body, "api_key": secret},
            },
            status=201,
        )


class DevicesView(UserView):
    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=serializers.DeviceList)
    def get(self, request: Request) -> Response:
        """Your devices; everybody's for staff."""
        devices = filtered(Device.objects.visible_to(current_user(request)), request.query_params)
        page = paginate(request, devices)
        bodies = serializers.device_bodies(page.rows, presences(page.rows))
        return Response({"status": "success", "devices": bodies, "meta": page.meta})


class DevicesOfUserView(UserView):
    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=serializers.DevicesOfUser)
    def get(self, request: Request, user_id: UUID) -> Response:
        """A user's devices: one's own, or anybody's for staff."""
        owner = get_object_or_404(User.objects.visible_to(current_user(request)), user_id=user_id)
        page = paginate(request, filtered(owner.devices.all(), request.query_params))
        return Response(
            {
                "status": "success",
                "user_id": str(owner.user_id),
                "username": owner.username,
                "total_devices": page.meta["total"],
                "devices": serializers.device_bodies(page.rows, presences(page.rows)),
                "meta": page.meta,
            }
        )


class OwnStatusView(DeviceView):
    @extend_schema(responses=serializers.OwnStatus)
    def get(self, request: Request) -> Response:
        """This device's own state."""
        record = current_device(request)
        state = presence(get_object_or_404(Device, pk=record.id))
        return Response(
            {
                "device_id": record.id,
                "name": record.name,
                "device_type": record.device_type,
                "status": record.status,
                "is_online": state.is_online,
                "last_seen": format_datetime(state.last_seen),
            }
        )


class HeartbeatView(DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(request=None, responses=serializers.Heartbeat)
    def post(self, request: Request) -> Response:
        """Say that this device is there."""
        record = current_device(request)
        touch([record])
        return Response(
            {
                "message": "Heartbeat received",
                "device_id": record.id,
                "timestamp": format_ms(now_ms()),
            }
        )


class OwnConfigView(DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(request=serializers.DeviceConfigFields, responses=serializers.DeviceMessage)
    def put(self, request: Request) -> Response:
        """Report status, location and versions of this device."""
        fields = serializers.DeviceConfigFields(data=request.data)
        fields.is_valid(raise_exception=True)
        active = Device.objects.exclude(status=Device.Status.INACTIVE)
        device = get_object_or_404(active, pk=current_device(request).id)
        services.change_device(
            device=device, fields=fields.validated_data, actor=f"device:{device.pk}"
        )
        return Response(
            {
                "message": "Device configuration updated",
                "device": serializers.device_body(device, presence(device)),
            }
        )


class CredentialsView(DeviceView):
    @extend_schema(responses=serializers.Credentials)
    def get(self, request: Request) -> Response:
        """Who this key is; never the key itself."""
        api_key = get_object_or_404(ApiKey.objects.with_device(), pk=current_device(request).key_id)
        return Response(serializers.credentials_body(api_key, key_last_used(api_key)))


class StatusView(UserView):
    @extend_schema(responses=serializers.DeviceAnswer)
    def get(self, request: Request, device_id: int) -> Response:
        """One device's state."""
        device = visible_device(request, device_id)
        body = serializers.device_body(device, presence(device))
        return Response({"status": "success", "device": body})


class GroupsOfDeviceView(UserView):
    @extend_schema(responses=serializers.GroupsOfDevice)
    def get(self, request: Request, device_id: int) -> Response:
        """The groups that this device is in."""
        device = visible_device(request, device_id)
        memberships = GroupMembership.objects.filter(device=device).prefetch_related(
            Prefetch("group", DeviceGroup.objects.with_device_count())
        )
        groups = [
            {
                **serializers.GroupSerializer(membership.group).data,
                "added_at": format_datetime(membership.added_at),
            }
            for membership in memberships
        ]
        return Response(
            {
                "status": "success",
                "device_id": device.pk,
                "device_name": device.name,
                "groups": groups,
                "total_groups": len(groups),
            }
        )


class AdminDevicesView(UserView):
    """What staff may do to anybody's device, beyond what its owner may."""

    permission_classes = [IsStaff]


@extend_schema_view(get=extend_schema(description="Everybody's devices, for staff."))
class AllDevicesView(DevicesView):
    permission_classes = [IsStaff]


class AllStatusesView(AdminDevicesView):
    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=serializers.DeviceStatuses)
    def get(self, request: Request) -> Response:
        """Who is there: id, name, type, status and presence of every device."""
        page = paginate(request, filtered(Device.objects.all(), request.query_params))
        states = presences(page.rows)
        rows = [
            {
                "id": device.pk,
                "name": device.name,
                "device_type": device.device_type,
                "status": device.status,
                "is_online": states[device.pk].is_online,
                "last_seen": format_datetime(states[device.pk].last_seen),
            }
            for device in page.rows
        ]
        return Response({"status": "success", "devices": rows, "meta": page.meta})


class AnyDeviceView(StatusView):
    permission_classes = [IsStaff]

    @extend_schema(request=serializers.AnyDeviceFields, responses=serializers.DeviceAnswer)
    def put(self, request: Request, device_id: int) -> Response:
        """Change the fields sent; the rest stays."""
        fields = serializers.AnyDeviceFields(data=request.data, partial=True)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, device_id)
        who = actor_name(current_user(request))
        services.change_device(device=device, fields=fields.validated_data, actor=who)
        body = serializers.device_body(device, presence(device))
        return Response({"status": "success", "message": "Device updated", "device": body})

    @extend_schema(responses=MessageAnswer)
    def delete(self, request: Request, device_id: int) -> Response:
        """Delete a device with its keys at once; its telemetry follows in the background."""
        device = visible_device(request, device_id)
        services.delete_devices(devices=[device], actor=actor_name(current_user(request)))
        return Response({"status": "success", "message": "Device deleted"})


class AdminStatusView(AdminDevicesView):
    @extend_schema(request=serializers.StatusFields, responses=serializers.DeviceAnswer)
    def put(self, request: Request, device_id: int) -> Response:
        """Switch a device on, off or into maintenance."""
        fields = serializers.StatusFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, device_id)
        services.change_device(
            device=device,
            fields=fields.validated_data,
            actor=actor_name(current_user(request)),
        )
        body = serializers.device_body(device, presence(device))
        return Response({"status": "success", "message": "Device status updated", "device": body})


class GroupView(UserView):
    def group(self, request: Request, group_id: int) -> DeviceGroup:
        groups = DeviceGroup.objects.visible_to(current_user(request)).with_device_count()
        return cast(DeviceGroup, get_object_or_404(groups, pk=group_id))

    def bodies(self, groups: list[DeviceGroup], include_devices: bool) -> list[dict[str, Any]]:
        """Groups as answered; with devices, two more round trips for any number of groups."""
        if not include_devices:
            return [dict(serializers.GroupSerializer(group).data) for group in groups]
        memberships = GroupMembership.objects.filter(group__in=groups).select_related("device")
        devices_of: dict[int, list[Device]] = {group.pk: [] for group in groups}
        for membership in memberships:
            devices_of[membership.group_id].append(membership.device)
        states = presences([device for devices in devices_of.values() for device in devices])
        return [
            {
                **serializers.GroupSerializer(group).data,
                "devices": serializers.device_bodies(devices_of[group.pk], states),
            }
            for group in groups
        ]


class GroupsView(GroupView):
    @extend_schema(
        parameters=[*PAGE, INCLUDE_DEVICES],
        responses=serializers.GroupList,
    )
    def get(self, request: Request) -> Response:
        """Your groups; everybody's for staff."""
        groups = DeviceGroup.objects.visible_to(current_user(request)).with_device_count()
        include_devices = flag(request, "include_devices", False)
        page = paginate(request, groups)
        return Response(
            {
                "status": "success",
                "groups": self.bodies(page.rows, include_devices),
                "meta": page.meta,
            }
        )

    @extend_schema(request=serializers.GroupFields, responses={201: serializers.GroupMessage})
    def post(self, request: Request) -> Response:
        """Make a group."""
        fields = serializers.GroupFields(data=request.data)
        fields.is_valid(raise_exception=True)
        user = current_user(request)
        group = services.create_group(
            owner=user, fields=fields.validated_data, actor=actor_name(user)
        )
        group.device_count = 0  # type: ignore[attr-defined]
        return Response(
            {
                "status": "success",
                "message": "Group created successfully",
                "group": serializers.GroupSerializer(group).data,
            },
            status=201,
        )


class OneGroupView(GroupView):
    @extend_schema(parameters=[INCLUDE_DEVICES], responses=serializers.GroupAnswer)
    def get(self, request: Request, group_id: int) -> Response:
        """One group, with its devices unless told otherwise."""
        group = self.group(request, group_id)
        [body] = self.bodies([group], flag(request, "include_devices", True))
        return Response({"status": "success", "group": body})

    @extend_schema(request=serializers.GroupFields, responses=serializers.GroupMessage)
    def put(self, request: Request, group_id: int) -> Response:
        """Change the fields sent; the rest stays."""
        group = self.group(request, group_id)
        fields = serializers.GroupFields(group, data=request.data, partial=True)
        fields.is_valid(raise_exception=True)
        services.change_group(
            group=group, fields=fields.validated_data, actor=actor_name(current_user(request))
        )
        return Response(
            {
                "status": "success",
                "message": "Group updated",
                "group": serializers.GroupSerializer(group).data,
            }
        )

    @extend_schema(request=serializers.GroupFields, responses=serializers.GroupMessage)
    def patch(self, request: Request, group_id: int) -> Response:
        """The same as PUT."""
        return self.put(request, group_id)

    @extend_schema(responses=MessageAnswer)
    def delete(self, request: Request, group_id: int) -> Response:
        """Delete the group; its devices stay."""
        group = self.group(request, group_id)
        services.delete_group(group=group, actor=actor_name(current_user(request)))
        return Response({"status": "success", "message": "Group deleted"})


class GroupDevicesView(GroupView):
    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=serializers.DeviceList)
    def get(self, request: Request, group_id: int) -> Response:
        """The devices of a group."""
        group = self.group(request, group_id)
        page = paginate(request, filtered(group.devices.all(), request.query_params))
        bodies = serializers.device_bodies(page.rows, presences(page.rows))
        return Response(
            {"status": "success", "group_id": group.pk, "devices": bodies, "meta": page.meta}
        )

    @extend_schema(request=serializers.AddDevice, responses={201: serializers.MembershipAnswer})
    def post(self, request: Request, group_id: int) -> Response:
        """Put a device into the group."""
        group = self.group(request, group_id)
        fields = serializers.AddDevice(data=request.data)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, fields.validated_data["device_id"])
        membership = services.add_to_group(
            group=group, device=device, actor=actor_name(current_user(request))
        )
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


class GroupBulkView(GroupView):
    @extend_schema(request=serializers.AddDevices, responses={201: serializers.BulkAnswer})
    def post(self, request: Request, group_id: int) -> Response:
        """Put many devices into the group; those that are in it already are skipped."""
        group = self.group(request, group_id)
        fields = serializers.AddDevices(data=request.data)
        fields.is_valid(raise_exception=True)
        wanted = set(fields.validated_data["device_ids"])
        devices = list(Device.objects.visible_to(current_user(request)).filter(pk__in=wanted))
        if missing := wanted - {device.pk for device in devices}:
            named = ", ".join(map(str, sorted(missing)[:10]))
            raise ValidationError({"device_ids": [f"There is no device {named}."]})
        added = services.add_all_to_group(
            group=group, devices=devices, actor=actor_name(current_user(request))
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


class GroupDeviceView(GroupView):
    @extend_schema(responses=MessageAnswer)
    def delete(self, request: Request, group_id: int, device_id: int) -> Response:
        """Take a device out of the group."""
        membership = get_object_or_404(
            GroupMembership.objects.select_related("group", "device"),
            group=self.group(request, group_id),
            device_id=device_id,
        )
        services.remove_from_group(membership=membership, actor=actor_name(current_user(request)))
        return Response({"status": "success", "message": "Device removed from group"})
