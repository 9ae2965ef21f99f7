"""What staff may do to anybody's device."""

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import IsStaff
from accounts.serializers import MessageAnswer
from devices import services
from devices.filters import filtered
from devices.models import Device
from devices.presence import presence, presences
from devices.serializers import devices as shapes
from devices.views.base import DEVICE_FILTERS, UserViewSet, current_actor, visible_device
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, paginate
from iotflow.lib.timeparse import format_datetime


class StaffDeviceViewSet(UserViewSet):
    permission_classes = [IsStaff]
    lookup_url_kwarg = "device_id"
    lookup_value_converter = "int"

    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=shapes.DeviceList)
    def list(self, request: Request) -> Response:
        """Everybody's devices, for staff."""
        page = paginate(request, filtered(Device.objects.all(), request.query_params))
        bodies = shapes.device_bodies(page.rows, presences(page.rows))
        return Response({"status": "success", "devices": bodies, "meta": page.meta})

    @extend_schema(responses=shapes.DeviceAnswer)
    def retrieve(self, request: Request, device_id: int) -> Response:
        """One device's state."""
        device = visible_device(request, device_id)
        body = shapes.device_body(device, presence(device))
        return Response({"status": "success", "device": body})

    @extend_schema(
        request=shapes.AnyDeviceFields(partial=True),
        responses={200: shapes.ChangedDevice, 409: Error},
    )
    def update(self, request: Request, device_id: int) -> Response:
        """Change the fields sent; the rest stays."""
        fields = shapes.AnyDeviceFields(data=request.data, partial=True)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, device_id)
        services.change_device(
            device=device, fields=fields.validated_data, actor=current_actor(request)
        )
        body = shapes.device_body(device, presence(device))
        return Response({"status": "success", "message": "Device updated", "device": body})

    @extend_schema(responses=MessageAnswer)
    def destroy(self, request: Request, device_id: int) -> Response:
        """Delete a device with its keys at once; its telemetry follows in the background."""
        device = visible_device(request, device_id)
        services.delete_devices(devices=[device], actor=current_actor(request))
        return Response({"status": "success", "message": "Device deleted"})

    @extend_schema(request=shapes.StatusFields, responses=shapes.ChangedDevice)
    @action(detail=True, methods=["put"])
    def status(self, request: Request, device_id: int) -> Response:
        """Switch a device on, off or into maintenance."""
        fields = shapes.StatusFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = visible_device(request, device_id)
        services.change_device(
            device=device, fields=fields.validated_data, actor=current_actor(request)
        )
        body = shapes.device_body(device, presence(device))
        return Response({"status": "success", "message": "Device status updated", "device": body})

    @extend_schema(parameters=[*PAGE, *DEVICE_FILTERS], responses=shapes.DeviceStatuses)
    @action(detail=False)
    def statuses(self, request: Request) -> Response:
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
