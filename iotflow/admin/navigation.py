"""What leads where in the admin site."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from iotflow.admin import device


def tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """Of the page of one device; on others there are none."""
    match = request.resolver_match
    parts = match.kwargs if match else {}
    device_id = parts.get("device_id", parts.get("object_id"))
    if device_id is None or match is None or not _is_of_device(match.url_name or ""):
        return []
    items = [
        {"title": page.title, "link": reverse(f"admin:device_{page.name}", args=[device_id])}
        for page in device.PAGES
    ]
    form = {"title": "Settings", "link": reverse("admin:devices_device_change", args=[device_id])}
    return [{"models": [{"name": "devices.device", "detail": True}], "items": [*items, form]}]


def _is_of_device(url_name: str) -> bool:
    return url_name.startswith(("device_", "devices_device_"))
