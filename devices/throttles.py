"""How many requests whoever asks may make: a device, a user, or an address without proof."""

from django.conf import settings
from rest_framework.request import Request

from devices.authentication import DevicePrincipal
from devices.key_cache import DeviceRecord
from iotflow.lib.ratelimit import Charge
from iotflow.lib.throttles import Throttle, anonymous_charge


class Requests(Throttle):
    def charges(self, request: Request) -> list[Charge]:
        return [request_charge(request)]


def request_charge(request: Request) -> Charge:
    """A request that is nothing more; who has proved who they are is not counted by address."""
    user = request.user
    if isinstance(user, DevicePrincipal):
        return device_charge(user.device)
    if user.is_authenticated:
        return Charge("requests", f"user:{user.pk}", settings.RATE_USER)
    return anonymous_charge(request)


def device_charge(device: DeviceRecord) -> Charge:
    return Charge("requests", f"device:{device.id}", settings.RATE_DEVICE_REQUESTS)
