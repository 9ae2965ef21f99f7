"""Readings on their way in: one, a device's batch, a gateway's bulk. A 2xx means stored."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.requests import current_actor
from devices.authentication import ApiKeyAuthentication, IsWritingDevice
from devices.direct import DirectView, known_key, respond
from devices.models import Device
from devices.views import UserView, current_device, current_user
from iotflow.lib import idempotency, json
from iotflow.lib.errors import Error
from telemetry import batches, ingest, messages, serializers, services
from telemetry.messages import Entry
from telemetry.services import Answer, Call
from telemetry.stores import Refused
from telemetry.throttles import Messages, OneReading, admit

IDEMPOTENCY = idempotency.parameter(
    "Again with the same body is the first answer again, for a day."
)


class SubmitView(DirectView):
    direct_method = "POST"
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsWritingDevice]
    throttle_classes = [OneReading]

    @extend_schema(
        request=serializers.SubmitBody,
        responses={201: serializers.SubmitAnswer, 409: Error},
        parameters=[IDEMPOTENCY],
    )
    def post(self, request: Request) -> Response:
        """Submit a reading. 201 means that it is stored."""
        device = current_device(request)

        def prepare() -> Call:
            message = messages.parse_message(request.data, device.device_type)
            return Call(
                times=lambda: services.times_of(device=device, message=message),
                act=lambda times: services.submit(device=device, message=message, times=times),
            )

        try:
            return Response(_once(request, f"device:{device.id}", prepare), status=201)
        except Refused as error:
            raise ValidationError({"data": [str(error)]}) from error

    def direct(self, request: HttpRequest, **parts: Any) -> HttpResponse | None:
        """The key and the limits are looked at by the committer, for all of a group at once."""
        if request.content_type != "application/json" or "HTTP_IDEMPOTENCY_KEY" in request.META:
            return None
        if (found := known_key(request)) is None or not found[1].record.may_write:
            return None
        try:
            message = messages.parse_message(json.loads(request.body), found[1].record.device_type)
        except (ValueError, ValidationError):
            return None  # the long way charges first, and says what is wrong
        try:
            receipt = services.submit_known(*found, message=message)
        except ingest.NotKnown:
            return None
        except Refused as error:
            raise ValidationError({"data": [str(error)]}) from error
        answer = services.submitted(found[1].record, receipt.time)
        return respond(answer, receipt.states, status=201)


class BatchView(APIView):
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsWritingDevice]
    throttle_classes = [Messages]

    @extend_schema(
        request=serializers.BatchBody,
        responses={201: serializers.BatchAnswer, 207: serializers.BatchAnswer, 409: Error},
        parameters=[IDEMPOTENCY],
    )
    def post(self, request: Request) -> Response:
        """Submit many readings; each has its verdict, and a bad one costs no good one.

        201 where every one is stored, 207 where some were rejected, 400 where all were.
        """
        device = current_device(request)

        def prepare() -> Call:
            entries = messages.parse_batch(request.data, device.id, device.device_type)
            admit({device.id: len(entries)}, self)
            return _call({device.id: device}, entries, f"device:{device.id}")

        return _verdicts(_once(request, f"device:{device.id}", prepare))


class BulkView(UserView):
    @extend_schema(
        request=serializers.BulkBody,
        responses={201: serializers.BatchAnswer, 207: serializers.BatchAnswer, 409: Error},
        parameters=[IDEMPOTENCY],
    )
    def post(self, request: Request) -> Response:
        """Submit readings of many devices, as a gateway does, for their owner or staff.

        201 where every one is stored, 207 where some were rejected, 400 where all were.
        """
        user = current_user(request)

        def prepare() -> Call:
            entries = messages.parse_bulk(request.data)
            addressed = Counter(entry.device_id for entry in entries)
            devices = batches.records(
                Device.objects.changeable_by(user).filter(pk__in=addressed).select_related("owner")
            )
            admit({device_id: addressed[device_id] for device_id in devices}, self)
            placed = batches.placed(entries, devices)
            return _call(devices, messages.having_good_ones(placed), current_actor(request))

        return _verdicts(_once(request, f"user:{user.pk}", prepare))


def _call(devices: batches.Records, entries: list[Entry], actor: str) -> Call:
    return Call(
        times=lambda: batches.times_of(entries),
        act=lambda times: batches.submit_batch(
            devices=devices, entries=entries, actor=actor, times=times
        ),
    )


def _verdicts(answer: Answer) -> Response:
    return Response(answer, status=207 if answer["rejected"] else 201)


def _once(request: Request, caller: str, prepare: Callable[[], Call]) -> Answer:
    """What the call answers; under an Idempotency-Key, what it answered the first time."""
    key = idempotency.key_of(request)
    if key is None:
        return prepare().act(None)
    body = [request.path_info, request.data]  # the same body elsewhere asks for something else
    return services.once(caller=caller, key=key, body=body, prepare=prepare)
