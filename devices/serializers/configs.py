"""A device's desired configuration as the API shows and takes it."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from devices import configs
from events.models import DeviceConfig, ReportedConfig
from iotflow.lib import json
from iotflow.lib.fields import Instant
from iotflow.lib.jsondiff import Operation, pointer
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime

DEPTH_MAX = 64  # MongoDB takes 100, the command around it included
VERSION_MAX = 2**31 - 1
FAULTS_SHOWN = 20
FAULT_PATH = 200
ANYTHING = {"type": "object", "additionalProperties": True}


def faults(
    config: dict[str, Any], value_fault: Callable[[Any], str] = json.scalar_fault
) -> Iterator[str]:
    """`where: why` for everything in it that some store would not give back as it was."""
    for place, reason in json.faults(
        config, depth=DEPTH_MAX, name_fault=_name_fault, value_fault=value_fault
    ):
        yield f"{pointer(place)[:FAULT_PATH]}: {reason}"


def _name_fault(name: str) -> str:
    if name.startswith("$"):  # MongoDB's own: {"$ref": …} would come back as something else
        return "A name must not begin with $."
    if "\0" in name:
        return "A name must not contain the NUL character."
    return json.scalar_fault(name)


@extend_schema_field(
    {**ANYTHING, "propertyNames": {"pattern": r"^(?!\$)[^\u0000]*$"}, "maxProperties": 65_536}
)
class ObjectField(serializers.Field[Any, Any, Any, Any]):
    """A JSON object of at most `most` bytes, DEVICE_CONFIG_BYTES where it is not said."""

    value_fault = staticmethod(json.scalar_fault)

    def __init__(self, *, most: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._most = most

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        if reasons := list(islice(faults(data, self.value_fault), FAULTS_SHOWN)):
            raise serializers.ValidationError(reasons)
        most = self._most or settings.DEVICE_CONFIG_BYTES
        if (size := len(json.dumps(data))) > most:
            raise serializers.ValidationError(f"Has {size} bytes; at most {most} are taken.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class WantedFields(serializers.Serializer[Any]):
    config = ObjectField()


class RollbackFields(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=VERSION_MAX)


class ReportFields(serializers.Serializer[Any]):
    """What a device says about the configuration it runs; 0 is none."""

    version = serializers.IntegerField(min_value=0, max_value=VERSION_MAX)
    status = serializers.ChoiceField(
        choices=ReportedConfig.Status.choices, default=ReportedConfig.Status.APPLIED
    )
    message = serializers.CharField(max_length=500, default="", allow_blank=True)


class OperationBody(serializers.Serializer[Any]):
    """A step from one version to the next, as in RFC 6902; `value` is missing in a removal."""

    op = serializers.ChoiceField(choices=["add", "remove", "replace"])
    path = serializers.CharField(allow_blank=True)
    value = serializers.JSONField(required=False)


class ReportBody(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=0)
    status = serializers.ChoiceField(choices=ReportedConfig.Status.choices)
    message = serializers.CharField(max_length=500, allow_blank=True)
    reported_at = Instant()


class OwnConfig(serializers.Serializer[Any]):
    """What a device is to run; version 0 has no `created_at`."""

    device_id = serializers.IntegerField()
    version = serializers.IntegerField(min_value=0)
    config = serializers.DictField(child=serializers.JSONField())
    created_at = Instant(allow_null=True)


class VersionBody(serializers.Serializer[Any]):
    """A version; 0, which nobody wrote, has no `author` and no `created_at`."""

    version = serializers.IntegerField(min_value=0)
    author = serializers.CharField(allow_null=True)
    created_at = Instant(allow_null=True)
    rolled_back_to = serializers.IntegerField(min_value=1, allow_null=True)
    config = serializers.DictField(child=serializers.JSONField())


class WantedBody(VersionBody):
    """The newest version, and what the device said it runs."""

    status = serializers.CharField()
    device_id = serializers.IntegerField()
    reported = ReportBody(allow_null=True)
    in_sync = serializers.BooleanField()


class WantedMessage(WantedBody):
    """`diff` leads from the version before; it is empty where nothing changed."""

    message = serializers.CharField()
    diff = OperationBody(many=True)


class HistoryEntry(VersionBody):
    diff = OperationBody(many=True)


class ConfigHistory(serializers.Serializer[Any]):
    status = serializers.CharField()
    device_id = serializers.IntegerField()
    history = HistoryEntry(many=True)
    meta = PageMeta()


class ReportAnswer(serializers.Serializer[Any]):
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    reported = ReportBody()
    in_sync = serializers.BooleanField()


def own_config_body(version: DeviceConfig) -> dict[str, Any]:
    return {
        "device_id": version.device_id,
        "version": version.version,
        "config": version.config,
        "created_at": format_datetime(version.created_at),
    }


def version_body(version: DeviceConfig) -> dict[str, Any]:
    return {
        "version": version.version,
        "author": version.author or None,
        "created_at": format_datetime(version.created_at),
        "rolled_back_to": version.rolled_back_to,
        "config": version.config,
    }


def history_entry(version: DeviceConfig, changes: list[Operation]) -> dict[str, Any]:
    return {**version_body(version), "diff": changes}


def report_body(report: ReportedConfig) -> dict[str, Any]:
    return {
        "version": report.version,
        "status": report.status,
        "message": report.message,
        "reported_at": format_datetime(report.reported_at),
    }


def wanted_body(version: DeviceConfig, report: ReportedConfig | None) -> dict[str, Any]:
    return {
        "status": "success",
        "device_id": version.device_id,
        **version_body(version),
        "reported": None if report is None else report_body(report),
        "in_sync": configs.in_sync(version.version, report),
    }
