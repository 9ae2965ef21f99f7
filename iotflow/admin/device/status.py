"""The device is switched on, off or into maintenance."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect

from accounts.requests import current_actor
from devices import services
from devices.models import Device


def content(request: HttpRequest, device: Device) -> HttpResponse:
    """POST `status`; back to the overview."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    status = request.POST.get("status", "")
    if status in Device.Status:
        services.set_status(devices=[device], status=status, actor=current_actor(request))
        messages.success(request, f"{device} is {Device.Status(status).label.lower()} now.")
    return redirect("admin:device_overview", device.pk)
