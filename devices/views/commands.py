"""Commands over HTTP: users give them and see what came of it, devices take and answer them."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import check_may_change
from accounts.requests import current_actor, current_user
from devices import commands
from devices.authentication import IsWritingDevice
from devices.listening import CommandListener, Handed
from devices.models import Command, Device
from devices.permits import WriterPermit
from devices.serializers import commands as shapes
from devices.views.base import (
    DeviceView,
    UserView,
    changeable_device,
    current_device,
    visible_device,
)
from devices.views.groups import changeable_group, visible_group
from iotflow.lib import idempotency, json
from iotflow.lib.errors import Error
from iotflow.lib.live.views import (
    EVENTS,
    RESPONSES,
    SECONDS,
    StreamResponse,
    StreamView,
    room,
    seconds_of,
)
from iotflow.lib.pagination import PAGE, paginate, whole_number

WAIT_MAX = 60
ONCE = idempotency.parameter("Again with the same body makes no second command.")
STATUS = OpenApiParameter("status", str, enum=Command.Status.values)
WAIT = OpenApiParameter(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": WAIT_MAX, "default": 0},
    description="Where there is none, wait for one, so many seconds at most.",
)


class DeviceCommandsView(UserView):
    @extend_schema(parameters=[STATUS, *PAGE], responses=shapes.CommandList)
    def get(self, request: Request, device_id: int) -> Response:
        """A device's commands, newest first."""
        device = visible_device(request, device_id)
        return _listed(request, _visible(request).filter(device=device))

    @extend_schema(
        parameters=[ONCE],
        request=shapes.CommandFields,
        responses={201: shapes.CommandMessage, 409: Error},
    )
    def post(self, request: Request, device_id: int) -> Response:
        """Have a device do something."""
        device = changeable_device(request, device_id, "devices.add_command")
        [command] = _created(request, [device])
        return _answer(command, "Command created", 201)


class GroupCommandsView(UserView):
    @extend_schema(parameters=[STATUS, *PAGE], responses=shapes.CommandList)
    def get(self, request: Request, group_id: int) -> Response:
        """The commands of the devices that are in a group now, newest first."""
        group = visible_group(request, group_id)
        return _listed(request, _visible(request).filter(device__in=group.devices.all()))

    @extend_schema(
        parameters=[ONCE],
        request=shapes.CommandFields,
        responses={201: shapes.GivenCommands, 409: Error},
    )
    def post(self, request: Request, group_id: int) -> Response:
        """Have every device that is in a group now do something: a command for each, or none."""
        group = changeable_group(request, group_id, "devices.add_command")
        made = _created(request, list(group.devices.order_by("pk")[: commands.DEVICES_MAX + 1]))
        body = {"status": "success", "message": f"{len(made)} command(s) created"}
        return Response({**body, "commands": [shapes.given_body(one) for one in made]}, status=201)


class CommandView(UserView):
    @extend_schema(responses=shapes.CommandAnswer)
    def get(self, request: Request, command_id: UUID) -> Response:
        """One command, and what came of it."""
        command = get_object_or_404(_visible(request), pk=command_id)
        return Response({"status": "success", "command": shapes.command_body(command)})


class CancelView(UserView):
    @extend_schema(request=None, responses={200: shapes.CommandMessage, 409: Error})
    def post(self, request: Request, command_id: UUID) -> Response:
        """Take a command back that is not over. The device may have it by now."""
        command = get_object_or_404(_visible(request), pk=command_id)
        check_may_change(current_user(request), command.owner_id, "devices.change_command")
        cancelled = commands.cancel(command=command, actor=current_actor(request))
        return _answer(cancelled, "Command cancelled", 200)


def _visible(request: Request) -> Any:
    return Command.objects.visible_to(current_user(request))


def _listed(request: Request, found: Any) -> Response:
    if status := request.query_params.get("status"):
        if status not in Command.Status.values:
            raise ValidationError({"status": [f"One of {', '.join(Command.Status.values)}."]})
        found = found.in_status(status, timezone.now())
    page = paginate(request, found)
    bodies = shapes.command_bodies(page.rows)
    return Response({"status": "success", "commands": bodies, "meta": page.meta})


def _created(request: Request, devices: list[Device]) -> list[Command]:
    key = idempotency.key_of(request)
    fields = shapes.CommandFields(data=request.data)
    fields.is_valid(raise_exception=True)
    return commands.create(
        devices=devices,
        actor=current_actor(request),
        idempotency_key=key or "",
        **fields.validated_data,
    )


def _answer(command: Command, message: str, status: int) -> Response:
    body = {"status": "success", "message": message, "command": shapes.command_body(command)}
    return Response(body, status=status)


class OwnCommandsView(DeviceView):
    permission_classes = [IsWritingDevice]
    http_method_names = ["get", "options"]  # HEAD would have commands sent to nobody

    @extend_schema(parameters=[WAIT], responses=shapes.OwnCommands)
    def get(self, request: Request) -> HttpResponseBase:
        """What this device is to do, oldest first: all that it has not acknowledged.

        With `wait` what was sent within 30 seconds is not sent again; where there is nothing
        else, the answer waits for it.
        """
        device = current_device(request)
        wait = whole_number(request.query_params, "wait", 0, 0, WAIT_MAX)
        handed = commands.hand_out(device.id, commands.REST if wait else commands.NO_REST)
        if handed or not wait:
            return Response(shapes.own_commands_body(device.id, handed))

        def answer(found: Handed) -> bytes:
            return json.dumps(shapes.own_commands_body(device.id, found))

        is_async, most = room(request)
        listener = CommandListener(
            WriterPermit(device.id, device.key_id),
            most,
            told=answer,
            say_end=lambda reason: answer(()),
            idle=b" ",  # which JSON may begin with
            is_one_answer=True,
            seconds=wait,
        )
        return StreamResponse(listener, is_async=is_async, content_type="application/json")


class CommandStreamView(StreamView, DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(parameters=[SECONDS], responses=RESPONSES)
    def get(self, request: Request) -> StreamResponse:
        """What this device is to do, as Server-Sent Events, when it is to be done.

        `command` is an event for each; what is not acknowledged comes again after 30 seconds.
        `end` says why the stream ends. A comment comes where nothing else does.
        """
        device = current_device(request)
        is_async, most = room(request)
        listener = CommandListener(
            WriterPermit(device.id, device.key_id),
            most,
            told=_events,
            say_end=lambda reason: b'event: end\ndata: {"reason":"%s"}\n\n' % reason.encode(),
            idle=b": heartbeat\n",
            is_one_answer=False,
            seconds=seconds_of(request),
        )
        return StreamResponse(listener, is_async=is_async, content_type=EVENTS)


def _events(found: Handed) -> bytes:
    return b"".join(
        b"event: command\ndata: %s\n\n" % json.dumps(shapes.own_command_body(one)) for one in found
    )


class AcknowledgeCommandView(DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(request=None, responses={200: shapes.Step, 409: Error})
    def post(self, request: Request, command_id: UUID) -> Response:
        """Say that this device has the command, and need not be sent it again."""
        device = current_device(request)
        command = commands.acknowledge(device_id=device.id, command_id=command_id)
        return Response(shapes.step_body(command, "Command acknowledged"))


class CommandResultView(DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(request=shapes.ResultFields, responses={200: shapes.Step, 409: Error})
    def post(self, request: Request, command_id: UUID) -> Response:
        """Say what came of the command, acknowledged before or not."""
        fields = shapes.ResultFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = current_device(request)
        command = commands.finish(
            device_id=device.id, command_id=command_id, **fields.validated_data
        )
        return Response(shapes.step_body(command, "Result received"))
