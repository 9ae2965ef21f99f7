"""Times that the server gives to readings: milliseconds, and never the same twice for a device.

Redis gives them for all processes; while it is away the device's row in the database does. It may
be away for one process and not for another, so Redis gives even milliseconds and the database odd
ones. With everything embedded there is one process, and it gives them itself.
"""

import threading
import time
from collections import Counter
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
    local time = tonumber(ARGV[i + 1])
    local last = tonumber(redis.call('GET', KEYS[i]) or '0')
    if last >= time then time = last + 1 end
    time = time + time % 2
    given[i] = string.format('%.0f', time)
    redis.call('SET', KEYS[i], given[i], 'EX', ARGV[1])
end
return given
"""
REMEMBERED = 10_000


class ProcessClock:
    """The last time given to each device by this process; bounded by forgetting old times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, int] = {}

    def next(self, device_id: int) -> int:
        """Now, or one past the last that is known to have been given to the device."""
        return max(now_ms(), self._last.get(device_id, 0) + 1)

    def give(self, device_id: int) -> int:
        with self._lock:
            return self._note(device_id, self.next(device_id))

    def note(self, device_id: int, time: int) -> int:
        """A time that was given by others counts here too."""
        with self._lock:
            return self._note(device_id, time)

    def _note(self, device_id: int, time: int) -> int:
        if len(self._last) > REMEMBERED:
            now = now_ms()
            self._last = {d: last for d, last in self._last.items() if last >= now}
        self._last[device_id] = max(time, self._last.get(device_id, 0))
        return time


_process_clock = ProcessClock()
_written = 0
_written_lock = threading.Lock()


def written() -> int:
    """When a value is written, in µs: unique and rising within a process."""
    global _written
    with _written_lock:
        _written = max(_written + 1, time.time_ns() // 1000)
        return _written


def earliest(device_id: int) -> int:
    """The earliest time that may be given to a device, by what this process knows."""
    return _process_clock.next(device_id)


def note(device_id: int, time: int) -> int:
    """This time was given to the device by others; the time."""
    return _process_clock.note(device_id, time)


def clock_key(device_id: int) -> str:
    """Where Redis holds the last time given to a device."""
    return key("device", device_id, "clock")


def give(device_ids: Sequence[int]) -> list[int]:
    """A time for each, in their order; a device may be there several times."""
    if not device_ids:
        return []
    if not shared():
        return [_process_clock.give(device_id) for device_id in device_ids]
    try:
        with redis() as client:
            keys = [clock_key(device_id) for device_id in device_ids]
            # From no earlier than what the database gave while Redis was away.
            times = [earliest(device_id) for device_id in device_ids]
            given = client.eval(GIVE, len(keys), *keys, HOUR_SECONDS, *times)
    except StoreAway:
        return _give_from_database(device_ids)
    return [note(device_id, int(time)) for device_id, time in zip(device_ids, given, strict=True)]


def _give_from_database(device_ids: Sequence[int]) -> list[int]:
    given = {
        device_id: iter(_give_row(device_id, count))
        for device_id, count in sorted(Counter(device_ids).items())
    }
    return [next(given[device_id]) for device_id in device_ids]


def _give_row(device_id: int, count: int) -> range:
    """The times from one past the last, or now if later; the lock on the device's row keeps two
    from getting the same.
    """
    now = _process_clock.next(device_id) | 1
    end = now + 2 * (count - 1)
    last = Case(
        When(last_given_ms__gte=now, then=F("last_given_ms") + 2 * count),
        default=Value(end),
    )
    with transaction.atomic():
        row = Device.objects.filter(pk=device_id)
        if row.update(last_given_ms=last):
            end = int(row.values_list("last_given_ms", flat=True).get())
    _process_clock.note(device_id, end)
    return range(end - 2 * (count - 1), end + 1, 2)
