"""Batches take turns at the store."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from devices.authentication import find_device
from iotflow.lib.errors import StoreAway
from telemetry import clock, commit
from telemetry.readings import Reading
from telemetry.stores import telemetry_store

NOON = 1_733_313_600_000


def readings(sensor, number: int) -> list[Reading]:
    owner_id = find_device(sensor.key).owner_id
    return [Reading(sensor.id, owner_id, NOON + number, clock.written(), {"a": number})]


def test_a_few_write_at_once_and_the_others_wait_their_turn(sensor, monkeypatch):
    store, write = telemetry_store(), telemetry_store().write
    lock, at_once = threading.Lock(), [0, 0]  # now, and at the most

    def counted(group):
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        write(group)

    monkeypatch.setattr(store, "write", counted)
    groups = [readings(sensor, number) for number in range(32)]
    with ThreadPoolExecutor(16) as threads:
        refused = threads.map(lambda group: commit.store_all(group, time.monotonic() + 30), groups)
        assert list(refused) == [[None]] * 32
    assert at_once[1] == commit.WRITERS


def test_what_redis_missed_is_told_a_part_at_a_time_and_first_what_it_is_told_of(monkeypatch):
    monkeypatch.setattr(commit, "MISSED_AT_ONCE", 10)
    missed = commit.Missed()
    missed.add((n, 0) for n in range(100))
    own = {(n, 0) for n in range(50, 60)} | {(1000, 0)}
    found = missed.places(own)
    assert own - {(1000, 0)} <= found
    assert len(found) <= 20
    while places := missed.places(()):
        missed.mended(places)
    assert not missed


def test_whose_turn_does_not_come_in_time_is_refused(sensor, monkeypatch):
    monkeypatch.setattr(commit, "_turns", threading.Semaphore(0))
    group, begun = readings(sensor, 1), time.monotonic()
    with pytest.raises(StoreAway):
        commit.store_all(group, begun + 0.1)
    assert time.monotonic() - begun < 5
