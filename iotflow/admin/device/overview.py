"""The latest values as tiles, and charts, which the page itself reads from the API."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from accounts.models import User
from accounts.permissions import sees_all
from accounts.requests import current_user
from devices.models import Device
from events.kinds import Kind
from events.models import Alert
from iotflow.admin.measurements import shown
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import to_datetime
from telemetry.alerting.models import LiveAlert
from telemetry.latest import latest

ALERTS_SHOWN = 20
RANGES = {
    "1h": "1 hour",
    "6h": "6 hours",
    "24h": "1 day",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
}


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    alerts = _alerts(current_user(request), device)
    try:
        found = latest(device.pk, device.latest_epoch)
    except StoreAway:
        return {**alerts, "tiles": None}
    measurements = shown(found)
    values = {name: found[name] for name in measurements["names"]}
    return {
        **alerts,
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


def _alerts(user: User, device: Device) -> dict[str, Any]:
    """Those that are open, for who may see all alerts or owns the device."""
    sees = sees_all(user, Alert)
    found = LiveAlert.objects.visible_to(user).open().filter(device_id=device.pk)
    is_shown = sees or device.owner_id == user.pk
    return {"alerts": found[:ALERTS_SHOWN] if is_shown else [], "sees_alerts": sees}
