"""Whether a device is there: Redis knows exactly, PostgreSQL at most a minute behind.

A device is online until its silence has lasted longer than is allowed (devices.silence), counted
from when the server last heard it: the times of its readings do not matter. Redis holds per device
a `status` for as long, and `last_seen`; for all of them the sorted sets `online` by when they were
last seen and `deadlines` by until when they are online, the same for the keys they used, and how
often each was heard this hour. All of it is derived and may be lost: then the database answers.

Whoever comes online does so in the step that hears it, which puts that into the stream `flips`;
whoever goes offline is found by devices.presence_history, which also reads the stream.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from devices.key_cache import DeviceRecord
from devices.models import ApiKey, Device
from devices.silence import Expectation, allowed
from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis, shared
from iotflow.lib.timeparse import now_ms, to_datetime, to_ms

logger = logging.getLogger(__name__)
DAY = 86_400
HOUR_MS = 3_600_000
FLUSH_SECONDS = 60
FLUSH_CHUNK = 5000
FORGET_CHUNK = 1000
FLIPS_MAX = 1_000_000  # that wait for a worker; some 60 MB


# Keys: the sets of devices online, of keys used and of devices by how often they were heard this
# hour, the deadlines, the stream of flips, then status and last_seen of each device.
# Arguments: now, seconds last_seen is kept, flips kept, how many devices; of each its id, how often
# it was heard, and the seconds it may be silent; key ids.
TOUCH = """
local now, devices = ARGV[1], tonumber(ARGV[4])
local function flip(id, at, is_online, seen)
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[3], '*',
        'd', id, 'at', at, 'on', is_online, 'seen', seen)
end
for i = 1, devices do
    local id, times, silence = ARGV[3 * i + 2], ARGV[3 * i + 3], ARGV[3 * i + 4]
    redis.call('SET', KEYS[2 * i + 4], 'online', 'EX', silence)
    redis.call('SET', KEYS[2 * i + 5], now, 'EX', ARGV[2])
    local seen = redis.call('ZSCORE', KEYS[1], id)
    redis.call('ZADD', KEYS[1], 'GT', now, id)
    redis.call('ZINCRBY', KEYS[3], times, id)
    local deadline = redis.call('ZSCORE', KEYS[4], id)
    redis.call('ZADD', KEYS[4], now + 1000 * silence, id)
    if not deadline then
        flip(id, now, 1, now)
    elseif tonumber(deadline) <= tonumber(now) then
        flip(id, deadline, 0, seen or deadline)
        flip(id, now, 1, now)
    end
