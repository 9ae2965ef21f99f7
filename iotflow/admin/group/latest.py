"""The latest values of the group's devices: a row for each, a column for each measurement."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest

from devices.models import DeviceGroup
from devices.presence import presences
from iotflow.admin.measurements import shown
from iotflow.lib.errors import StoreAway
from telemetry.latest import latest_of

DEVICES_SHOWN = 50


def content(request: HttpRequest, group: DeviceGroup) -> dict[str, Any]:
    page = Paginator(group.devices.order_by("name"), DEVICES_SHOWN).get_page(
        request.GET.get("page")
    )
    devices = list(page.object_list)
    context: dict[str, Any] = {"page_of_devices": page}
    try:
        values = latest_of([(device.pk, device.latest_epoch) for device in devices])
    except StoreAway:
        return {**context, "is_away": True}
    found = {device_id: of_device for (device_id, _), of_device in values.items()}
    columns = shown(name for of_device in found.values() for name in of_device)
    states = presences(devices)
    rows = [
        (device, states[device.pk], [found[device.pk].get(name) for name in columns["names"]])
        for device in devices
    ]
    return {**context, **columns, "rows": rows}
