"""The readings as a table, page by page, and as a file."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ValidationError

from devices.models import Device
from iotflow.admin.measurements import shown
from iotflow.admin.page import complaints
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms
from telemetry import selectors
from telemetry.parameters import parse_history

ASKED = ("start_time", "end_time")


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    asked = {name: value for name in ASKED if (value := request.GET.get(name, "").strip())}
    at = request.GET.get("cursor")
    context: dict[str, Any] = {"asked": asked, "export": urlencode(asked)}
    try:
        query = QueryDict(urlencode({**asked, "cursor": at} if at else asked))
        found, cursor = selectors.history(device.pk, parse_history(query))
    except ValidationError as error:
        return {**context, "errors": complaints(error.detail)}
    except StoreAway:
        return {**context, "is_away": True}
    columns = shown(name for reading in found.readings for name in reading.values)
    return {
        **context,
        **columns,
        "rows": [
            (format_ms(reading.time), [reading.values.get(name) for name in columns["names"]])
            for reading in found.readings
        ],
        "next": urlencode({**asked, "cursor": cursor}) if cursor else None,
        "is_first": not at,
    }
