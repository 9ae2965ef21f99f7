"""A user's devices, groups, tokens and latest doings; they are switched off and on here."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from accounts.models import Token, User
from accounts.requests import current_user
from accounts.second_factor import is_enrolled, remove
from accounts.services import actor_name, end_tokens, set_active
from devices.presence import presences
from events import selectors, sinks
from events.models import EventLog
from iotflow.lib.errors import StoreAway
from iotflow.lib.spans import NO_END
from iotflow.lib.timeparse import now_ms, parse_ms

SHOWN = 20
ACTIVITY = "-30d"


def content(request: HttpRequest, user: User) -> dict[str, Any] | HttpResponse:
    """A POST ends a token (`end`, or all of them), takes the second factor away (`reset`), or
    makes the user `active` or not."""
    if request.method == "POST":
        return _change(request, user)
    devices = list(user.devices.exclude(last_seen=None).order_by("-last_seen")[:SHOWN])
    devices += user.devices.filter(last_seen=None).order_by("pk")[: SHOWN - len(devices)]
    states = presences(devices)
    tokens = Token.objects.filter(Q(expiry=None) | Q(expiry__gt=timezone.now()), user=user)
    return {
        "devices": [(device, states[device.pk]) for device in devices],
        "device_count": user.devices.count(),
        "groups": user.device_groups.with_device_count()[:SHOWN],
        "tokens": tokens[:SHOWN],
        "token_count": tokens.count(),
        "activity": _activity(request, user),
        "is_self": user == request.user,
        "has_totp": is_enrolled(user),
    }


def _activity(request: HttpRequest, user: User) -> list[EventLog] | None:
    """What they did lately by the name they have now, to whose things ever, newest first.

    None while the event log is away.
    """
    events = EventLog.objects.visible_to(request.user).filter(actor=actor_name(user))
    try:
        with sinks.guarded():
            return selectors.newest(events, parse_ms(ACTIVITY, now_ms()), NO_END, SHOWN)
    except StoreAway:
        return None


def _change(request: HttpRequest, user: User) -> HttpResponse:
    actor = current_user(request)
    if user.is_superuser and not actor.is_superuser:
        raise PermissionDenied
    if (which := request.POST.get("end")) is not None:
        tokens = Token.objects.all() if which == "all" else Token.objects.filter(pk=_number(which))
        ended = end_tokens(user=user, tokens=tokens, actor=actor)
        messages.success(request, f"{ended} token(s) have ended.")
    elif "reset" in request.POST:
        if not actor.is_superuser:
            raise PermissionDenied
        remove(user=user, actor=actor)
        messages.success(request, f"{user} has no second factor any more.")
    elif user == actor:
        messages.error(request, "Nobody deactivates themselves.")
    else:
        is_active = request.POST.get("active") == "yes"
        set_active(users=[user], active=is_active, actor=actor)
        what = "may log in again" if is_active else "is deactivated: tokens and keys are refused"
        messages.success(request, f"{user} {what}.")
    return redirect(request.path)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
