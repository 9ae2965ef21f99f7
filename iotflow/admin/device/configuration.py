"""The configuration that the device is to run: its versions, and what changed in each."""

import json
from typing import Any

from django.http import HttpRequest

from accounts.requests import current_user
from devices import configs
from devices.models import Device
from events.reads import config_read
from iotflow.lib.errors import StoreAway

VERSIONS_SHOWN = 20


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    try:
        versions, total = configs.history(device.pk, offset=0, limit=VERSIONS_SHOWN)
        report = configs.reported(device.pk)
    except StoreAway:
        return {"is_away": True}
    config_read(current_user(request), device.pk, device.owner_id)
    newest = versions[0][0] if versions else None
    return {
        "newest": newest,
        "text": pretty(newest.config) if newest else "",
        "report": report,
        "in_sync": configs.in_sync(newest.version if newest else 0, report),
        "versions": [
            (version, [{**change, "value": pretty(change.get("value"))} for change in changes])
            for version, changes in versions
        ],
        "total": total,
    }


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
