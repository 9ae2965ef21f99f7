"""How many devices there are, and in which state, for a page that many look at all the time.

Counting rows costs more with every one of them. So the worker does it, and what it counted is kept
in Redis: a page costs the same however many devices there are.
"""

from contextlib import suppress
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet

from devices.models import Device
from devices.presence import count_online
from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis

EVERY_SECONDS = 15  # the worker counts anew
KEPT_SECONDS = 60  # where none does
TYPES_MAX = 50


class Tally(NamedTuple):
    """At most KEPT_SECONDS old. `types`: the most frequent ones, in alphabetical order."""

    total: int
    active: int
    inactive: int
    maintenance: int
    never_seen: int
    online: int
    types: list[str]

    @property
    def offline(self) -> int:
        """Heard of before, and not lately."""
        return max(0, self.total - self.never_seen - self.online)


def tally() -> Tally:
    """As it was counted last; anew where Redis has forgotten, or is away."""
    with suppress(StoreAway, TypeError):  # the latter: kept by another version of this program
        with redis() as client:
            kept = client.get(_key())
        if kept is not None:
            return Tally(*json.loads(kept))
    counted = _counted()
    with suppress(StoreAway):
        _keep(counted)
    return counted


def renew() -> None:
    """Count anew, for `tally`. Raises StoreAway."""
    _keep(_counted())


def _keep(counted: Tally) -> None:
    with redis() as client:
        client.set(_key(), json.dumps(list(counted)), ex=KEPT_SECONDS)


def _counted() -> Tally:
    states = Device.Status
    found = Device.objects.aggregate(
        total=Count("pk"),
        active=Count("pk", filter=Q(status=states.ACTIVE)),
        inactive=Count("pk", filter=Q(status=states.INACTIVE)),
        maintenance=Count("pk", filter=Q(status=states.MAINTENANCE)),
        never_seen=Count("pk", filter=Q(last_seen=None)),
    )
    return Tally(**found, online=count_online(), types=frequent_types(Device.objects.all()))


def frequent_types(devices: QuerySet[Device]) -> list[str]:
    """At most TYPES_MAX, in alphabetical order; reads all of the devices."""
    counts: Any = devices.order_by().values("device_type").annotate(devices=Count("pk"))
    frequent = counts.order_by("-devices", "device_type")[:TYPES_MAX]
    return sorted(row["device_type"] for row in frequent)


def _key() -> str:
    return key("devices", "tally")
