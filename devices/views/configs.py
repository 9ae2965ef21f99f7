"""The configuration that a device is to run: its owner writes it, the device reads it."""

import re

from django.conf import settings
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.requests import current_actor, current_user
from devices import configs
from devices.authentication import IsDevice, IsWritingDevice
from devices.serializers import configs as shapes
from devices.views.base import (
    DeviceView,
    UserView,
    changeable_device,
    current_device,
    visible_device,
)
from devices.views.own import OwnConfigView
from events.models import DeviceConfig, ReportedConfig
from events.reads import config_read
from iotflow.lib.errors import Error
from iotflow.lib.jsondiff import Operation
from iotflow.lib.pagination import OFFSET_MAX, PAGE, whole_number
from iotflow.lib.timeparse import to_ms

TAG_VERSION = re.compile(r'"(\d{1,10})(?:\.\d+)?"', re.ASCII)
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": r'^(\*|"\d{1,10}(\.\d+)?")$'},
    OpenApiParameter.HEADER,
    description='`"3"`, or an `ETag` of the owner\'s: 409 unless it is at version 3.',
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The `ETag` of an earlier answer."
)
UNCHANGED = OpenApiResponse(description="It is as the client knows it.")


class WantedConfigView(UserView):
    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: shapes.WantedBody, 304: UNCHANGED},
    )
    def get(self, request: Request, device_id: int) -> Response:
        """The configuration a device is to run, and what it said it runs."""
        device = visible_device(request, device_id)
        version, report = configs.current(device.pk), configs.reported(device.pk)
        tag = _tag(version, report)
        if _is_known(request, tag):
            return _unchanged(tag)
        config_read(current_user(request), device.pk, device.owner_id)
        return Response(shapes.wanted_body(version, report), headers={"ETag": tag})

    @extend_schema(
        parameters=[IF_MATCH],
        request=shapes.WantedFields,
        responses={200: shapes.WantedMessage, 409: Error},
    )
    def put(self, request: Request, device_id: int) -> Response:
        """Give a device a new configuration, whole; the same again makes no new version."""
        device = changeable_device(request, device_id)
        fields = shapes.WantedFields(data=request.data)
        fields.is_valid(raise_exception=True)
        version, changes = configs.put(
            device=device,
            config=fields.validated_data["config"],
            actor=current_actor(request),
            expected=_expected(request),
        )
        return _written(version, changes, "Device configuration updated")


class ConfigHistoryView(UserView):
    @extend_schema(parameters=PAGE, responses=shapes.ConfigHistory)
    def get(self, request: Request, device_id: int) -> Response:
        """Versions of a device's configuration, newest first; a page of large ones ends early."""
        device = visible_device(request, device_id)
        limit = whole_number(
            request.query_params, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX
        )
        offset = whole_number(request.query_params, "offset", 0, 0, OFFSET_MAX)
        entries, total = configs.history(device.pk, offset=offset, limit=limit)
        config_read(current_user(request), device.pk, device.owner_id)
        return Response(
            {
                "status": "success",
                "device_id": device.pk,
                "history": [shapes.history_entry(*entry) for entry in entries],
                "meta": {
                    "limit": limit,
                    "offset": offset,
                    "returned": len(entries),
                    "total": total,
                },
            }
        )


class ConfigRollbackView(UserView):
    @extend_schema(
        parameters=[IF_MATCH],
        request=shapes.RollbackFields,
        responses={200: shapes.WantedMessage, 409: Error},
    )
    def post(self, request: Request, device_id: int) -> Response:
        """Give a device the configuration of an older version again, as a new version."""
        device = changeable_device(request, device_id)
        fields = shapes.RollbackFields(data=request.data)
        fields.is_valid(raise_exception=True)
        number = fields.validated_data["version"]
        old = configs.find(device.pk, number)
        if old is None:
            raise ValidationError({"version": [f"There is no version {number}."]})
        version, changes = configs.put(
            device=device,
            config=old.config,
            actor=current_actor(request),
            expected=_expected(request),
            rolled_back_to=old.version,
        )
        return _written(version, changes, f"Device configuration rolled back to {number}")


class DeviceConfigView(OwnConfigView):
    """/devices/config: a device reads what it is to run (GET) and says what it is (PUT)."""

    def get_permissions(self) -> list[BasePermission]:
        reads = self.request.method in SAFE_METHODS
        return [IsDevice() if reads else IsWritingDevice()]

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: shapes.OwnConfig, 304: UNCHANGED},
    )
    def get(self, request: Request) -> Response:
        """The configuration this device is to run."""
        version = configs.current(current_device(request).id)
        tag = _tag(version)
        if _is_known(request, tag):
            return _unchanged(tag)
        return Response(shapes.own_config_body(version), headers={"ETag": tag})


class ConfigReportView(DeviceView):
    permission_classes = [IsWritingDevice]

    @extend_schema(request=shapes.ReportFields, responses=shapes.ReportAnswer)
    def post(self, request: Request) -> Response:
        """Say which version of its configuration this device runs."""
        fields = shapes.ReportFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = current_device(request)
        newest = configs.current(device.id).version
        if fields.validated_data["version"] > newest:
            raise ValidationError({"version": [f"There is none above {newest}."]})
        report = configs.report(device=device, **fields.validated_data)
        return Response(
            {
                "message": "Report received",
                "device_id": device.id,
                "reported": shapes.report_body(report),
                "in_sync": configs.in_sync(newest, report),
            }
        )


def _written(version: DeviceConfig, changes: list[Operation], message: str) -> Response:
    report = configs.reported(version.device_id)
    body = {
        **shapes.wanted_body(version, report),
        "message": message if changes else "The configuration is as it was",
        "diff": changes,
    }
    return Response(body, headers={"ETag": _tag(version, report)})


def _tag(version: DeviceConfig, report: ReportedConfig | None = None) -> str:
    """`"3"`; followed by when the device reported, where the answer holds that."""
    suffix = "" if report is None else f".{to_ms(report.reported_at)}"
    return f'"{version.version}{suffix}"'


def _is_known(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag; compared weakly, for a proxy may have weakened it."""
    known = parse_etags(request.META.get("HTTP_IF_NONE_MATCH", ""))
    return known == ["*"] or tag in {one.removeprefix("W/") for one in known}


def _unchanged(tag: str) -> Response:
    return Response(status=304, headers={"ETag": tag})


def _expected(request: Request) -> int | None:
    """The version that If-Match names, of either ETag; a 400 for what is none. None for any."""
    text = request.META.get("HTTP_IF_MATCH", "").strip()
    if text in ("", "*"):
        return None
    if not (tag := TAG_VERSION.fullmatch(text)):
        raise ValidationError({"If-Match": ['Write the version in quotes: "3".']})
    return int(tag[1])
