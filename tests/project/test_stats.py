"""GET /admin/stats: figures of the whole system, counted."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from devices.models import Device, DeviceGroup
from events import log, outbox, sinks
from events.kinds import Kind, Severity
from iotflow import stats
from iotflow.lib import counters
from iotflow.lib.redis import redis


@pytest.fixture(autouse=True)
def counted_from_zero(monkeypatch):
    monkeypatch.setattr(counters, "_counted", {})
    monkeypatch.setattr(counters, "_sent", {})


def figures(staff):
    answer = staff.api.get("/admin/stats")
    assert answer.status == 200, answer.text
    return answer.json


def rates(staff, window="last_minute"):
    return figures(staff)["telemetry"][window]


def event(severity: Severity, ago: timedelta = timedelta()) -> dict:
    return log.event(
        uuid.uuid4(),
        Kind.DEVICE_CHANGED,
        "x",
        actor="test",
        severity=severity,
        time=timezone.now() - ago,
    )


def test_it_is_for_staff(alice, sensor, anybody, staff):
    assert alice.api.get("/admin/stats").status == 403
    assert anybody.get("/admin/stats").status == 401
    assert sensor.api.get("/admin/stats").status == 401
    assert staff.api.post("/admin/stats").status == 405


def test_an_empty_system_has_zeros(staff, settings):
    found = figures(staff)
    nothing = {"messages": 0, "readings": 0, "values": 0}
    assert found.pop("time").endswith("Z")
    caches = found.pop("caches")
    if settings.REDIS_EMBEDDED:
        assert caches is None  # nothing is cached there
    else:
        unused = {"hits": 0, "misses": 0, "hit_rate": None}
        assert caches == {"keys": unused, "latest": unused}
    assert found == {
        "status": "success",
        "devices": {"total": 0, "active": 0, "inactive": 0, "maintenance": 0, "online": 0},
        "users": {"total": 1, "active": 1, "staff": 1},
        "groups": 0,
        "telemetry": {
            "all_processes": not settings.REDIS_EMBEDDED,
            "last_minute": nothing,
            "last_hour": nothing,
            "last_day": nothing,
        },
        "events": {"info": 0, "warning": 0, "error": 0},
        "outbox": {"waiting": 0, "age_seconds": 0.0},
    }


def test_what_is_there_is_counted(staff, alice, make_user, make_device):
    make_user(is_active=False)
    devices = [make_device(alice) for _ in range(4)]
    Device.objects.filter(pk=devices[0].id).update(status="inactive")
    Device.objects.filter(pk=devices[1].id).update(status="maintenance")
    DeviceGroup.objects.create(owner=alice.user, name="hall")
    devices[2].api.post("/devices/heartbeat")
    found = figures(staff)
    assert found["devices"] == {
        "total": 4,
        "active": 2,
        "inactive": 1,
        "maintenance": 1,
        "online": 1,
    }
    assert found["users"] == {"total": 3, "active": 2, "staff": 1}
    assert found["groups"] == 1


def test_who_is_online_is_known_when_redis_has_forgotten(staff, sensor):
    now = timezone.now()
    Device.objects.update(last_seen=now, online_until=now + timedelta(seconds=300))
    assert figures(staff)["devices"]["online"] == 1
    Device.objects.update(online_until=now)
    assert figures(staff)["devices"]["online"] == 0


def test_submissions_are_counted_in_every_window(staff, sensor, monkeypatch):
    for n in range(3):
        assert sensor.api.post("/telemetry", {"data": {"a": n, "b": n}}).status == 201
    expected = {"messages": 3, "readings": 3, "values": 6}
    now = counters.time.time()
    for later, known in (
        (0, {"last_minute", "last_hour", "last_day"}),
        (50, {"last_minute", "last_hour", "last_day"}),
        (70, {"last_hour", "last_day"}),
        (3500, {"last_hour", "last_day"}),
        (3700, {"last_day"}),
        (86_000, {"last_day"}),
        (88_000, set()),
    ):
        monkeypatch.setattr(counters.time, "time", lambda later=later: now + later)
        telemetry = figures(staff)["telemetry"]
        assert {name for name, rate in telemetry.items() if rate == expected} == known, later


def test_what_is_counted_expires(staff, sensor):
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    with redis() as client:
        kept = {key: client.ttl(key) for key in client.keys("*counts*")}
    assert len(kept) == 3
    assert all(0 < seconds <= 90_000 for seconds in kept.values())


def test_a_refused_submission_is_not_counted(staff, sensor):
    assert sensor.api.post("/telemetry", {"data": {}}).status == 400
    assert rates(staff)["messages"] == 0


def test_events_of_the_last_day_by_severity(staff, monkeypatch):
    day = timedelta(days=1, minutes=1)
    sinks.deliver([event(Severity.INFO) for _ in range(5)])
    sinks.deliver([event(Severity.WARNING), event(Severity.WARNING), event(Severity.ERROR)])
    sinks.deliver([event(Severity.ERROR, day)])
    assert figures(staff)["events"] == {"info": 5, "warning": 2, "error": 1}
    monkeypatch.setattr(stats, "EVENTS_COUNTED", 3)
    assert figures(staff)["events"]["info"] == 3


def test_what_waits_in_the_outbox_is_told(staff):
    outbox.put([event(Severity.INFO), event(Severity.INFO)])
    waiting = figures(staff)["outbox"]
    assert waiting["waiting"] == 2
    assert 0 <= waiting["age_seconds"] < 60


def test_it_costs_the_same_for_any_number_of_things(
    staff, alice, make_device, django_assert_num_queries
):
    for _ in range(5):
        make_device(alice)
    # The token with its user; devices by status; those seen of late; users; groups; how many
    # events wait; since when. In the event log one count for each severity.
    with django_assert_num_queries(7), django_assert_num_queries(3, using="events"):
        figures(staff)


@pytest.mark.real
def test_the_caches_tell_how_often_they_knew(staff, alice, sensor):
    for _ in range(4):
        sensor.api.post("/telemetry", {"data": {"a": 1}})
    for _ in range(3):
        alice.api.get(f"/telemetry/{sensor.id}/latest")
    caches = figures(staff)["caches"]
    assert caches["keys"] == {"hits": 3, "misses": 1, "hit_rate": 0.75}
    assert caches["latest"] == {"hits": 2, "misses": 1, "hit_rate": 0.6667}
