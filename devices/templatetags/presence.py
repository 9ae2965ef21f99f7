"""Whether a device is there, for templates."""

from django import template

from devices.models import Device
from devices.presence import Presence, presence

register = template.Library()


@register.simple_tag
def presence_of(device: Device) -> Presence:
    return presence(device)
