"""When devices came online and went offline, in PostgreSQL, and how long they were.

A job of the worker finds whose silence has lasted too long, and carries the stream `flips` of
devices.presence into the database. It may run twice over the same: a flip counts once, by its place
in the stream. What only the database knows, of a time when Redis was away, keeps a device online.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone

from devices.models import Device, PresenceChange
from devices.presence import FLIPS_MAX, deadlines_key, flips_key, online_key
from events import log
from events.kinds import Kind, Severity
from iotflow.lib.alone import alone
from iotflow.lib.batches import batched, delete_in_pieces
from iotflow.lib.redis import Script, key, redis
from iotflow.lib.timeparse import format_datetime, now_ms, to_datetime, to_ms

LOCK = 7_310_502_027  # the number of the advisory lock of whoever carries
AT_ONCE = 1000  # flips
SEEDED_AT_ONCE = 5000
MS = timedelta(milliseconds=1)
# Keys: the deadlines, the stream of flips, the set of devices online.
# Arguments: now, flips kept, how many at once. Answers how many deadlines had passed.
SWEEP = Script(
    """
local late = redis.call(
    'ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #late, 2 do
    local id, deadline = late[i], late[i + 1]
    local seen = redis.call('ZSCORE', KEYS[3], id) or deadline
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
        'd', id, 'at', deadline, 'on', 0, 'seen', seen)
    redis.call('ZREM', KEYS[1], id)
