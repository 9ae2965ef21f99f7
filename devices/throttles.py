"""How many requests whoever asks may make: a device, a user, or an address without proof."""

from django.conf import settings
from rest_framework.request import Request

from devices.authentication import DevicePrincipal
from iotflow.lib.ratelimit import Charge
from iotflow.lib.throttles import Throttle, anonymous_charge


class Requests(Throttle):
    def charges(self, request: Request) -> list[Charge]:
        return [request_charge(request)]


def request_charge(request: Request) -> Charge:
    """A request that is nothing more; who has proved who they are is not counted by address."""
    user = request.user
    if isinstance(user, DevicePrincipal):
        return Charge("requests", user.pk, settings.RATE_DEVICE_REQUESTS)
    if user.is_authenticated:
        return Charge("requests", f"user:{user.pk}", settings.RATE_USER)
    return anonymous_charge(request)
