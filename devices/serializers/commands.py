"""Commands as the API shows and takes them: to users, and to the device itself."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from devices.models import Command
from devices.serializers.configs import ObjectField
from iotflow.lib import json
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime

OBJECT_BYTES = 8192
HOUR, WEEK = 3600, 7 * 86_400
Status = Command.Status


def value_fault(value: Any) -> str:
    """As for every store; and PostgreSQL's jsonb has no NUL."""
    if isinstance(value, str) and "\0" in value:
        return "A string must not contain the NUL character."
    return json.scalar_fault(value)


class CommandObject(ObjectField):
    value_fault = staticmethod(value_fault)


class CommandFields(serializers.Serializer[Any]):
    """What a device is to do, by `expires_seconds` from now; what it means is the device's."""

    name = serializers.CharField(max_length=100)
    params = CommandObject(most=OBJECT_BYTES, default=dict)
    expires_seconds = serializers.IntegerField(min_value=1, max_value=WEEK, default=HOUR)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs["expires_in"] = timedelta(seconds=attrs.pop("expires_seconds"))
        return attrs


class ResultFields(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=[Status.SUCCEEDED.value, Status.FAILED.value])
    result = CommandObject(most=OBJECT_BYTES, required=False, allow_null=True, default=None)


class AnswerFields(ResultFields):
    """The same as one message, which may also say that the device has the command."""

    command_id = serializers.UUIDField()
    status = serializers.ChoiceField(
        choices=[Status.ACKNOWLEDGED.value, Status.SUCCEEDED.value, Status.FAILED.value]
    )


class OwnCommand(serializers.Serializer[Any]):
    """A command as the device is sent it; `times_sent` is above 1 where it may have it already."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    params = serializers.DictField(child=serializers.JSONField())
    times_sent = serializers.IntegerField()
    created_at = Instant()
    expires_at = Instant()


class OwnCommands(serializers.Serializer[Any]):
    status = serializers.CharField()
    device_id = serializers.IntegerField()
    commands = OwnCommand(many=True)


class CommandBody(OwnCommand):
    """A command as its owner sees it."""

    device_id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Status.choices)
    result = serializers.DictField(child=serializers.JSONField(), allow_null=True)
    created_by = serializers.CharField()
    sent_at = Instant(allow_null=True)
    acknowledged_at = Instant(allow_null=True)
    finished_at = Instant(allow_null=True)


class CommandAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    command = CommandBody()


class CommandMessage(CommandAnswer):
    message = serializers.CharField()


class GivenCommand(serializers.Serializer[Any]):
    """Which command is which device's; a group may have very many."""

    id = serializers.UUIDField()
    device_id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Status.choices)


class GivenCommands(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    commands = GivenCommand(many=True)


@extend_schema_serializer(many=False)
class CommandList(serializers.Serializer[Any]):
    status = serializers.CharField()
    commands = CommandBody(many=True)
    meta = PageMeta()


class Step(serializers.Serializer[Any]):
    """What a device has said of a command, as it stands now."""

    message = serializers.CharField()
    command_id = serializers.UUIDField()
    command_status = serializers.ChoiceField(choices=Status.choices)


def own_command_body(command: Command) -> dict[str, Any]:
    return {
        "id": str(command.pk),
        "name": command.name,
        "params": command.params,
        "times_sent": command.times_sent,
        "created_at": format_datetime(command.created_at),
        "expires_at": format_datetime(command.expires_at),
    }


def own_commands_body(device_id: int, commands: Sequence[Command]) -> dict[str, Any]:
    bodies = [own_command_body(command) for command in commands]
    return {"status": "success", "device_id": device_id, "commands": bodies}


def command_body(command: Command) -> dict[str, Any]:
    return {
        **own_command_body(command),
        "device_id": command.device_id,
        "status": command.status_at(timezone.now()).value,
        "result": command.result,
        "created_by": command.created_by,
        "sent_at": format_datetime(command.sent_at),
        "acknowledged_at": format_datetime(command.acknowledged_at),
        "finished_at": format_datetime(command.finished_at),
    }


def command_bodies(commands: Sequence[Command]) -> list[dict[str, Any]]:
    return [command_body(command) for command in commands]


def given_body(command: Command) -> dict[str, Any]:
    status = command.status_at(timezone.now()).value
    return {"id": str(command.pk), "device_id": command.device_id, "status": status}


def step_body(command: Command, message: str) -> dict[str, Any]:
    return {
        "message": message,
        "command_id": str(command.pk),
        "command_status": command.status,
    }
