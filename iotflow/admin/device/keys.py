"""The device's keys: made with a label and a validity and shown once, ended at once."""

from datetime import datetime
from operator import attrgetter
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from accounts.requests import current_actor
from devices import services
from devices.models import ApiKey, Device
from devices.presence import keys_last_used
from iotflow.lib import ids
from iotflow.lib.errors import Conflict

ENDED_SHOWN = 100

COLOURS = {
    ApiKey.State.VALID: "ok",
    ApiKey.State.PENDING: "warn",
    ApiKey.State.EXPIRED: "",
    ApiKey.State.REVOKED: "bad",
}


class KeyForm(forms.Form):
    label = forms.CharField(
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is for, to know it by.",
    )
    valid_from = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="Empty: from now on."
    )
    expires_at = forms.SplitDateTimeField(
        label="Expires",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Empty: never.",
    )

    def clean_expires_at(self) -> datetime | None:
        end: datetime | None = self.cleaned_data["expires_at"]
        start = self.cleaned_data.get("valid_from") or timezone.now()
        if end is not None and end <= start:
            raise forms.ValidationError("Must be after its beginning, and ahead.")
        return end


def content(request: HttpRequest, device: Device) -> dict[str, Any] | HttpResponse:
    """A POST makes a key, or ends the one that `revoke` names."""
    if request.method != "POST":
        return {"form": KeyForm(), **_keys(device)}
    actor = current_actor(request)
    if "revoke" in request.POST:
        api_key = get_object_or_404(device.keys, pk=ids.number(request.POST["revoke"]))
        services.revoke_key(api_key=api_key, actor=actor)
        messages.success(request, f"Key {api_key} has ended.")
        return redirect(request.path)
    form = KeyForm(request.POST)
    secret = None
    if form.is_valid():
        try:
            _, secret = services.create_key(device=device, fields=form.cleaned_data, actor=actor)
            form = KeyForm()
        except Conflict as error:
            form.add_error(None, str(error.detail))
    return {"form": form, **_keys(device), "secret": secret}


def _keys(device: Device) -> dict[str, Any]:
    """All that may still open something, and the newest of those that have ended."""
    now = timezone.now()
    open_ones = list(ApiKey.objects.filter(device=device).unended(now))
    ended = device.keys.exclude(pk__in=[one.pk for one in open_ones])
    keys = [*open_ones, *ended[:ENDED_SHOWN]]
    used = keys_last_used(keys)
    rows = [
        {
            "key": one,
            "state": (state := one.state(now)).value,
            "colour": COLOURS[state],
            "may_end": state in (ApiKey.State.VALID, ApiKey.State.PENDING),
            "last_used": used[one.pk],
        }
        for one in sorted(keys, key=attrgetter("pk"), reverse=True)
    ]
    return {"keys": rows, "ended_shown": ENDED_SHOWN, "ended_count": ended.count()}
