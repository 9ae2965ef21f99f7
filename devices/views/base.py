"""Who asks, and what they may see: what every view of devices begins with."""

from typing import cast

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from accounts.permissions import IsUser, check_may_change
from accounts.requests import current_user
from devices.authentication import ApiKeyAuthentication, DevicePrincipal, IsDevice
from devices.key_cache import DeviceRecord
from devices.models import Device

DEVICE_FILTERS = [
    OpenApiParameter("status", str, enum=Device.Status.values),
    OpenApiParameter("device_type", str),
    OpenApiParameter("search", str, description="Part of name, description or location."),
]


def current_device(request: Request) -> DeviceRecord:
    return cast(DevicePrincipal, request.user).device


def visible_device(request: Request, device_id: int) -> Device:
    devices = Device.objects.visible_to(current_user(request)).select_related("owner")
    return get_object_or_404(devices, pk=device_id)


def changeable_device(
    request: Request, device_id: int, permission: str = "devices.change_device"
) -> Device:
    """As `visible_device`, for who may change it too."""
    device = visible_device(request, device_id)
    check_may_change(current_user(request), device.owner_id, permission)
    return device


class UserView(APIView):
    permission_classes = [IsUser]


class UserViewSet(ViewSet):
    permission_classes = [IsUser]


class DeviceView(APIView):
    """Answers a device about itself; switched off or not."""

    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsDevice]
