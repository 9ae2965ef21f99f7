"""What happened to the device, newest first."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ValidationError

from devices.models import Device
from events import selectors, sinks
from events.kinds import Kind, Severity
from events.models import EventLog
from events.parameters import parse_query
from iotflow.admin.page import complaints
from iotflow.lib.errors import StoreAway

ASKED = ("start_time", "end_time", "severity", "kind")


def content(request: HttpRequest, device: Device) -> dict[str, Any]:
    asked = {name: value for name in ASKED if (value := request.GET.get(name, "").strip())}
    context: dict[str, Any] = {
        "asked": asked,
        "kinds": Kind.values,
        "severities": Severity.values,
    }
    query = QueryDict(urlencode({"start_time": "-7d", **asked}), mutable=True)
    query["cursor"] = request.GET.get("cursor", "")
    query["device_id"] = str(device.pk)
    try:
        with sinks.guarded():
            found, cursor = selectors.page(
                EventLog.objects.visible_to(request.user), parse_query(query)
            )
    except ValidationError as error:
        return {**context, "errors": complaints(error.detail)}
    except StoreAway:
        return {**context, "is_away": True}
    return {
        **context,
        "events": found,
        "next": urlencode({**asked, "cursor": cursor}) if cursor else None,
        "is_first": "cursor" not in request.GET,
    }
