"""What Redis holds against the stores that it is filled from, for a sample of devices."""

import time
from collections.abc import Callable, Iterator

from django.utils import timezone

from devices import key_cache
from devices.models import ApiKey, Device
from iotflow.lib import redis
from iotflow.lib.findings import Finding, ok, problem
from telemetry import latest
from telemetry.readings import Place
from telemetry.stores import telemetry_store

SAMPLE = 100
NAMED = 5
Look = Callable[[list[Device]], list[Device]]
PAUSE_SECONDS = 1.0  # what was under way meanwhile has arrived
EMPTY = (
    "Empty Redis (`redis-cli FLUSHDB`): nothing there is the only copy. Then look at what changed "
    "a store past the application: a restore, a change by hand."
)


def caches(sample: int = SAMPLE) -> Iterator[Finding]:
    """The devices heard of last, as Redis has their keys and latest values."""
    if not redis.shared():
        yield ok("Redis is embedded: nothing is cached there.")
        return
    with redis.redis() as client:
        client.ping()
    devices = list(Device.objects.exclude(last_seen=None).order_by("-last_seen")[:sample])
    devices = devices or list(Device.objects.order_by("-pk")[:sample])
    yield from _told("latest values", latest_cached(devices), _again(wrong_latest, devices))
    yield from _told("keys", len(keys_of(devices)), _again(wrong_keys, devices))


def latest_cached(devices: list[Device]) -> int:
    return len(latest.cached(places(devices)))


def wrong_latest(devices: list[Device]) -> list[Device]:
    """Those whose cached latest values, where they are believed, are not the store's."""
    found = latest.cached(places(devices))
    stored = telemetry_store().latest(list(found))
    return [
        device
        for device, place in zip(devices, places(devices), strict=True)
        if place in found
        and {name: (one.time, one.value) for name, one in found[place].items()}
        != {name: (one.time, one.value) for name, one in stored[place].items()}
    ]


def wrong_keys(devices: list[Device]) -> list[Device]:
    """Those of whose keys Redis says something else than the database."""
    now = timezone.now()
    wrong = set()
    for key in keys_of(devices):
        cached = key_cache.find(key.digest).record
        if cached is None or cached.expired(now):
            continue
        if key.state(now) != ApiKey.State.VALID or cached != key_cache.record_of(key.device, key):
            wrong.add(key.device_id)
    return [device for device in devices if device.pk in wrong]


def keys_of(devices: list[Device]) -> list[ApiKey]:
    of_them = ApiKey.objects.filter(device__in=devices).with_device()
    return list(of_them.order_by("-pk")[: 2 * len(devices)])


def places(devices: list[Device]) -> list[Place]:
    return [(device.pk, device.latest_epoch) for device in devices]


def _again(wrong: Look, devices: list[Device]) -> list[Device]:
    """What is wrong and stays so: a submission that is under way is in one place first."""
    found = wrong(devices)
    if not found:
        return []
    time.sleep(PAUSE_SECONDS)
    fresh = Device.objects.filter(pk__in=[device.pk for device in found])
    return wrong(list(fresh))


def _told(what: str, count: int, wrong: list[Device]) -> Iterator[Finding]:
    if not wrong:
        yield ok(f"Redis and the stores agree on {what} ({count:,} compared).")
        return
    named = ", ".join(str(device.pk) for device in wrong[:NAMED])
    more = ", …" if len(wrong) > NAMED else ""
    yield problem(
        f"Redis has other {what} than the store of {len(wrong):,} device(s): {named}{more}.", EMPTY
    )
