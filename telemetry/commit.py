"""What becomes of readings, whoever brings them: stored, then told to Redis.

The committer (a message each of many devices), batches (many of few) and imports all write so.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from math import inf

from django.conf import settings
from django.db import DatabaseError

from devices import presence
from devices.key_cache import DeviceRecord
from iotflow.lib import counters
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis, shared
from iotflow.lib.timeparse import now_ms
from telemetry import latest, live, rollups
from telemetry.alerting.book import Check
from telemetry.alerting.sieve import Due, Sieve, forget_all
from telemetry.readings import Place, Reading, newest
from telemetry.stores import Refused, telemetry_store

logger = logging.getLogger(__name__)
MISSED_MAX = 200_000
MISSED_AT_ONCE = 1_000
# Groups of batches that are written at once: more would wait at the store, until that gives up.
WRITERS = 4
_turns = threading.Semaphore(WRITERS)


def store(readings: Sequence[Reading], deadline: float = inf) -> list[Refused | None]:
    """Write the readings durably, as one group; for each why the store refuses it, or None.

    Where the group is refused, each is written alone. Raises StoreAway, also when `deadline` (of
    time.monotonic) passes in between; then any of them may be stored.
    """
    if not readings:
        return []
    try:
        rollups.note_late(readings)
        return _store(readings, deadline)
    except StoreAway:
        missed.add({(reading.device_id, reading.latest_epoch) for reading in readings})
        raise


def store_all(readings: Sequence[Reading], deadline: float) -> list[Refused | None]:
    """The same for any number of readings: group by group, WRITERS of a process at once."""
    try:
        return [no for group in chunks(readings) for no in _store_in_turn(group, deadline)]
    except StoreAway:
        missed.add({(reading.device_id, reading.latest_epoch) for reading in readings})
        publish([])
        raise


def _store_in_turn(readings: Sequence[Reading], deadline: float) -> list[Refused | None]:
    if not _turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise StoreAway("The telemetry store")
    try:
        return store(readings, deadline)
    finally:
        _turns.release()


def _store(readings: Sequence[Reading], deadline: float) -> list[Refused | None]:
    if time.monotonic() > deadline:
        raise StoreAway("The telemetry store")
    try:
        telemetry_store().write(readings)
        return [None] * len(readings)
    except Refused as error:
        if len(readings) == 1:
            return [error]
    return [refusal for reading in readings for refusal in _store([reading], deadline)]


def publish(
    readings: Sequence[Reading],
    devices: Collection[DeviceRecord] = (),
    checks: Sequence[Check] = (),
) -> list[Due]:
    """Tell Redis of stored readings, and that these devices were heard of: one pipeline.

    Those of devices that somebody listens to go to their channels besides, by another call. What
    is returned are those of the `checks` that are left for telemetry.alerting.evaluation.
    Never fails: what Redis misses is dropped from its cache when it is back.
    """
    sieve = Sieve(checks)
    values = newest(readings)
    waiting = missed.places(values)
    counters.count("readings", len(readings))
    counters.count("values", sum(len(reading.values) for reading in readings))
    try:
        with redis() as client:
            with client.pipeline(transaction=False) as pipe, counters.sending(pipe):
                latest.forget(pipe, waiting)
                forget_all(pipe, waiting)
                latest.add_newest(pipe, values)
                if devices:
                    presence.add_touches(pipe, devices, now_ms())
                sieve.add(pipe)
                asked = live.ask(pipe, {*values, *waiting})
                answers = pipe.execute()
            live.tell(client, readings, waiting, asked, answers)
        missed.mended(waiting)
        if not shared():  # nobody else sees it there, and it ends with this process
            _save_presence(devices)
        return sieve.due(answers)
    except StoreAway:
        missed.add(values)
        _save_presence(devices)
        return sieve.unsifted()


class Missed:
    """Devices of whose latest values and alerts Redis may have missed some; bounded, for those
    expire there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: set[Place] = set()

    def __bool__(self) -> bool:
        return bool(self._places)

    def places(self, about: Iterable[Place]) -> frozenset[Place]:
        """Those of `about`, and MISSED_AT_ONCE others at most."""
        with self._lock:
            some = islice(self._places, MISSED_AT_ONCE)
            return frozenset(self._places.intersection(about)).union(some)

    def add(self, places: Iterable[Place]) -> None:
        with self._lock:
            if len(self._places) < MISSED_MAX:
                self._places.update(places)

    def mended(self, places: Collection[Place]) -> None:
        if places:
            with self._lock:
                self._places.difference_update(places)


missed = Missed()


def _save_presence(devices: Collection[DeviceRecord]) -> None:
    if not devices:
        return
    try:
        presence.save_touches(devices)
    except DatabaseError:
        logger.warning("neither Redis nor the database took when devices were last seen")


def chunks(readings: Sequence[Reading]) -> Iterable[list[Reading]]:
    """The readings in groups of at most INGEST_GROUP of them and INGEST_GROUP_VALUES values."""
    group: list[Reading] = []
    values = 0
    for reading in readings:
        values += len(reading.values)
        full = len(group) == settings.INGEST_GROUP or values > settings.INGEST_GROUP_VALUES
        if group and full:
            yield group
            group, values = [], len(reading.values)
        group.append(reading)
    if group:
        yield group
