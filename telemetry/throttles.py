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
        return [Charge("messages", user.pk, settings.RATE_DEVICE_MESSAGES, smooth=True)]


class OneReading(Messages):
    """A message of one reading: both in one round trip."""

    def charges(self, request: Request) -> list[Charge]:
        charges = super().charges(request)
        if isinstance(request.user, DevicePrincipal):
            charges.append(_readings(request.user.device.id, 1))
        return charges


def admit(readings: Mapping[int, int], view: Any = None) -> None:
    """Charge devices for so many readings each, `{device_id: readings}`: all or none.

    One round trip. Raises TooManyRequests; the answer of `view` tells what is left.
    """
    spend([_readings(device_id, count) for device_id, count in readings.items()], view)


def _readings(device_id: int, count: int) -> Charge:
    return Charge("readings", f"device:{device_id}", settings.RATE_DEVICE_READINGS, count)
