"""The staff's pages with many devices and events: how often they ask, and how much is looked at."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pymongo import timeout

from accounts.models import User
from devices import tally
from devices.models import Device, DeviceGroup, GroupMembership
from events import sinks
from events.kinds import Kind, Severity
from events.models import EventLog

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
DEVICES, EVENTS, CHUNK, OWNERS = 100_000, 20_000, 5000, 20
LARGE = Device._meta.db_table
LOOKED_AT_MAX = 30_000  # page 500 of 50 devices each passes by 25,000 of them


class Page(NamedTuple):
    """An address below /admin/, and how many queries it may cost of either database."""

    path: str
    queries: int
    of_events: int = 0


@pytest.fixture
def site(staff) -> Client:
    client = Client()
    client.force_login(staff.user)
    return client


@pytest.fixture
def fleet() -> dict[str, int]:
    """Many devices of a few owners, one of them in a group; ids by name."""
    owners = [User.objects.create_user(f"owner{n}", f"owner{n}@example.org") for n in range(OWNERS)]
    now = timezone.now()
    for first in range(0, DEVICES, CHUNK):
        Device.objects.bulk_create(
            Device(
                owner=owners[n % OWNERS],
                name=f"Device {n:06}",
                device_type=("sensor", "meter", "gateway")[n % 3],
                location=f"Building {n % 977}, room {n % 89}",
                status="inactive" if n % 97 == 0 else "active",
                last_seen=None if n % 10 == 0 else now - timedelta(seconds=n),
            )
            for n in range(first, first + CHUNK)
        )
    device = Device.objects.filter(owner=owners[0])[0]
    group = DeviceGroup.objects.create(owner=owners[0], name="Some")
    GroupMembership.objects.create(group=group, device=device)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return {"device": device.pk, "group": group.pk, "owner": owners[1].pk}


@pytest.fixture
def happened(fleet: dict[str, int]) -> Iterator[None]:
    """As many events as fill 20 days, the last one now."""
    now = timezone.now()
    for first in range(0, EVENTS, CHUNK):
        sinks.deliver(
            [
                {
                    "id": str(uuid4()),
                    "time": (now - timedelta(days=20 * n / EVENTS)).isoformat(),
                    "kind": Kind.values[n % len(Kind.values)],
                    "severity": Severity.values[n % len(Severity.values)],
                    "message": f"Something happened ({n})",
                    "actor": "test",
                    "user_id": None,
                    "device_id": fleet["device"],
                    "address": "192.0.2.7",
                    "request_id": f"r{n}",
                    "payload": {},
                    "expires_at": (now + timedelta(days=90)).isoformat(),
                }
                for n in range(first, first + CHUNK)
            ],
            seconds=60,
        )
    yield
    with timeout(60):  # more than a request has
        EventLog.objects.all().delete()


def test_no_page_reads_all_there_is(site, fleet, happened):
    devices, events = "devices/device/", "events/eventlog/"
    last = (timezone.now() - timedelta(days=19, hours=23)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pages = [
        Page("", 7, 23),
        Page(devices, 4),
        Page(f"{devices}?status__exact=inactive&device_type=gateway", 4),
        Page(f"{devices}?presence=never", 4),
        Page(f"{devices}?q=room+17", 5),
        Page(f"{devices}?q=Device+0777", 5),
        Page(f"{devices}?p=500", 4),
        Page(f"{devices}{fleet['device']}/overview/", 7),
        Page(f"{devices}{fleet['device']}/telemetry/", 6),
        Page(f"{devices}{fleet['device']}/events/", 6, 6),
        Page(f"devices/devicegroup/{fleet['group']}/latest/", 6),
        Page(events, 2, 5),
        Page(f"{events}?start_time=-30d&severity=error", 2, 6),
        Page(f"{events}?start_time=-30d&q=777", 2, 26),
        Page(f"{events}?start_time=-30d&end_time={last}", 2, 8),
        Page(f"accounts/user/{fleet['owner']}/overview/", 9, 9),
        Page("search/?s=room+17&extended=1", 6),
    ]
    tally.renew()  # as the worker does
    faults = [fault for page in pages for fault in faults_of(site, page)]
    assert not faults, "\n".join(faults)


def faults_of(site: Client, page: Page) -> Iterator[str]:
    path = f"/admin/{page.path}"
    assert site.get(path).status_code == 200, path
    events = connections["events"]
    with CaptureQueriesContext(connection) as asked, CaptureQueriesContext(events) as of_events:
        assert site.get(path).status_code == 200, path
    if len(asked) > page.queries:
        yield f"{path}: {len(asked)} queries"
    if len(of_events) > page.of_events:
        yield f"{path}: {len(of_events)} queries of events"
    for query in asked.captured_queries:
        for way, rows in looked_at(query["sql"]):
            if rows > LOOKED_AT_MAX or way == "Seq Scan":
                yield f"{path}: {way} of {rows:.0f} devices: {query['sql']}"
    for query in of_events.captured_queries:
        if "event_logs" in query["sql"] and "{'time': {'$gte'" not in query["sql"]:
            yield f"{path}: no bound of time: {query['sql']}"


def looked_at(sql: str) -> list[tuple[str, float]]:
    """How many rows of the large table the query reads, and how: (way, rows)."""
    if not sql.startswith("SELECT"):
        return []
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        [(plan,)] = cursor.fetchall()
    found = plan if isinstance(plan, list) else json.loads(plan)
    return [
        (node["Node Type"], rows_of(node))
        for node in nodes(found[0]["Plan"])
        if node.get("Relation Name") == LARGE
    ]


def rows_of(node: dict[str, Any]) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)
