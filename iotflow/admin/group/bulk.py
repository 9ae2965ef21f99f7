"""A status for every device of the group, some at a time: the page can say how far it is."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse

from accounts.permissions import may_change
from accounts.requests import current_actor, current_user
from devices import services
from devices.models import Device, DeviceGroup
from iotflow.lib import ids

CHUNK = 200


def content(request: HttpRequest, group: DeviceGroup) -> JsonResponse:
    """POST `status` and `after`, the number of the last device of the call before (0 at first).

    Answers how many have `changed` in this call, how many were looked at (`done`), how many there
    are in all, and `after` for the next call, null at the end.
    """
    status, after = request.POST.get("status", ""), ids.number(request.POST.get("after", "0"))
    if request.method != "POST" or status not in Device.Status or after is None:
        return JsonResponse({"error": "Say which status, by POST."}, status=400)
    members: Any = group.devices.order_by("pk")
    devices = list(members.filter(pk__gt=after)[:CHUNK])
    user = current_user(request)
    if not all(may_change(user, device) for device in devices):
        raise PermissionDenied
    changed = services.set_status(devices=devices, status=status, actor=current_actor(request))
    return JsonResponse(
        {
            "changed": changed,
            "done": len(devices),
            "total": members.count(),
            "after": devices[-1].pk if len(devices) == CHUNK else None,
        }
    )
