"""Ctrl-K: everything that can be named, as far as who asks may look at it."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.dataclasses import SearchResult

from accounts.models import User
from accounts.permissions import sees_all
from accounts.requests import current_user
from devices.models import Device, DeviceGroup
from events.kinds import Kind
from iotflow.lib import ids

EACH_MAX = 8  # of a kind: who sees more than that types on


def results(request: HttpRequest) -> HttpResponse:
    """The fragment that Unfold's page puts below its field."""
    begun = time.perf_counter()
    term = request.GET.get("s", "").strip()[:100]
    if not term:
        return HttpResponse()
    page = Paginator(list(found(current_user(request), term)), 100).page(1)
    return TemplateResponse(
        request,
        "unfold/helpers/command_results.html",
        {
            "results": page,
            "page_obj": page.paginator,
            "page_counter": 0,
            "execution_time": time.perf_counter() - begun,
        },
        headers={"HX-Trigger": "search", "Cache-Control": "no-store"},
    )


def found(user: User, term: str) -> Iterator[SearchResult]:
    for device in _seen(user, Device).matching(term)[:EACH_MAX]:
        yield _result(device, f"Device {device.pk}", "device_overview", "sensors")
    for group in _seen(user, DeviceGroup).filter(name__icontains=term)[:EACH_MAX]:
        yield _result(group, "Group", "devicegroup_latest", "folder_shared")
    if user.has_perm("accounts.view_user"):
        for one in User.objects.matching(term)[:EACH_MAX]:
            yield _result(one, f"User, {one.email}", "user_overview", "person")
    if user.has_perm("events.view_eventlog"):
        yield from _events(term)


def _seen(user: User, model: Any) -> Any:
    """All, or their own."""
    return model.objects.all() if sees_all(user, model) else model.objects.filter(owner=user)


def _result(thing: Any, what: str, url_name: str, icon: str) -> SearchResult:
    return SearchResult(str(thing), what, reverse(f"admin:{url_name}", args=[thing.pk]), icon)


def _events(term: str) -> Iterator[SearchResult]:
    """An event by its id, the kinds that there are, and the events of a device."""
    events = reverse("admin:events_eventlog_changelist")
    try:
        link = reverse("admin:events_eventlog_change", args=[UUID(term)])
        yield SearchResult(term, "Event", link, "history")
    except ValueError:
        pass
    for kind in Kind.values:
        if term.lower() in kind:
            link = f"{events}?kind={kind}"
            yield SearchResult(kind, "Events of this kind", link, "history")
    if term.isascii() and term.isdigit() and len(term) < 20 and int(term) <= ids.MAX:
        link = f"{events}?device_id={int(term)}"
        yield SearchResult(f"Device {term}", "Events of this device", link, "history")
