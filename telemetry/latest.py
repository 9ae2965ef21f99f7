"""Latest values in Redis: ten minutes, right by event time, and never half an answer.

A hash per device and epoch: measurement → `time:written:JSON`. Writes keep the newest of each
measurement, whatever order they arrive in; the hash may then be partial. Only a fill from the
store sets the mark `complete`, and only a marked hash is believed. A fill merges by the same
rule, so a write that came meanwhile is not undone. The time to live runs from the first write.

Embedded Redis is private to a process while commands write from others: nothing is cached there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.conf import settings

from iotflow.lib import counters, json
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis, shared
from telemetry.readings import LatestValue, Place
from telemetry.stores import telemetry_store

COMPLETE = ""  # no measurement has an empty name
NEWEST = """
local ttl, complete = tonumber(ARGV[1]), ARGV[2]
for i = 3, #ARGV, 4 do
    local field, time, written = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local known = redis.call('HGET', KEYS[1], field)
    local newer = true
    if known then
        local known_time, known_written = string.match(known, '^(%-?%d+):(%d+):')
        known_time, known_written = tonumber(known_time), tonumber(known_written)
        newer = time > known_time or (time == known_time and written >= known_written)
    end
    if newer then
        redis.call('HSET', KEYS[1], field, ARGV[i + 1] .. ':' .. ARGV[i + 2] .. ':' .. ARGV[i + 3])
    end
end
if complete == '1' then redis.call('HSET', KEYS[1], '', '1') end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ttl) end
"""


def latest(device_id: int, epoch: int) -> dict[str, LatestValue]:
    """The newest value of every measurement of one device. Raises StoreAway."""
    place = device_id, epoch
    return latest_of([place])[place]


def latest_of(places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
    """By place, the newest value of every measurement: from Redis, else from the store.

    A round trip to each, for any number of places. Raises StoreAway when neither can answer.
    """
    found = _cached(places)
    counters.count("latest.hits", len(found))
    counters.count("latest.misses", len(places) - len(found))
    if missing := [place for place in places if place not in found]:
        stored = telemetry_store().latest(missing)
        _fill(stored)
        found |= stored
    return found


def add_newest(pipe: Any, newest: Mapping[Place, Mapping[str, LatestValue]]) -> None:
    """Add to a pipeline: these values were written."""
    if shared():
        for place, values in newest.items():
            _add(pipe, place, values, complete=False)


def forget(pipe: Any, places: Collection[Place]) -> None:
    """Add to a pipeline: what is cached of these devices is not to be believed."""
    if shared() and places:
        pipe.delete(*(_key(place) for place in places))


def _cached(places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
    """Of those places that are cached whole."""
    if not shared() or not places:
        return {}
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.hgetall(_key(place))
            hashes = pipe.execute()
    except StoreAway:
        return {}
    return {
        place: {name.decode(): _decode(fields[name]) for name in sorted(fields)}
        for place, fields in zip(places, hashes, strict=True)
        if fields.pop(COMPLETE.encode(), None) is not None
    }


def _fill(stored: Mapping[Place, Mapping[str, LatestValue]]) -> None:
    if not shared():
        return
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            for place, values in stored.items():
                _add(pipe, place, values, complete=True)
            pipe.execute()
    except StoreAway:
        pass  # the next reader fills it


def _add(client: Any, place: Place, values: Mapping[str, LatestValue], *, complete: bool) -> None:
    arguments: list[Any] = [settings.LATEST_CACHE_SECONDS, int(complete)]
    for name, latest_value in values.items():
        text = json.dumps(latest_value.value)
        arguments += [name, latest_value.time, latest_value.written, text]
    client.eval(NEWEST, 1, _key(place), *arguments)


def _decode(text: bytes) -> LatestValue:
    time, written, value = text.split(b":", 2)
    return LatestValue(int(time), int(written), json.loads(value))


def _key(place: Place) -> str:
    return key("latest", *place)
