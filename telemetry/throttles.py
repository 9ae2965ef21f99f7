"""How much a device may submit: messages by the second, readings by the minute."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.request import Request

from devices.authentication import DevicePrincipal
from devices.throttles import request_charge
from iotflow.lib.ratelimit import Charge
from iotflow.lib.throttles import Throttle, spend


class Messages(Throttle):
    """A device's message; its readings are charged by `admit`, once they are counted."""

    def charges(self, request: Request) -> list[Charge]:
        user = request.user
        if not isinstance(user, DevicePrincipal):
            return [request_charge(request)]
        return [_message(user.device.id)]


class OneReading(Messages):
    """A message of one reading: both in one round trip."""

    def charges(self, request: Request) -> list[Charge]:
        if isinstance(request.user, DevicePrincipal):
            return one_reading(request.user.device.id)
        return super().charges(request)


def one_reading(device_id: int) -> list[Charge]:
    """What a message of one reading is charged."""
    return [_message(device_id), _readings(device_id, 1)]


def admit(readings: Mapping[int, int], view: Any = None) -> None:
    """Charge devices for so many readings each, `{device_id: readings}`: all or none.

    One round trip. Raises TooManyRequests; the answer of `view` tells what is left.
    """
    spend([_readings(device_id, count) for device_id, count in readings.items()], view)


def _message(device_id: int) -> Charge:
    return Charge("messages", f"device:{device_id}", settings.RATE_DEVICE_MESSAGES, smooth=True)


def _readings(device_id: int, count: int) -> Charge:
    return Charge("readings", f"device:{device_id}", settings.RATE_DEVICE_READINGS, count)
