"""How many devices there are, and in which state, for a page that many look at all the time.

Counting rows costs more with every one of them, so what was counted is kept in Redis for a while:
a page costs the same however many devices there are.
"""

from typing import NamedTuple

from django.db.models import Count, Q

from devices.models import Device
from devices.presence import count_online
from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis

KEPT_SECONDS = 15


class Tally(NamedTuple):
    """At most KEPT_SECONDS old."""

    total: int
    active: int
    inactive: int
    maintenance: int
    never_seen: int
    online: int

    @property
    def offline(self) -> int:
        """Heard of before, and not lately."""
        return max(0, self.total - self.never_seen - self.online)


def tally() -> Tally:
    """Counts anew where Redis has forgotten or is away."""
    try:
        with redis() as client:
            kept = client.get(_key())
            if kept is not None:
                return Tally(*json.loads(kept))
            counted = _counted()
            client.set(_key(), json.dumps(list(counted)), ex=KEPT_SECONDS)
            return counted
    except StoreAway:
        return _counted()


def _counted() -> Tally:
    states = Device.Status
    found = Device.objects.aggregate(
        total=Count("pk"),
        active=Count("pk", filter=Q(status=states.ACTIVE)),
        inactive=Count("pk", filter=Q(status=states.INACTIVE)),
        maintenance=Count("pk", filter=Q(status=states.MAINTENANCE)),
        never_seen=Count("pk", filter=Q(last_seen=None)),
    )
    return Tally(**found, online=count_online())


def _key() -> str:
    return key("devices", "tally")
