"""Times that the server gives to readings: milliseconds, and never the same twice for a device.

Redis gives them for all processes; while it is away the device's row in the database does. With
everything embedded there is one process, and it gives them itself.
"""

import threading
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Case, F, Value, When

from devices.models import Device
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis, shared
from iotflow.lib.timeparse import now_ms

HOUR_SECONDS = 3600
GIVE = """
local given = {}
for i = 1, #KEYS do
    local time = tonumber(ARGV[1])
    local last = tonumber(redis.call('GET', KEYS[i]) or '0')
    if last >= time then time = last + 1 end
    given[i] = string.format('%.0f', time)
    redis.call('SET', KEYS[i], given[i], 'EX', ARGV[2])
end
return given
"""


class ProcessClock:
    """The last time given to each device by this process; bounded by forgetting old times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, int] = {}

    def give(self, device_id: int) -> int:
        with self._lock:
            now = now_ms()
            if len(self._last) > 10_000:
                self._last = {d: last for d, last in self._last.items() if last >= now}
            time = max(now, self._last.get(device_id, 0) + 1)
            self._last[device_id] = time
            return time


_process_clock = ProcessClock()


def give(device_ids: Sequence[int]) -> list[int]:
    """A time for each, in their order; a device may be there several times."""
    if not device_ids:
        return []
    if not shared():
        return [_process_clock.give(device_id) for device_id in device_ids]
    try:
        with redis() as client:
            keys = [key("device", device_id, "clock") for device_id in device_ids]
            given = client.eval(GIVE, len(keys), *keys, now_ms(), HOUR_SECONDS)
            return [int(time) for time in given]
    except StoreAway:
        return [_give_from_database(device_id) for device_id in device_ids]


def _give_from_database(device_id: int) -> int:
    """One past the last, or now if later; the row's lock keeps two from getting the same."""
    now = now_ms()
    later = Case(When(last_given_ms__gte=now, then=F("last_given_ms") + 1), default=Value(now))
    with transaction.atomic():
        row = Device.objects.filter(pk=device_id)
        if not row.update(last_given_ms=later):
            return now  # the device is being deleted; nothing else will be written for it
        return int(row.values_list("last_given_ms", flat=True).get())
