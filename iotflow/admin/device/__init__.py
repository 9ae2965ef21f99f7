"""The pages of one device: what it says, what happened to it, what opens it."""

from devices.models import Device
from iotflow.admin.device import configuration, events, keys, overview, status, telemetry
from iotflow.admin.page import Page

PAGES = [
    Page(Device, "overview", "Overview", overview.content),
    Page(Device, "telemetry", "Telemetry", telemetry.content),
    Page(Device, "events", "Events", events.content),
    Page(Device, "keys", "Keys", keys.content),
    Page(Device, "configuration", "Configuration", configuration.content),
    Page(Device, "status", "", status.content),
]
