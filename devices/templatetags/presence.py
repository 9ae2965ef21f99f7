"""Whether a device is there, for templates."""

from datetime import timedelta
from typing import Any

from django import template
from django.utils import timezone

from devices.models import Device
from devices.presence import presence
from devices.presence_history import uptime

register = template.Library()
DAYS = 7


@register.simple_tag
def presence_of(device: Device) -> dict[str, Any]:
    """As it is now, and the share of the last DAYS that it was online, in percent."""
    state, now = presence(device), timezone.now()
    share = uptime(device, now - timedelta(days=DAYS), now, 0).share
    return {
        "is_online": state.is_online,
        "last_seen": state.last_seen,
        "days": DAYS,
        "percent": None if share is None else 100 * share,
    }
