"""What the stores have, held against the ledger."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
from django.db import DatabaseError, connections

from events.kinds import Kind
from events.models import EventLog, Outbox
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms
from telemetry.readings import HistoryQuery, StoredReading
from telemetry.stores import telemetry_store
from tests.bench.population import Somebody
from tests.faults.ledger import Ledger

T = TypeVar("T")
HOUR_MS = 3_600_000
HALVES = {"n", "text"}
PATIENCE_SECONDS = 60
Stored = dict[int, list[StoredReading]]


@dataclass
class Findings:
    """What is missing and what is there twice; each with an example in `examples`."""

    lost: int = 0
    doubled: int = 0
    latest_wrong: int = 0
    events_lost: int = 0
    events_doubled: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, name: str, wrong: Iterable[object]) -> None:
        found = list(wrong)
        setattr(self, name, getattr(self, name) + len(found))
        self.examples += [f"{name}: {one}" for one in found[:3]]

    @property
    def is_clean(self) -> bool:
        return not self.examples


def patiently(ask: Callable[[], T]) -> T:
    """What it answers once the stores are there for this process, too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (StoreAway, DatabaseError):
            connections.close_all()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def drained() -> bool:
    """Whether the worker has delivered every event, within a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while patiently(Outbox.objects.exists):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def settle(
    ledger: Ledger, devices: list[Somebody], owner_id: int, begun_ms: int, url: str
) -> Findings:
    """Compare all that was acknowledged with the three tables, the cache and the event log."""
    found = Findings()
    if not drained():
        found.note("events_lost", ["the outbox is not empty"])
    span = begun_ms - HOUR_MS, begun_ms + HOUR_MS
    stored = patiently(lambda: {device.id: _history(device.id, *span) for device in devices})
    _compare_readings(found, ledger, stored)
    _compare_feed(found, ledger, owner_id, *span)
    _compare_latest(found, stored, devices, url)
    _compare_events(found, ledger)
    return found


def _history(device_id: int, start: int, end: int) -> list[StoredReading]:
    query = HistoryQuery(device_id, start, end, limit=100_000)
    page = telemetry_store().history(query)
    assert page.next_after is None
    return page.readings


def _compare_readings(found: Findings, ledger: Ledger, stored: Stored) -> None:
    there = {
        (device, reading.time, reading.values.get("n"))
        for device, readings in stored.items()
        for reading in readings
    }
    places = Counter(number for _, _, number in there)
    taken = [entry for entry in ledger.submissions() if entry.is_acknowledged]
    found.note(
        "lost",
        (e for e in taken if (e.device_id, e.result, e.number) not in there),
    )
    # A reading without a time may be stored although its answer was lost; none is stored twice.
    found.note("doubled", (number for number, times in places.items() if times > 1))
    halves = [r for readings in stored.values() for r in readings if set(r.values) != HALVES]
    found.note("lost", halves)


def _compare_feed(found: Findings, ledger: Ledger, owner_id: int, start: int, end: int) -> None:
    feed = patiently(lambda: telemetry_store().feed(owner_id, start, end, 1_000_000, None))
    there = Counter((reading.device_id, reading.time, reading.values.get("n")) for reading in feed)
    taken = [entry for entry in ledger.submissions() if entry.is_acknowledged]
    found.note(
        "lost",
        (f"in the feed: {e}" for e in taken if not there[e.device_id, e.result, e.number]),
    )


def _compare_latest(found: Findings, stored: Stored, devices: list[Somebody], url: str) -> None:
    """In the store, and as the API tells it by way of the cache."""
    latest = patiently(lambda: telemetry_store().latest([(device.id, 0) for device in devices]))
    for device in devices:
        if not stored[device.id]:
            continue
        newest = max(stored[device.id], key=lambda reading: reading.time)
        of_store = latest[device.id, 0]
        if (of_store["n"].time, of_store["n"].value) != (newest.time, newest.values["n"]):
            found.note("latest_wrong", [f"device {device.id} in the store: {of_store['n']}"])
        answer = _latest_of(url, device)
        if answer.get("n") != newest.values["n"]:
            found.note("latest_wrong", [f"device {device.id} says {answer}, not {newest}"])


def _latest_of(url: str, device: Somebody) -> dict[str, object]:
    path = f"{url}/api/v1/telemetry/{device.id}/latest"
    answer = httpx.get(path, headers={"X-API-Key": device.key}, trust_env=False, timeout=10)
    said: dict[str, object] = answer.json().get("latest_data") or {}
    return said


def _compare_events(found: Findings, ledger: Ledger) -> None:
    """Each event of what was acknowledged is there once, and none of anything twice."""
    expected = {
        "configured": lambda e: (Kind.DEVICE_CONFIG_CHANGED, e.device_id, e.result),
        "registered": lambda e: (Kind.DEVICE_REGISTERED, e.result, None),
    }
    wanted = [
        expected[e.what](e)
        if e.what in expected
        else (Kind.TELEMETRY_SUBMITTED, e.device_id, format_ms(e.result))
        for e in ledger.entries
        if e.is_acknowledged
    ]
    there = patiently(lambda: _events({device_id for _, device_id, _ in wanted}))
    found.note("events_lost", (event for event in wanted if not there[event]))
    found.note("events_doubled", (event for event, times in there.items() if times > 1))


def _events(device_ids: set[int]) -> Counter[tuple[str, int, object]]:
    rows = EventLog.objects.filter(device_id__in=device_ids)
    return Counter(
        (kind, device_id, payload.get("timestamp", payload.get("version")))
        for kind, device_id, payload in rows.values_list("kind", "device_id", "payload")
    )
