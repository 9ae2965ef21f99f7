"""The pages of one device, as tabs: what it says, what happened to it, what opens it."""

from iotflow.admin.device import configuration, events, keys, overview, telemetry
from iotflow.admin.device.page import Page

PAGES = [
    Page("overview", "Overview", overview.content),
    Page("telemetry", "Telemetry", telemetry.content),
    Page("events", "Events", events.content),
    Page("keys", "Keys", keys.content),
    Page("configuration", "Configuration", configuration.content),
]
