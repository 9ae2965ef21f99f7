"""Whom the ledger is held against: the API of the server, and the stores themselves."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.db.models import Max

from devices import keys
from devices.models import ApiKey, Device
from events import selectors, sinks
from events.kinds import Kind
from events.models import EventLog, Outbox
from events.querysets import EventLogs
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import LATEST, format_ms, now_ms, to_ms
from telemetry.fleet import API, COMING_BACK, SimulatedDevice, reason, retry_after
from telemetry.readings import HistoryQuery
from telemetry.simulated.ledger import event_of, time_of
from telemetry.stores import telemetry_store

T = TypeVar("T")
PAGE, EVENT_PAGE = 5000, 1000
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.5
HOUR_MS = 3_600_000  # by which the clocks of stores and server may differ from this one


class Silent(Exception):
    """A witness does not answer, or says that it has no answer; the message says why."""


class Found(NamedTuple):
    """A reading that is there, its time in ms."""

    time: int
    values: Mapping[str, Any]
    metadata: Any


class Latest(NamedTuple):
    """Latest values by measurement, and the newest of their times in ms."""

    time: int | None
    values: Mapping[str, Any]


class Witness(Protocol):
    """Everything raises Silent after PATIENCE_SECONDS without an answer."""

    name: str

    @property
    def knows_events(self) -> bool: ...

    def wait(self) -> str:
        """Wait until every event of what was sent may be there; what is wrong with that, or ""."""

    def history(self, device: SimulatedDevice, start: int) -> Iterator[list[Found]]:
        """Pages of a device's readings from `start` (ms) on, oldest first."""

    def latest(self, device: SimulatedDevice) -> Latest: ...

    def events(self, device: SimulatedDevice, start: int) -> Iterator[list[str]]:
        """Pages of a device's events of submissions that happened from `start` (ms) on."""


class ApiWitness:
    """What the server answers the devices and, with a `token`, their owner."""

    name = "API"

    def __init__(self, http: httpx.Client, token: str) -> None:
        self._http = http
        self._owner = {"Authorization": f"Bearer {token}"} if token else None

    @property
    def knows_events(self) -> bool:
        return self._owner is not None

    def wait(self) -> str:
        return ""

    def history(self, device: SimulatedDevice, start: int) -> Iterator[list[Found]]:
        asked = {"start_time": format_ms(start), "order": "asc", "limit": PAGE}
        for body in self._pages(f"/telemetry/{device.id}", asked, _key(device)):
            yield [
                Found(time_of(item["timestamp"]), item["measurements"], item.get("metadata"))
                for item in body["data"]
            ]

    def latest(self, device: SimulatedDevice) -> Latest:
        body = self._get(f"/telemetry/{device.id}/latest", {}, _key(device))
        newest = body["timestamp"]
        return Latest(None if newest is None else time_of(newest), body["latest_data"])

    def events(self, device: SimulatedDevice, start: int) -> Iterator[list[str]]:
        asked = {
            "device_id": device.id,
            "kind": Kind.TELEMETRY_SUBMITTED.value,
            "start_time": format_ms(start),
            "limit": EVENT_PAGE,
        }
        for body in self._pages("/events", asked, self._owner or {}):
            yield [event_of(event["payload"]) for event in body["events"]]

    def _pages(self, path: str, asked: dict[str, Any], headers: dict[str, str]) -> Iterator[Any]:
        while True:
            body = self._get(path, asked, headers)
            yield body
            if body["next_cursor"] is None:
                return
            asked = {**asked, "cursor": body["next_cursor"]}

    def _get(self, path: str, asked: dict[str, Any], headers: dict[str, str]) -> Any:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._http.get(API + path, params=asked, headers=headers)
            except httpx.RequestError as error:
                why, wait = f"no answer ({error or type(error).__name__})", POLL_SECONDS
            else:
                if answer.is_success:
                    return answer.json()
                why, wait = reason(answer), retry_after(answer)
                if answer.status_code not in COMING_BACK:
                    until = 0.0
            if time.monotonic() + wait > until:
                raise Silent(f"GET {API}{path} was answered {why}.")
            time.sleep(wait)


class StoreWitness:
    """What is in the stores that this process's settings name."""

    name = "stores"
    knows_events = True

    def holds(self, devices: Sequence[SimulatedDevice]) -> bool:
        """Whether these are the stores of the server that the devices spoke to."""
        first = devices[0]
        digest = keys.digest(first.api_key, settings.API_KEY_PEPPER)
        known = ApiKey.objects.filter(digest=digest, device_id=first.id)
        return _patiently(known.exists)

    def wait(self) -> str:
        """What is in the outbox now has to leave it; what others put there meanwhile need not."""
        last = _patiently(lambda: Outbox.objects.aggregate(last=Max("pk"))["last"])
        waiting = Outbox.objects.filter(pk__lte=last or 0)
        until = time.monotonic() + PATIENCE_SECONDS
        while count := _patiently(waiting.count):
            if time.monotonic() > until:
                return f"{count} event(s) still wait in the outbox: does `manage.py worker` run?"
            time.sleep(POLL_SECONDS)
        return ""

    def history(self, device: SimulatedDevice, start: int) -> Iterator[list[Found]]:
        after: int | None = None
        while True:
            query = HistoryQuery(device.id, start, LATEST, PAGE, descending=False, after=after)
            page = _patiently(partial(telemetry_store().history, query))
            yield [Found(*reading) for reading in page.readings]
            if (after := page.next_after) is None:
                return

    def latest(self, device: SimulatedDevice) -> Latest:
        epoch = _patiently(
            lambda: Device.objects.values_list("latest_epoch", flat=True).filter(pk=device.id).get()
        )
        place = device.id, epoch
        values = _patiently(lambda: telemetry_store().latest([place])[place])
        newest = max((value.time for value in values.values()), default=None)
        return Latest(newest, {name: value.value for name, value in values.items()})

    def events(self, device: SimulatedDevice, start: int) -> Iterator[list[str]]:
        own = EventLog.objects.filter(device_id=device.id, kind=Kind.TELEMETRY_SUBMITTED)
        rest, end = own, now_ms() + HOUR_MS
        while True:
            page = _patiently(partial(_newest, rest, start, end))
            yield [event_of(event.payload) for event in page]
            if len(page) < EVENT_PAGE:
                return
            last = page[-1]
            rest, end = own.older_than(last.time, last.id), to_ms(last.time)


def _newest(events: EventLogs, start: int, end: int) -> list[EventLog]:
    with sinks.guarded():
        return selectors.newest(events, start, end, EVENT_PAGE)


def _key(device: SimulatedDevice) -> dict[str, str]:
    return {"X-API-Key": device.api_key}


def _patiently(ask: Callable[[], T]) -> T:
    """What the store answers, once it is there."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (StoreAway, DatabaseError) as error:
            close_old_connections()
            if time.monotonic() > until:
                raise Silent(str(error)) from error
            time.sleep(POLL_SECONDS)
