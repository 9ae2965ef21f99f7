"""Devices, as their owners and staff see them."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts.models import User
from accounts.requests import current_actor, current_user
from accounts.serializers import MessageAnswer
from devices import services
from devices.filters import filtered
from devices.key_cache import record_of
from devices.models import Device, DeviceGroup, GroupMembership
from devices.presence import presence, presences, silence
from devices.presence_history import uptime
from devices.serializers import devices as shapes
from devices.serializers import groups as group_shapes
from devices.serializers import keys as key_shapes
from devices.views.base import (
    DEVICE_FILTERS,
    UserViewSet,
    changeable_device,
    visible_device,
)
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, limit_parameter, paginate, whole_number
from iotflow.lib.spans import parse_span
from iotflow.lib.timeparse import format_datetime, to_datetime

PRESENCE = [
    OpenApiParameter("start_time", str, description="Default -24h."),
    OpenApiParameter("end_time", str, description="Default now."),
    limit_parameter(settings.LIST_LIMIT, settings.LIST_LIMIT_MAX),
]


class VisibleDevices(UserViewSet):
    """What an owner and staff do alike."""

    lookup_url_kwarg = "device_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=shapes.DeviceList)
    def list(self, request: Request) -> Response:
        """Your devices; everybody's for staff."""
        devices = filtered(Device.objects.visible_to(current_user(request)), request.query_params)
        page = paginate(request, devices)
        bodies = shapes.device_bodies(page.rows, presences(page.rows))
        return Response({"status": "success", "devices": bodies, "meta": page.meta})

    @extend_schema(responses=shapes.OneDevice)
    def retrieve(self, request: Request, device_id: int) -> Response:
        """One device, and whose it is."""
        device = visible_device(request, device_id)
        body = shapes.device_body(device, presence(device))
        return Response(
            {"status": "success", "device": {**body, "user_id": str(device.owner.user_id)}}
        )

    @extend_schema(
        request=shapes.DeviceChanges(partial=True),
        responses={200: shapes.DeviceChanged, 409: Error},
    )
    def update(self, request: Request, device_id: int) -> Response:
        """Change the fields sent; the rest stays."""
        fields = shapes.DeviceChanges(data=request.data, partial=True)
        return changed(request, device_id, fields, "Device updated")

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, device_id: int) -> Response:
        """Delete a device with its keys at once; its telemetry follows in the background."""
        device = changeable_device(request, device_id, "devices.delete_device")
        services.delete_devices(devices=[device], actor=current_actor(request))
        return Response({"status": "success", "message": "Device deleted"})


def changed(request: Request, device_id: int, fields: Serializer[Any], message: str) -> Response:
    """Change of a device what the body says."""
    fields.is_valid(raise_exception=True)
    device = changeable_device(request, device_id)
    services.change_device(
        device=device, fields=fields.validated_data, actor=current_actor(request)
    )
    body = shapes.device_body(device, presence(device))
    return Response({"status": "success", "message": message, "device": body})


class DeviceViewSet(VisibleDevices):
    @extend_schema(request=shapes.DeviceFields, responses={201: shapes.RegisterAnswer, 409: Error})
    def create(self, request: Request) -> Response:
        """Register a device; its API key is shown only here."""
        fields = shapes.DeviceFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device, secret = services.register_device(
            owner=current_user(request),
            fields=fields.validated_data,
            actor=current_actor(request),
        )
        body = shapes.device_body(device, presence(device))
        return Response(
            {
                "message": "Device registered successfully",
                "device": {**body, "api_key": secret},
            },
            status=201,
        )

    @extend_schema(
        request=shapes.DeviceChanges(partial=True),
        responses={200: shapes.DeviceChanged, 409: Error},
    )
    def partial_update(self, request: Request, device_id: int) -> Response:
        """The same as PUT."""
        return self.update(request, device_id)

    @extend_schema(request=shapes.DeviceFields, responses={201: shapes.RegisterAnswer, 409: Error})
    @action(detail=False, methods=["post"])
    def register(self, request: Request) -> Response:
        """The same as POST /devices."""
        return self.create(request)

    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=shapes.DevicesOfUser)
    @action(detail=False, url_path="user/<uuid:user_id>")
    def of_user(self, request: Request, user_id: UUID) -> Response:
        """A user's devices: one's own, or anybody's for staff."""
        owner = get_object_or_404(User.objects.visible_to(current_user(request)), user_id=user_id)
        page = paginate(request, filtered(owner.devices.all(), request.query_params))
        return Response(
            {
                "status": "success",
                "user_id": str(owner.user_id),
                "username": owner.username,
                "total_devices": page.meta["total"],
                "devices": shapes.device_bodies(page.rows, presences(page.rows)),
                "meta": page.meta,
            }
        )

    @extend_schema(responses=shapes.DeviceAnswer)
    @action(detail=True)
    def status(self, request: Request, device_id: int) -> Response:
        """One device's state."""
        device = visible_device(request, device_id)
        body = shapes.device_body(device, presence(device))
        return Response({"status": "success", "device": body})

    @extend_schema(parameters=PRESENCE, responses=shapes.PresenceAnswer)
    @action(detail=True, url_path="presence")
    def online(self, request: Request, device_id: int) -> Response:
        """How long a device was online, and when that changed, the newest first."""
        device = visible_device(request, device_id)
        query = request.query_params
        span = parse_span(query)
        limit = whole_number(query, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX)
        found = uptime(device, to_datetime(span.start), to_datetime(span.end), limit)
        state = presence(device)
        changes = shapes.PresenceChangeBody(found.changes, many=True).data
        return Response(
            {
                "status": "success",
                "device_id": device.pk,
                "is_online": state.is_online,
                "last_seen": format_datetime(state.last_seen),
                "allowed_silence": silence(record_of(device)),
                "start_time": span.start_text,
                "end_time": span.end_text,
                "online_seconds": found.online.total_seconds(),
                "offline_seconds": found.offline.total_seconds(),
                "uptime": found.share,
                "changes": changes,
                "total_changes": found.count,
                "truncated": found.count > len(changes),
            }
        )

    @extend_schema(responses=group_shapes.GroupsOfDevice)
    @action(detail=True)
    def groups(self, request: Request, device_id: int) -> Response:
        """The groups that this device is in."""
        device = visible_device(request, device_id)
        memberships = GroupMembership.objects.filter(device=device).prefetch_related(
            Prefetch("group", DeviceGroup.objects.with_device_count())
        )
        groups = [
            {
                **group_shapes.GroupSerializer(membership.group).data,
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

    @extend_schema(
        request=key_shapes.Rotation, responses={200: key_shapes.RotationAnswer, 409: Error}
    )
    @action(detail=True, methods=["post"], url_path="rotate-key")
    def rotate_key(self, request: Request, device_id: int) -> Response:
        """Give a device a new key, shown only here; the older ones end, now or after a grace."""
        rotation = key_shapes.Rotation(data=request.data)
        rotation.is_valid(raise_exception=True)
        fields = rotation.validated_data
        grace_seconds = fields.pop("grace_seconds")
        device = changeable_device(request, device_id)
        api_key, secret = services.rotate_key(
            device=device,
            grace_seconds=grace_seconds,
            fields=fields,
            actor=current_actor(request),
        )
        return Response(
            {
                "status": "success",
                "message": "Key rotated",
                "device_id": device.pk,
                "api_key": secret,
                "key": key_shapes.key_body(api_key, None),
                "grace_seconds": grace_seconds,
            }
        )
