"""Telemetry over HTTP."""

import re
from dataclasses import dataclass

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import StaffSession, TokenAuthentication
from accounts.models import User
from devices.authentication import ApiKeyAuthentication, DevicePrincipal, IsWritingDevice
from devices.models import Device
from devices.views import UserView, current_device, current_user
from iotflow.lib.errors import Error, StoreAway
from telemetry import selectors, serializers, services
from telemetry.stores import Refused, telemetry_store

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
TIME_PARAMETERS = [
    OpenApiParameter("start_time", str, description="Included; default -24h."),
    OpenApiParameter("end_time", str, description="Included; default now."),
    OpenApiParameter("limit", int, description="1 to 10,000; default 100."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class SubmitView(APIView):
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsWritingDevice]

    @extend_schema(
        request=serializers.SubmitBody,
        responses={201: serializers.SubmitAnswer, 409: Error},
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
    )
    def post(self, request: Request) -> Response:
        """Submit a reading. 201 means that it is stored."""
        device = current_device(request)
        message = serializers.parse_message(request.data)
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        try:
            if key is None:
                answer = services.submit(device=device, message=message)
            else:
                answer = services.submit_once(device=device, message=message, key=_checked(key))
        except Refused as error:
            raise ValidationError({"data": [str(error)]}) from error
        return Response(answer, status=201)


@dataclass(frozen=True, slots=True)
class Subject:
    """The device whose telemetry is asked for."""

    id: int
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
    """Read by the device itself, its owner, or staff."""

    authentication_classes = [ApiKeyAuthentication, TokenAuthentication, StaffSession]

    def subject(self, request: Request, device_id: int) -> Subject:
        """The device, if whoever asks may see it; a device needs no query for itself."""
        if isinstance(request.user, DevicePrincipal) and request.user.device.id == device_id:
            own = request.user.device
            return Subject(own.id, own.name, own.device_type, own.latest_epoch)
        visible = (
            Device.objects.visible_to(request.user)
            if isinstance(request.user, User)
            else Device.objects.none()
        )
        device = get_object_or_404(visible, pk=device_id)
        return Subject(device.pk, device.name, device.device_type, device.latest_epoch)


class HistoryView(TelemetryView):
    @extend_schema(
        parameters=[
            *TIME_PARAMETERS,
            OpenApiParameter("fields", str, description="Measurements, separated by commas."),
            OpenApiParameter("order", str, enum=["desc", "asc"]),
        ],
        responses=serializers.HistoryAnswer,
    )
    def get(self, request: Request, device_id: int) -> Response:
        """A device's readings, newest first; follow `next_cursor` until it is null."""
        subject = self.subject(request, device_id)
        asked = serializers.parse_history(request)
        page, next_cursor = selectors.history(subject.id, asked)
        return Response(
            {
                **subject.heading(),
                "start_time": asked.span.start_text,
                "end_time": asked.span.end_text,
                "data": [selectors.reading_body(reading) for reading in page.readings],
                "count": len(page.readings),
                "cassandra_available": selectors.cassandra_available(),
                "next_cursor": next_cursor,
            }
        )


class LatestView(TelemetryView):
    @extend_schema(responses=serializers.LatestAnswer)
    def get(self, request: Request, device_id: int) -> Response:
        """The latest value, by its own time, of every measurement of a device."""
        subject = self.subject(request, device_id)
        return Response(
            {**subject.heading(), **selectors.latest_body(subject.id, subject.latest_epoch)}
        )


class FeedView(UserView):
    @extend_schema(parameters=TIME_PARAMETERS, responses=serializers.FeedAnswer)
    def get(self, request: Request, user_id: str) -> Response:
        """The newest values across a user's devices."""
        user = get_object_or_404(User.objects.visible_to(current_user(request)), user_id=user_id)
        asked = serializers.parse_feed(request)
        rows, next_cursor = selectors.feed(user, asked)
        return Response(
            {
                "status": "success",
                "user_id": str(user.user_id),
                "telemetry": rows,
                "count": len(rows),
                "limit": asked.limit,
                "start_time": asked.span.start_text,
                "end_time": asked.span.end_text,
                "next_cursor": next_cursor,
            }
        )


class StoreStatusView(APIView):
    authentication_classes = []
    permission_classes = []

    @extend_schema(responses=serializers.StoreStatus)
    def get(self, request: Request) -> Response:
        """Whether telemetry can be stored now."""
        store = telemetry_store()
        try:
            store.ping()
            up = True
        except StoreAway:
            up = False
        return Response(
            {
                "backend": store.name,
                "cassandra_available": store.is_cassandra and up,
                "status": "healthy" if up else "unavailable",
            }
        )


def _checked(key: str) -> str:
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise ValidationError({"Idempotency-Key": ["1 to 255 visible ASCII characters."]})
    return key
