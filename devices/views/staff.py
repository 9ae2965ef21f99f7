"""What staff may do to anybody's device."""

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import IsStaff
from devices.filters import filtered
from devices.models import Device
from devices.presence import presences
from devices.serializers import devices as shapes
from devices.views.base import DEVICE_FILTERS
from devices.views.devices import VisibleDevices, changed
from iotflow.lib.pagination import PAGE, paginate
from iotflow.lib.timeparse import format_datetime


class StaffDeviceViewSet(VisibleDevices):
    permission_classes = [IsStaff]

    @extend_schema(request=shapes.StatusFields, responses=shapes.DeviceChanged)
    @action(detail=True, methods=["put"])
    def status(self, request: Request, device_id: int) -> Response:
        """Switch a device on, off or into maintenance."""
        fields = shapes.StatusFields(data=request.data)
        return changed(request, device_id, fields, "Device status updated")

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