end
redis.call('EXPIRE', KEYS[3], 7200)
for i = 5 + 3 * devices, #ARGV do redis.call('ZADD', KEYS[2], 'GT', now, ARGV[i]) end
"""


Moments = dict[int, datetime]  # by id


@dataclass(frozen=True, slots=True)
class Presence:
    is_online: bool
    last_seen: datetime | None


def silence(record: DeviceRecord) -> int:
    """Seconds that the device may be silent."""
    return allowed(record.device_type, Expectation(record.expected_interval, record.grace))


def add_touches(pipe: Any, records: Collection[DeviceRecord], now_ms: int) -> None:
    """Add to a pipeline: these devices were heard of at `now_ms`, with their keys, if any."""
    heard = Counter(record.id for record in records)
    silences = {record.id: silence(record) for record in records}
    used = {record.key_id for record in records if record.key_id}
    keys = [online_key(), _used_key(), _heard_key(now_ms), deadlines_key(), flips_key()]
    counted: list[int] = []
    for device_id, times in heard.items():
        keys += (_status_key(device_id), _last_seen_key(device_id))
        counted += (device_id, times, silences[device_id])
    pipe.eval(TOUCH, len(keys), *keys, now_ms, DAY, FLIPS_MAX, len(heard), *counted, *used)


def touch(records: Collection[DeviceRecord]) -> None:
    """These devices were heard of now; in the database itself while Redis is away or embedded."""
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            add_touches(pipe, records, now_ms())
            pipe.execute()
    except StoreAway:
        save_touches(records)
    else:
        if not shared():
            save_touches(records)


def save_touches(records: Collection[DeviceRecord]) -> None:
    """Write it to the database where that is more than a minute behind: a statement for the keys,
    and one for the devices of each length of silence.
    """
    now = timezone.now()
    before = now - timedelta(seconds=FLUSH_SECONDS)
    by_silence: dict[int, set[int]] = {}
    for record in records:
        by_silence.setdefault(silence(record), set()).add(record.id)
    for seconds, ids in by_silence.items():
        Device.objects.filter(
            Q(last_seen=None) | Q(last_seen__lt=max(before, now - timedelta(seconds=seconds / 2))),
            pk__in=ids,
        ).update(last_seen=now, online_until=now + timedelta(seconds=seconds))
    ApiKey.objects.filter(
        Q(last_used=None) | Q(last_used__lt=before), pk__in={record.key_id for record in records}
    ).update(last_used=now)


def presences(devices: Sequence[Device]) -> dict[int, Presence]:
    """The presence of each device, by id: one round trip for any number of them."""
    seen, until = _exact([device.pk for device in devices])
    now = timezone.now()
    answers = {}
    for device in devices:
        last_seen = latest(seen.get(device.pk), device.last_seen)
        online_until = latest(until.get(device.pk), device.online_until)
        is_online = online_until is not None and online_until > now
        answers[device.pk] = Presence(is_online, last_seen)
    return answers


def latest(*moments: datetime | None) -> datetime | None:
    return max(filter(None, moments), default=None)


def presence(device: Device) -> Presence:
    return presences([device])[device.pk]


def count_online() -> int:
    """How many devices are online.

    Redis may have begun anew, and the database lags: neither counts too many, so the larger count
    is the nearer one.
    """
    now = timezone.now()
    stored = Device.objects.filter(online_until__gt=now).count()
    try:
        with redis() as client:
            return max(client.zcount(deadlines_key(), f"({to_ms(now)}", "+inf"), stored)
    except StoreAway:
        return stored


def busiest(most: int) -> list[tuple[int, int]]:
    """Ids of the devices heard most often since the hour began, and how often. Raises StoreAway."""
    with redis() as client:
        found = client.zrevrange(_heard_key(now_ms()), 0, most - 1, withscores=True)
    return [(int(member), int(times)) for member, times in found]


def keys_last_used(api_keys: Sequence[ApiKey]) -> dict[int, datetime | None]:
    """When a device last wrote with each key, by id: one round trip for any number of them."""
    exact = _exact_last_used([api_key.pk for api_key in api_keys])
    return {key.pk: latest(exact.get(key.pk), key.last_used) for key in api_keys}


def flush(since_ms: int = 0) -> int:
    """Carry what Redis learned since `since_ms` into the database; how many rows.

    Raises StoreAway.
    """
    with redis() as client:
        seen = client.zrangebyscore(online_key(), since_ms, "+inf", withscores=True)
        used = client.zrangebyscore(_used_key(), since_ms, "+inf", withscores=True)
        last_seen = _moments(seen)
        online_until: Moments = {}
        for chunk in batched(last_seen, FLUSH_CHUNK):
            online_until |= _known(chunk, client.zmscore(deadlines_key(), chunk))
    changed = _save(Device, {"last_seen": last_seen, "online_until": online_until})
    changed += _save(ApiKey, {"last_used": _moments(used)})
    with redis() as client:
        day_ago = now_ms() - 1000 * DAY
        client.zremrangebyscore(online_key(), "-inf", day_ago)
        client.zremrangebyscore(_used_key(), "-inf", day_ago)
    return changed


def _moments(scores: list[tuple[bytes, float]]) -> Moments:
    return {int(member): to_datetime(int(score)) for member, score in scores}


def _save(model: type[Device] | type[ApiKey], fields: Mapping[str, Moments]) -> int:
    """Of rows whose first field is behind."""
    first, moments = next(iter(fields.items()))
    changed = 0
    for chunk in batched(sorted(moments), FLUSH_CHUNK):
        behind: list[Any] = [
            row
            for row in model.objects.filter(pk__in=chunk).only("pk", *fields)
            if (known := getattr(row, first)) is None or known < moments[row.pk]
        ]
        for row in behind:
            for name, known in fields.items():
                setattr(row, name, known.get(row.pk, getattr(row, name)))
        model.objects.bulk_update(behind, list(fields), batch_size=500)
        changed += len(behind)
    return changed


def forget(device_ids: Iterable[int]) -> None:
    """Drop what Redis holds of devices that are gone; what it misses expires."""
    try:
        with redis() as client:
            for chunk in batched(device_ids, FORGET_CHUNK):
                client.delete(*map(_status_key, chunk), *map(_last_seen_key, chunk))
                client.zrem(online_key(), *chunk)
                client.zrem(deadlines_key(), *chunk)
    except StoreAway:
        logger.info("presence of deleted devices stays in Redis until it expires")


def _exact(device_ids: Sequence[int]) -> tuple[Moments, Moments]:
    """When they were last seen and until when they are online; empty while Redis is away."""
    if not device_ids:
        return {}, {}
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.mget([_last_seen_key(device_id) for device_id in device_ids])
            pipe.zmscore(deadlines_key(), device_ids)
            seen, until = pipe.execute()
    except StoreAway:
        return {}, {}
    return _known(device_ids, seen), _known(device_ids, until)


def _known(numbers: Sequence[int], moments: Sequence[Any]) -> Moments:
    return {
        number: to_datetime(int(moment))
        for number, moment in zip(numbers, moments, strict=True)
        if moment is not None
    }


def _exact_last_used(key_ids: Sequence[int]) -> Moments:
    if not key_ids:
        return {}
    try:
        with redis() as client:
            return _known(key_ids, client.zmscore(_used_key(), [str(key_id) for key_id in key_ids]))
    except StoreAway:
        return {}


def deadlines_key() -> str:
    return key("devices", "deadlines")


def flips_key() -> str:
    return key("devices", "flips")


def online_key() -> str:
    return key("devices", "online")


def _heard_key(now_ms: int) -> str:
    return key("devices", "heard", now_ms // HOUR_MS)


def _used_key() -> str:
    return key("apikeys", "used")


def _status_key(device_id: object) -> str:
    return key("device", device_id, "status")


def _last_seen_key(device_id: object) -> str:
    return key("device", device_id, "last_seen")
