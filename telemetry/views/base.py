"""Whose telemetry is asked for, and by whom."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.authentication import StaffSession, TokenAuthentication
from accounts.models import User
from accounts.permissions import check_may_change
from devices.admission import claim
from devices.authentication import ApiKeyAuthentication, DevicePrincipal, IsWritingDevice
from devices.direct import DirectView, admitted, known_key, respond
from devices.models import Device
from devices.throttles import device_charge
from telemetry.selectors import Body, Subject


class TelemetryView(APIView):
    """For the device itself, its owner, and staff."""

    authentication_classes = [ApiKeyAuthentication, TokenAuthentication, StaffSession]

    def subject(self, request: Request, device_id: int) -> Subject:
        """The device, if whoever asks may see it; a device needs no query for itself."""
        if isinstance(request.user, DevicePrincipal) and request.user.device.id == device_id:
            return Subject.of(request.user.device)
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


class OwnTelemetryView(DirectView, TelemetryView):
    """What a device reads of itself, which is most of what is read, goes the short way."""

    direct_method = "GET"

    def own(
        self,
        request: HttpRequest,
        device_id: int,
        body: Callable[[Subject, dict[bytes, bytes]], Body],
        hash_of: Callable[[Subject], str] = lambda subject: "",
    ) -> HttpResponse | None:
        """`body` of the device and of what Redis has under `hash_of` it, if it asks for itself."""
        found = known_key(request)
        if found is None or found[1].record.id != device_id:
            return None
        subject = Subject.of(found[1].record)
        charges = [device_charge(found[1].record)]
        admission = admitted(claim(*found, charges, hash=hash_of(subject)))
        if admission is None:
            return None
        return respond(body(subject, admission.hash), admission.verdict.states)
