"""Which devices are in the group: found by search, pasted by name or number, taken out again."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.permissions import may_change
from accounts.requests import current_actor, current_user
from devices import services
from devices.models import Device, DeviceGroup
from iotflow.lib import ids

MEMBERS_SHOWN, FOUND_MAX = 50, 20
PASTED_MAX = 10_000  # lines
CHUNK = 500


def content(request: HttpRequest, group: DeviceGroup) -> dict[str, Any] | HttpResponse:
    """A POST has `pasted` lines, the numbers of devices to `add`, or of those to `remove`."""
    if request.method == "POST":
        return _change(request, group)
    wanted = request.GET.get("q", "").strip()
    members = group.devices.select_related("owner").order_by("name")
    return {
        "page_of_devices": Paginator(members, MEMBERS_SHOWN).get_page(request.GET.get("page")),
        "wanted": wanted,
        "found": _others(group).matching(wanted)[:FOUND_MAX] if wanted else [],
        "statuses": Device.Status.choices,
        "may_change_devices": may_change(current_user(request), Device(owner_id=group.owner_id)),
    }


def _change(request: HttpRequest, group: DeviceGroup) -> HttpResponse:
    actor = current_actor(request)
    if removed := _numbers(request.POST.getlist("remove")):
        left = services.remove_all_from_group(group=group, device_ids=removed, actor=actor)
        messages.success(request, f"{left} device(s) left the group.")
        return redirect(request.path)
    lines = [line.strip() for line in request.POST.get("pasted", "").splitlines()]
    lines = [*dict.fromkeys(filter(None, lines))]
    if len(lines) > PASTED_MAX:
        messages.error(request, f"At most {PASTED_MAX:,} lines at once; these are {len(lines):,}.")
        return redirect(request.path)
    named, unknown = _named(group, lines)
    ticked = _of_owner(group).filter(pk__in=_numbers(request.POST.getlist("add")))
    devices = {*named, *ticked}
    joined = services.add_all_to_group(group=group, devices=devices, actor=actor)
    messages.success(request, f"{joined} device(s) joined, {len(devices) - joined} were in it.")
    if unknown:
        shown = ", ".join(unknown[:10]) + (" …" if len(unknown) > 10 else "")
        messages.warning(request, f"No device of {group.owner} for {len(unknown)} line(s): {shown}")
    return redirect(request.path)


def _named(group: DeviceGroup, lines: list[str]) -> tuple[list[Device], list[str]]:
    """The devices of the group's owner that the lines name, and the lines that name none."""
    found: dict[str, Device] = {}
    askable = [line for line in lines if "\0" not in line]  # PostgreSQL's text has no NUL
    for first in range(0, len(askable), CHUNK):
        some = askable[first : first + CHUNK]
        named = Q(name__in=some) | Q(pk__in=_numbers(some))
        for device in _of_owner(group).filter(named):
            found[device.name] = device
            found.setdefault(str(device.pk), device)
    return [*{found[line] for line in lines if line in found}], [
        line for line in lines if line not in found
    ]


def _numbers(texts: list[str]) -> list[int]:
    return [number for text in texts if (number := ids.number(text)) is not None]


def _of_owner(group: DeviceGroup) -> Any:
    return Device.objects.filter(owner=group.owner_id)


def _others(group: DeviceGroup) -> Any:
    return _of_owner(group).exclude(groups=group).order_by("name")