end
return #late / 2
"""
)


class Flip(NamedTuple):
    """That a device changed, as Redis noted it. `seen`: when Redis had heard it last before."""

    place: int
    device_id: int
    at: datetime
    is_online: bool
    seen: datetime

    @classmethod
    def of(cls, entry: bytes, fields: dict[bytes, bytes]) -> "Flip":
        ms, _, number = entry.partition(b"-")
        at, seen = (to_datetime(int(float(fields[name]))) for name in (b"at", b"seen"))
        place = (int(ms) << 20) + int(number)  # within a bigint until the year 248,000
        return cls(place, int(fields[b"d"]), at, fields[b"on"] == b"1", seen)


def settle() -> bool:
    """Carry a slice of the flips into the database; whether there is more. Raises StoreAway."""
    with alone(LOCK) as is_alone:
        if not is_alone:
            return False
        _seed()
        keys = deadlines_key(), flips_key(), online_key()
        with redis() as client:
            late = SWEEP(client, keys, [now_ms(), FLIPS_MAX, AT_ONCE])
            entries = client.xrange(flips_key(), count=AT_ONCE)
        if entries:
            _carry([Flip.of(*entry) for entry in entries])
            with redis() as client:
                client.xdel(flips_key(), *(number for number, _ in entries))
    return AT_ONCE in (late, len(entries))


def _seed() -> None:
    """Tell a Redis that has begun anew of the devices that are online by what is known here."""
    marker = key("devices", "deadlines", "known")
    with redis() as client:
        if client.exists(marker):
            return
        devices = _with_newest("is_online").filter(newest_is_online=True)
        rows = devices.exclude(online_until=None).order_by()
        for chunk in batched(rows.values_list("pk", "online_until").iterator(), SEEDED_AT_ONCE):
            deadlines = {pk: to_ms(until) for pk, until in chunk if until}
            client.zadd(deadlines_key(), deadlines, nx=True)
        client.set(marker, 1)


@transaction.atomic
def _carry(flips: Sequence[Flip]) -> None:
    by_device: dict[int, list[Flip]] = defaultdict(list)
    for flip in flips:
        by_device[flip.device_id].append(flip)
    devices = _with_newest("is_online", "at", "place").filter(pk__in=by_device)
    changes = [
        change
        for device in devices.order_by("pk")
        for change in _changes(device, by_device[device.pk])
    ]
    PresenceChange.objects.bulk_create(changes, batch_size=500)
    log.record_all([_event(change) for change in changes])


def _with_newest(*fields: str) -> QuerySet[Any]:
    """The devices with these fields of their newest change, as `newest_…`; None without one."""
    newest = PresenceChange.objects.filter(device=OuterRef("pk")).order_by("-at")
    return Device.objects.annotate(
        **{f"newest_{name}": Subquery(newest.values(name)[:1]) for name in fields}
    )


def _changes(device: Any, flips: Sequence[Flip]) -> Iterator[PresenceChange]:
    """What the flips change of what is known of the device, in their order."""
    is_online, changed_at = bool(device.newest_is_online), device.newest_at
    for flip, following in zip_longest(flips, flips[1:]):
        if flip.place <= (device.newest_place or 0) or flip.is_online == is_online:
            continue
        at = flip.at
        if not flip.is_online and _was_heard_apart(device, flip, following):
            at = max(at, device.online_until)
            if following is None and at > timezone.now():
                with redis() as client:
                    client.zadd(deadlines_key(), {device.pk: to_ms(at)}, nx=True)
                continue
            if following is not None and at >= following.at:
                continue
        if changed_at is not None:
            at = max(at, changed_at + MS)
        is_online, changed_at = flip.is_online, at
        yield PresenceChange(device=device, at=at, is_online=is_online, place=flip.place)


def _was_heard_apart(device: Device, off: Flip, on: Flip | None) -> bool:
    """Whether the database heard of it, as it does while Redis is away, before it came back."""
    if device.last_seen is None or device.online_until is None:
        return False
    return off.seen < device.last_seen and (on is None or device.last_seen < on.at)


def _event(change: PresenceChange) -> Any:
    device, is_online = change.device, change.is_online
    return log.happened(
        Kind.DEVICE_CAME_ONLINE if is_online else Kind.DEVICE_WENT_OFFLINE,
        f"Device {device.name} {'came online' if is_online else 'went offline'}",
        user_id=device.owner_id,
        device_id=device.pk,
        severity=Severity.INFO if is_online else Severity.WARNING,
        payload={"at": format_datetime(change.at)},
    )


@dataclass(slots=True)
class Uptime:
    """How long a device was online and offline in a range; what lies before the first change that
    is kept is neither. `changes` are the newest of the range, the newest first.
    """

    online: timedelta = timedelta(0)
    offline: timedelta = timedelta(0)
    count: int = 0
    changes: Sequence[PresenceChange] = ()

    @property
    def share(self) -> float | None:
        """Of the time that is known, between 0 and 1; None where nothing is."""
        known = self.online + self.offline
        return self.online / known if known else None

    def add(self, is_online: bool | None, lasting: timedelta) -> None:
        if is_online:
            self.online += lasting
        elif is_online is not None:
            self.offline += lasting


def uptime(device: Device, start: datetime, end: datetime, limit: int) -> Uptime:
    """From `start` to `end`, or to now; with at most `limit` changes, for which it asks again."""
    end = min(end, timezone.now())
    before = device.presence_changes.filter(at__lte=start).order_by("-at").values("pk")[:1]
    within = device.presence_changes.filter(at__gt=start, at__lte=end)
    known = device.presence_changes.filter(pk__in=before) | within
    found = Uptime()
    is_online: bool | None = None
    since = start
    for at, state in known.order_by("at").values_list("at", "is_online").iterator():
        if at > start:
            found.add(is_online, at - since)
            found.count += 1
            since = at
        is_online = state
    found.add(is_online, max(end - since, timedelta(0)))
    found.changes = list(within.order_by("-at")[:limit])
    return found


def purge(now: datetime) -> int:
    """Delete changes older than PRESENCE_RETENTION_DAYS, but for what still holds then."""
    limit = now - timedelta(days=settings.PRESENCE_RETENTION_DAYS)
    later = PresenceChange.objects.filter(device=OuterRef("device"), at__gt=OuterRef("at"))
    old = PresenceChange.objects.filter(Exists(later.filter(at__lte=limit)), at__lt=limit)
    return delete_in_pieces(old)
