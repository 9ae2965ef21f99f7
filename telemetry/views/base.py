"""Whose telemetry is asked for, and by whom."""

from dataclasses import dataclass

from django.shortcuts import get_object_or_404
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.authentication import StaffSession, TokenAuthentication
from accounts.models import User
from accounts.permissions import check_may_change
from devices.authentication import ApiKeyAuthentication, DevicePrincipal, IsWritingDevice
from devices.models import Device


@dataclass(frozen=True, slots=True)
class Subject:
    """The device whose telemetry is asked for."""

    id: int
    owner_id: int
    name: str
    device_type: str
    latest_epoch: int

    def heading(self) -> dict[str, object]:
        return {
            "device_id": self.id,
            "device_name": self.name,
            "device_type": self.device_type,
        }


class TelemetryView(APIView):
    """For the device itself, its owner, and staff."""

    authentication_classes = [ApiKeyAuthentication, TokenAuthentication, StaffSession]

    def subject(self, request: Request, device_id: int) -> Subject:
        """The device, if whoever asks may see it; a device needs no query for itself."""
        if isinstance(request.user, DevicePrincipal) and request.user.device.id == device_id:
            own = request.user.device
            return Subject(own.id, own.owner_id, own.name, own.device_type, own.latest_epoch)
        visible = (
            Device.objects.visible_to(request.user)
            if isinstance(request.user, User)
            else Device.objects.none()
        )
        device = get_object_or_404(visible, pk=device_id)
        return Subject(
            device.pk, device.owner_id, device.name, device.device_type, device.latest_epoch
        )

    def check_may_write(self, request: Request, subject: Subject) -> None:
        """A device that is switched off only reads, as do staff without Django's permission.

        Raises PermissionDenied (403).
        """
        if isinstance(request.user, DevicePrincipal) and not request.user.device.may_write:
            raise PermissionDenied(IsWritingDevice.message)
        if isinstance(request.user, User):
            check_may_change(request.user, subject.owner_id, "devices.change_device")
