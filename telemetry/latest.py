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
from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis, shared
from telemetry.readings import LatestValue, Place
from telemetry.stores import telemetry_store

COMPLETE = b""  # no measurement has an empty name
AT_ONCE = 500  # as many values as Lua can hand over with room to spare
# Keys: of each place. Arguments: seconds to live, whether the entries are complete; and as JSON for
# each place its measurements, AT_ONCE of them in a list, and the list of their entries.
NEWEST = """
local ttl, complete = tonumber(ARGV[1]), ARGV[2]

local function order(entry)
    local time, written = string.match(entry, '^(%-?%d+):(%d+):')
    return tonumber(time), tonumber(written)
end

local function is_newer(entry, known)
    if not known then return true end
    local time, written = order(entry)
    local known_time, known_written = order(known)
    return time > known_time or (time == known_time and written >= known_written)
end

for n, lists in ipairs(cjson.decode(ARGV[3])) do
    local key = KEYS[n]
    for l = 1, #lists, 2 do
        local names, entries, news = lists[l], lists[l + 1], {}
        local known = redis.call('HMGET', key, unpack(names))
        for i, name in ipairs(names) do
            if is_newer(entries[i], known[i]) then
                news[#news + 1] = name
                news[#news + 1] = entries[i]
            end
        end
        if #news > 0 then redis.call('HSET', key, unpack(news)) end
    end
    if complete == '1' then redis.call('HSET', key, '', '1') end
    if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ttl) end
end
"""


def latest(
    device_id: int, epoch: int, cached: Mapping[bytes, bytes] | None = None
) -> dict[str, LatestValue]:
    """The newest value of every measurement of one device. Raises StoreAway.

    `cached` is what Redis has at `latest_key`, where that has been asked already.
    """
    values = None if cached is None else decoded(cached)
    if values is None:
        place = device_id, epoch
        return latest_of([place])[place]
    counters.count("latest.hits")
    return values


def latest_of(places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
    """By place, the newest value of every measurement: from Redis, else from the store.

    A round trip to each, for any number of places. Raises StoreAway when neither can answer.
    """
    found = cached(places)
    counters.count("latest.hits", len(found))
    counters.count("latest.misses", len(places) - len(found))
    if missing := [place for place in places if place not in found]:
        stored = telemetry_store().latest(missing)
        _fill(stored)
        found |= stored
    return found


def add_newest(pipe: Any, newest: Mapping[Place, Mapping[str, LatestValue]]) -> None:
    """Add to a pipeline: these values were written."""
    if shared() and newest:
        _add(pipe, newest, complete=False)


def forget(pipe: Any, places: Collection[Place]) -> None:
    """Add to a pipeline: what is cached of these devices is not to be believed."""
    if shared() and places:
        pipe.delete(*(latest_key(place) for place in places))


def cached(places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
    """Of those places that are cached whole."""
    if not shared() or not places:
        return {}
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.hgetall(latest_key(place))
            hashes = pipe.execute()
    except StoreAway:
        return {}
    found = {place: decoded(fields) for place, fields in zip(places, hashes, strict=True)}
    return {place: values for place, values in found.items() if values is not None}


def decoded(fields: Mapping[bytes, bytes]) -> dict[str, LatestValue] | None:
    """What a hash of Redis says, by name; None where it is not complete."""
    if COMPLETE not in fields:
        return None
    return {name.decode(): _decode(fields[name]) for name in sorted(fields) if name != COMPLETE}


def _fill(stored: Mapping[Place, Mapping[str, LatestValue]]) -> None:
    if not shared():
        return
    try:
        with redis() as client:
            _add(client, stored, complete=True)
    except StoreAway:
        pass  # the next reader fills it


def _add(client: Any, values: Mapping[Place, Mapping[str, LatestValue]], *, complete: bool) -> None:
    entries = json.dumps([_lists(of_place) for of_place in values.values()])
    arguments = settings.LATEST_CACHE_SECONDS, int(complete), entries
    client.eval(NEWEST, len(values), *map(latest_key, values), *arguments)


def _lists(values: Mapping[str, LatestValue]) -> list[list[str]]:
    """Names and entries in turn, AT_ONCE in a list."""
    lists: list[list[str]] = []
    for chunk in batched(values.items(), AT_ONCE):
        lists += ([name for name, _ in chunk], [_encode(value) for _, value in chunk])
    return lists


def _encode(value: LatestValue) -> str:
    return f"{value.time}:{value.written}:{json.dumps(value.value).decode()}"


def _decode(text: bytes) -> LatestValue:
    time, written, value = text.split(b":", 2)
    return LatestValue(int(time), int(written), json.loads(value))


def latest_key(place: Place) -> str:
    """Where Redis holds the latest values of a device."""
    return key("latest", *place)
