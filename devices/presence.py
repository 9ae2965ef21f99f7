"""Whether a device is there: Redis knows exactly, PostgreSQL at most a minute behind.

Redis holds per device a `status` of five minutes and `last_seen`; for all of them the sorted set
`online` by the time they were last seen, the same for the keys they used, and how often each was
heard this hour. All of it is derived and may be lost: then the database answers.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from devices.key_cache import DeviceRecord
from devices.models import ApiKey, Device
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


# Keys: the sets of devices online, of keys used and of devices by how often they were heard this
# hour, then status and last_seen of each device.
# Arguments: now, seconds online, seconds last_seen is kept, how many devices; their ids and how
# often each was heard; key ids.
TOUCH = """
local now, devices = ARGV[1], tonumber(ARGV[4])
for i = 1, devices do
    local id = ARGV[3 + 2 * i]
    redis.call('SET', KEYS[2 * i + 2], 'online', 'EX', ARGV[2])
    redis.call('SET', KEYS[2 * i + 3], now, 'EX', ARGV[3])
    redis.call('ZADD', KEYS[1], 'GT', now, id)
    redis.call('ZINCRBY', KEYS[3], ARGV[4 + 2 * i], id)
end
redis.call('EXPIRE', KEYS[3], 7200)
for i = 5 + 2 * devices, #ARGV do redis.call('ZADD', KEYS[2], 'GT', now, ARGV[i]) end
"""


@dataclass(frozen=True, slots=True)
class Presence:
    is_online: bool
    last_seen: datetime | None


def add_touches(pipe: Any, records: Collection[DeviceRecord], now_ms: int) -> None:
    """Add to a pipeline: these devices were heard of at `now_ms`, with their keys, if any."""
    heard = Counter(record.id for record in records)
    used = {record.key_id for record in records if record.key_id}
    keys = [_online_key(), _used_key(), _heard_key(now_ms)]
    for device_id in heard:
        keys += (_status_key(device_id), _last_seen_key(device_id))
    counted = chain.from_iterable(heard.items())
    pipe.eval(
        TOUCH, len(keys), *keys, now_ms, settings.ONLINE_SECONDS, DAY, len(heard), *counted, *used
    )


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
    """Write it to the database where that is more than a minute behind: two statements."""
    now = timezone.now()
    before = now - timedelta(seconds=FLUSH_SECONDS)
    Device.objects.filter(
        Q(last_seen=None) | Q(last_seen__lt=before), pk__in={record.id for record in records}
    ).update(last_seen=now)
    ApiKey.objects.filter(
        Q(last_used=None) | Q(last_used__lt=before), pk__in={record.key_id for record in records}
    ).update(last_used=now)


def presences(devices: Sequence[Device]) -> dict[int, Presence]:
    """The presence of each device, by id: one round trip for any number of them."""
    exact = _exact_last_seen([device.pk for device in devices])
    limit = timezone.now() - timedelta(seconds=settings.ONLINE_SECONDS)
    answers = {}
    for device in devices:
        moments = [m for m in (exact.get(device.pk), device.last_seen) if m is not None]
        last_seen = max(moments, default=None)
        answers[device.pk] = Presence(last_seen is not None and last_seen > limit, last_seen)
    return answers


def presence(device: Device) -> Presence:
    return presences([device])[device.pk]


def count_online() -> int:
    """How many devices are online.

    Redis may have begun anew, and the database lags: neither counts too many, so the larger count
    is the nearer one.
    """
    limit = timezone.now() - timedelta(seconds=settings.ONLINE_SECONDS)
    stored = Device.objects.filter(last_seen__gt=limit).count()
    try:
        with redis() as client:
            return max(client.zcount(_online_key(), f"({to_ms(limit)}", "+inf"), stored)
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
    answers = {}
    for api_key in api_keys:
        moments = [m for m in (exact.get(api_key.pk), api_key.last_used) if m is not None]
        answers[api_key.pk] = max(moments, default=None)
    return answers


def flush(since_ms: int = 0) -> int:
    """Carry what Redis learned since `since_ms` into the database; how many rows.

    Raises StoreAway.
    """
    with redis() as client:
        online = client.zrangebyscore(_online_key(), since_ms, "+inf", withscores=True)
        used = client.zrangebyscore(_used_key(), since_ms, "+inf", withscores=True)
    changed = _save(Device, "last_seen", online) + _save(ApiKey, "last_used", used)
    with redis() as client:
        client.zremrangebyscore(_online_key(), "-inf", now_ms() - 1000 * settings.ONLINE_SECONDS)
        client.zremrangebyscore(_used_key(), "-inf", now_ms() - 1000 * DAY)
    return changed


def _save(model: type[Device] | type[ApiKey], field: str, scores: list[tuple[bytes, float]]) -> int:
    moments = {int(member): to_datetime(int(score)) for member, score in scores}
    changed = 0
    for chunk in batched(sorted(moments), FLUSH_CHUNK):
        behind: list[Any] = [
            row
            for row in model.objects.filter(pk__in=chunk).only("pk", field)
            if (known := getattr(row, field)) is None or known < moments[row.pk]
        ]
        for row in behind:
            setattr(row, field, moments[row.pk])
        model.objects.bulk_update(behind, [field], batch_size=500)
        changed += len(behind)
    return changed


def forget(device_ids: Iterable[int]) -> None:
    """Drop what Redis holds of devices that are gone; what it misses expires."""
    try:
        with redis() as client:
            for chunk in batched(device_ids, FORGET_CHUNK):
                client.delete(*map(_status_key, chunk), *map(_last_seen_key, chunk))
                client.zrem(_online_key(), *chunk)
    except StoreAway:
        logger.info("presence of deleted devices stays in Redis until it expires")


def _exact_last_seen(device_ids: Sequence[int]) -> dict[int, datetime]:
    if not device_ids:
        return {}
    try:
        with redis() as client:
            values = client.mget([_last_seen_key(device_id) for device_id in device_ids])
    except StoreAway:
        return {}
    return {
        device_id: to_datetime(int(value))
        for device_id, value in zip(device_ids, values, strict=True)
        if value is not None
    }


def _exact_last_used(key_ids: Sequence[int]) -> dict[int, datetime]:
    if not key_ids:
        return {}
    try:
        with redis() as client:
            scores = client.zmscore(_used_key(), [str(key_id) for key_id in key_ids])
    except StoreAway:
        return {}
    return {
        key_id: to_datetime(int(score))
        for key_id, score in zip(key_ids, scores, strict=True)
        if score is not None
    }


def _online_key() -> str:
    return key("devices", "online")


def _heard_key(now_ms: int) -> str:
    return key("devices", "heard", now_ms // HOUR_MS)


def _used_key() -> str:
    return key("apikeys", "used")


def _status_key(device_id: object) -> str:
    return key("device", device_id, "status")


def _last_seen_key(device_id: object) -> str:
    return key("device", device_id, "last_seen")
