"""A tab of a device's page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from accounts.requests import current_user
from devices.models import Device
from devices.presence import presence

Content = dict[str, Any] | HttpResponse


@dataclass(frozen=True, slots=True)
class Page:
    """`name` is in its address; `content` is what it shows beyond the heading, or its answer."""

    name: str
    title: str
    content: Callable[[HttpRequest, Device], Content]

    def view(self, request: HttpRequest, device_id: int) -> HttpResponse:
        user = current_user(request)
        if not user.has_perm("devices.view_device"):
            raise PermissionDenied
        devices = Device.objects.visible_to(user).select_related("owner")
        device = get_object_or_404(devices, pk=device_id)
        found = self.content(request, device)
        if isinstance(found, HttpResponse):
            return found
        context = {
            **admin.site.each_context(request),
            "title": device.name,
            "opts": Device._meta,
            "device": device,
            "original": device,  # for the path in the heading
            "presence": presence(device),
            "page": self,
            "may_change": user.has_perm("devices.change_device"),
            **found,
        }
        response = TemplateResponse(request, f"iotflow/device_{self.name}.html", context)
        response["Cache-Control"] = "no-store"
        return response


def complaints(detail: Any) -> list[str]:
    """The sentences of a ValidationError of the API, each with the name that it is about."""
    return [f"{name}: {text}" for name, texts in dict(detail).items() for text in texts]
