"""The latest values as tiles, and charts, which the page itself reads from the API."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from devices.models import Device
from events.kinds import Kind
from iotflow.admin.measurements import shown
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import to_datetime
from telemetry.latest import latest

RANGES = {
    "1h": "1 hour",
    "6h": "6 hours",
    "24h": "1 day",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
}


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    try:
        found = latest(device.pk, device.latest_epoch)
    except StoreAway:
        return {"tiles": None}
    measurements = shown(found)
    values = {name: found[name] for name in measurements["names"]}
    return {
        **measurements,
        "tiles": [
            {"name": name, "value": value.value, "time": to_datetime(value.time)}
            for name, value in values.items()
        ],
        "ranges": RANGES,
        "chart": {
            "device": device.pk,
            "event": reverse("admin:events_eventlog_changelist"),
            "kinds": [kind for kind in Kind.values if kind != Kind.TELEMETRY_SUBMITTED],
            "newest": max((value.time for value in values.values()), default=None),
            "measurements": [
                name for name, value in values.items() if isinstance(value.value, int | float)
            ],
        },
    }
