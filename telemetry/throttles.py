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


def admit(device_id: int, *, readings: int, view: Any = None) -> None:
    """Charge a device for so many readings. TooManyRequests where they do not fit, all of them.

    With `view` its answer's headers speak of this limit too.
    """
    admit_many({device_id: readings}, view=view)


def admit_many(readings: Mapping[int, int], *, view: Any = None) -> None:
    """The same for several devices, `{device_id: readings}`: all or none, in one round trip."""
    spend([_readings(device_id, count) for device_id, count in readings.items()], view)


def _readings(device_id: int, count: int) -> Charge:
    return Charge("readings", f"device:{device_id}", settings.RATE_DEVICE_READINGS, count)
