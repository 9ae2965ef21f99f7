"""One measurement of the group's devices on one chart, which the page reads from the API."""

from typing import Any

from django.http import HttpRequest

from devices.models import DeviceGroup
from iotflow.admin.device.overview import RANGES
from iotflow.admin.measurements import shown
from iotflow.lib.errors import StoreAway
from telemetry.latest import latest_of

LINES_MAX = 20  # more cannot be told apart


def content(request: HttpRequest, group: DeviceGroup) -> dict[str, Any]:
    devices = list(group.devices.order_by("name")[:LINES_MAX])
    try:
        values = latest_of([(device.pk, device.latest_epoch) for device in devices])
    except StoreAway:
        return {"is_away": True}
    spoken = {
        name
        for of_device in values.values()
        for name, value in of_device.items()
        if isinstance(value.value, int | float)
    }
    return {
        **shown(spoken),
        "ranges": RANGES,
        "total": group.devices.count(),
        "chart": {
            "devices": [{"id": device.pk, "name": device.name} for device in devices],
            "newest": max(
                (value.time for of_device in values.values() for value in of_device.values()),
                default=None,
            ),
        },
    }
