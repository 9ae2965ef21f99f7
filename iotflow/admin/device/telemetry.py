"""The readings as a table, page by page, and as a file."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from rest_framework.exceptions import ValidationError

from devices.models import Device
from iotflow.admin.page import complaints
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms
from telemetry import selectors
from telemetry.parameters import parse_history

ASKED = ("start_time", "end_time")


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    asked = {name: value for name in ASKED if (value := request.GET.get(name, "").strip())}
    context: dict[str, Any] = {"asked": asked, "export": urlencode(asked)}
    try:
        found, cursor = selectors.history(device.pk, parse_history(request.GET))
    except ValidationError as error:
        return {**context, "errors": complaints(error.detail)}
    except StoreAway:
        return {**context, "is_away": True}
    names = sorted({name for reading in found.readings for name in reading.values})
    return {
        **context,
        "names": names,
        "rows": [
            (format_ms(reading.time), [reading.values.get(name) for name in names])
            for reading in found.readings
        ],
        "next": urlencode({**asked, "cursor": cursor}) if cursor else None,
        "is_first": "cursor" not in request.GET,
    }
