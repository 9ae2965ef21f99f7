"""What this process sees in the stores themselves, past the API, said in plain lines.

It looks where its own settings point. A server with other settings keeps its data elsewhere; then
nothing is seen, and that is what is said.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection

from accounts.models import User
from devices.models import Device, DeviceGroup, GroupMembership
from events import sinks
from events.models import EventLog
from iotflow.lib import redis
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EPOCH, format_ms, now_ms
from telemetry.readings import HistoryQuery
from telemetry.stores import telemetry_store

UNSEEN = "not seen from here: the server's settings point elsewhere"
HOUR_MS = 3_600_000


class Sightings:
    """With `own_stores`, what is not there is a fault (ValueError), not another server's affair."""

    def __init__(self, *, own_stores: bool) -> None:
        self._own = own_stores
        self._database = _safely(_database_name) or "the database"
        self._telemetry = _safely(_telemetry_name) or "the telemetry store"
        self._events = _safely(_events_name) or "the event log"

    def stores(self) -> str:
        cache = _safely(_cache_name) or "Redis, which does not answer"
        return f"{self._database}; {self._telemetry}; {cache}; {self._events}."

    def user(self, user_id: int, username: str) -> list[str]:
        return [
            self._row("accounts_user", User.objects.filter(pk=user_id, username=username)),
            self._event("user.registered", user_id=user_id),
        ]

    def device(self, device_id: int, name: str) -> list[str]:
        return [
            self._row("devices_device", Device.objects.filter(pk=device_id, name=name)),
            self._event("device.registered", device_id=device_id),
        ]

    def group(self, group_id: int, name: str) -> list[str]:
        return [
            self._row("devices_devicegroup", DeviceGroup.objects.filter(pk=group_id, name=name))
        ]

    def membership(self, group_id: int, device_id: int) -> list[str]:
        rows = GroupMembership.objects.filter(group=group_id, device=device_id)
        return [self._row("devices_groupmembership", rows)]

    def reading(self, device_id: int, time: int, values: Mapping[str, Any]) -> list[str]:
        return [
            self._values(device_id, time, values),
            self._redis(lambda client: _status_line(client, device_id)),
            self._event("telemetry.submitted", device_id=device_id),
        ]

    def latest(self, device_id: int) -> list[str]:
        return [
            self._redis(lambda client: _latest_line(client, device_id)),
            self._look(self._telemetry, lambda: _latest_in_store(device_id)),
        ]

    def history(self, device_id: int, time: int) -> list[str]:
        return [self._look(self._telemetry, lambda: _partition(device_id, time))]

    def presence(self, device_id: int) -> list[str]:
        return [self._redis(lambda client: _online_line(client, device_id))]

    def events(self, device_id: int) -> list[str]:
        def look() -> str:
            found = EventLog.objects.filter(device_id=device_id, kind="telemetry.submitted")
            count = found.count()
            return f"event_logs holds {count} telemetry.submitted of it" if count else ""

        return [self._look(self._events, look)]

    def _row(self, table: str, rows: Any) -> str:
        def look() -> str:
            row = rows.values_list("pk", flat=True).first()
            return "" if row is None else f"row {row} in {table}"

        return self._look(self._database, look)

    def _values(self, device_id: int, time: int, values: Mapping[str, Any]) -> str:
        def look() -> str:
            query = HistoryQuery(device_id, time, time, limit=1)
            found = telemetry_store().history(query).readings
            if not found or found[0].values != dict(values):
                return ""
            return _rows_line(device_id, time)

        return self._look(self._telemetry, look)

    def _event(self, kind: str, **about: int) -> str:
        def look() -> str:
            event = EventLog.objects.filter(kind=kind, **about).first()
            return "" if event is None else f"{kind} in event_logs, _id {event.pk.hex}"

        return self._look(self._events, look)

    def _redis(self, look: Callable[[Any], str]) -> str:
        if not redis.shared():
            return "Redis: embedded in the server's process, where no other process sees it"

        def inside() -> str:
            with redis.redis() as client:
                return look(client)

        return self._look(_safely(_cache_name) or "Redis", inside)

    def _look(self, store: str, look: Callable[[], str]) -> str:
        """`store: what is there`. ValueError where it should be and is not."""
        try:
            seen = look()
        except (StoreAway, DatabaseError):
            return f"{store}: does not answer this process"
        if seen:
            return f"{store}: {seen}"
        if self._own:
            raise ValueError(f"{store} does not hold what the answer promised.")
        return f"{store}: {UNSEEN}"


def _database_name() -> str:
    version = ".".join(str(part) for part in connection.get_database_version())
    name = f"{connection.display_name} {version}"
    return name if connection.vendor == "postgresql" else f"{name} in place of PostgreSQL"


def _telemetry_name() -> str:
    store = telemetry_store()
    version = store.ping()
    return version if store.is_cassandra else f"{version} in place of Cassandra"


def _cache_name() -> str:
    if not redis.shared():
        return "fakeredis in the server's process in place of Redis"
    return redis.ping()


def _events_name() -> str:
    version = sinks.ping()
    if settings.EVENTS_EMBEDDED:
        return f"{version} in place of MongoDB"
    return version if version.startswith("MongoDB") else f"{version} over MongoDB's protocol"


def _rows_line(device_id: int, time: int) -> str:
    """The rows of a reading, by CQL where the store is Cassandra."""
    if not telemetry_store().is_cassandra:
        return f"its rows in device_data at {format_ms(time)}"
    from telemetry.tables import DeviceDataTable

    moment = EPOCH + timedelta(milliseconds=time)
    rows = DeviceDataTable.objects.filter(device_id=device_id, day=moment.date(), ts=moment)
    keys = [row.key for row in rows]
    return f"{len(keys)} rows in device_data ({', '.join(keys)}), by CQL" if keys else ""


def _latest_in_store(device_id: int) -> str:
    place = device_id, _epoch(device_id)
    found = telemetry_store().latest([place])[place]
    return f"{len(found)} rows in latest_data: {', '.join(found)}" if found else ""


def _partition(device_id: int, time: int) -> str:
    query = HistoryQuery(device_id, time - HOUR_MS, time, limit=10)
    count = len(telemetry_store().history(query).readings)
    return f"{count} readings of the last hour in device_data" if count else ""


def _latest_line(client: Any, device_id: int) -> str:
    name = redis.key("latest", device_id, _epoch(device_id))
    fields = client.hlen(name)
    return f"hash {name}, {fields} fields, expires in {client.ttl(name)} s" if fields else ""


def _status_line(client: Any, device_id: int) -> str:
    name = redis.key("device", device_id, "status")
    value = client.get(name)
    return "" if value is None else f"{name} = {value.decode()}, expires in {client.ttl(name)} s"


def _online_line(client: Any, device_id: int) -> str:
    name = redis.key("devices", "online")
    score = client.zscore(name, device_id)
    if score is None:
        return ""
    return f"in the sorted set {name}, {(now_ms() - score) / 1000:.1f} s ago"


def _epoch(device_id: int) -> int:
    device = Device.objects.filter(pk=device_id).only("latest_epoch").first()
    return 0 if device is None else int(device.latest_epoch)


def _safely(look: Callable[[], str]) -> str:
    try:
        return look()
    except (StoreAway, DatabaseError):
        return ""
