"""What a device says about itself, and asks."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from devices import services
from devices.authentication import IsWritingDevice
from devices.models import ApiKey, Device
from devices.presence import keys_last_used, presence, touch
from devices.serializers import devices as shapes
from devices.serializers import keys as key_shapes
from devices.views.base import DeviceView, current_device
from iotflow.lib.timeparse import format_datetime, format_ms, now_ms


class OwnStatusView(DeviceView):
    @extend_schema(responses=shapes.OwnStatus)
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

    @extend_schema(request=None, responses=shapes.Heartbeat)
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

    @extend_schema(request=shapes.DeviceConfigFields, responses=shapes.DeviceMessage)
    def put(self, request: Request) -> Response:
        """Report status, location and versions of this device."""
        fields = shapes.DeviceConfigFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = services.report_device(
            device_id=current_device(request).id, fields=fields.validated_data
        )
        return Response(
            {
                "message": "Device configuration updated",
                "device": shapes.device_body(device, presence(device)),
            }
        )


class CredentialsView(DeviceView):
    @extend_schema(responses=key_shapes.Credentials)
    def get(self, request: Request) -> Response:
        """Who this key is; never the key itself."""
        api_key = get_object_or_404(ApiKey.objects.with_device(), pk=current_device(request).key_id)
        last_used = keys_last_used([api_key])[api_key.pk]
        return Response(key_shapes.credentials_body(api_key, last_used))
