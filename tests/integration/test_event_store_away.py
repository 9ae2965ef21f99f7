"""What needs the event store says so at once while it is away; the rest of a figure stands."""

import time
import uuid

import pytest
from django.test import Client

from events import browse, outbox, sinks
from events.kinds import Kind
from events.log import happened
from events.models import DeviceConfig, EventLog, Outbox
from iotflow.lib.errors import StoreAway
from tests.services import eventually, hung, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def relayed() -> bool:
    try:
        outbox.relay_all()
    except StoreAway:
        return False
    return not Outbox.objects.exists()


@pytest.mark.parametrize("away", [killed, hung])
def test_mongo_away_is_a_503_without_a_long_wait(away, alice, staff, sensor):
    path = f"/devices/{sensor.id}/config"
    assert alice.api.put(path, {"config": {"n": 1}}).status == 200
    with away("mongo"):
        for answer_of in (
            lambda: alice.api.get(path),
            lambda: alice.api.put(path, {"config": {"n": 2}}),
            lambda: alice.api.get(f"{path}/history"),
            lambda: alice.api.post(f"{path}/rollback", {"version": 1}),
            lambda: sensor.api.get("/devices/config"),
            lambda: sensor.api.post("/devices/config/reported", {"version": 1}),
            lambda: alice.api.get("/events"),
            lambda: staff.api.get(f"/events/{uuid.uuid4()}"),
        ):
            started = time.monotonic()
            answer = answer_of()
            assert time.monotonic() - started < 5  # and not the driver's half a minute
            assert answer.status == 503
            assert answer.json["error"] == "store_unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
        started = time.monotonic()
        for _ in range(20):  # that it is away is known by now
            assert sensor.api.get("/devices/config").status == 503
        assert time.monotonic() - started < 8  # the breaker, not twenty time-outs
        assert sensor.api.put("/devices/config", {"location": "hall"}).status == 200
        found = staff.api.get("/admin/stats")
        assert (found.status, found.json["events"]) == (200, None)
        assert found.json["outbox"]["waiting"] == 1
    eventually(relayed)
    eventually(lambda: alice.api.get(path).status == 200)
    assert alice.api.put(path, {"config": {"n": 2}}).json["version"] == 2
    # of what was refused there is neither a version nor an event
    assert DeviceConfig.objects.count() == 2
    assert EventLog.objects.filter(kind="device.config_changed").count() == 2
    assert not EventLog.objects.filter(kind="device.config_reported").exists()


def test_a_search_that_takes_too_long_is_said_and_is_no_absence(staff, monkeypatch):
    site, path = Client(), "/admin/events/eventlog/"
    site.force_login(staff.user)
    event = EventLog.objects.create(**happened(Kind.USER_LOGIN, "logged in"))
    for seconds, said in ((0.001, True), (browse.SEARCH_SECONDS, False)):
        monkeypatch.setattr(browse, "SEARCH_SECONDS", seconds)
        for query in ("q=logged", "address=192.0.2.1", "q=logged&start_time=-3650d"):
            answer = site.get(f"{path}?{query}")
            assert answer.status_code == 200
            assert ("This took too long" in answer.content.decode()) is said
            file = site.get(f"{path}export/?{query}")
            text = b"".join(file) if file.status_code == 200 else file.content
            assert (b"This took too long" in text) is said
            answer = site.get(f"{path}{event.pk}/change/?{query}")
            assert answer.status_code == 200
            assert ("is not known now" in answer.content.decode()) is said
        assert not sinks.breaker.is_open


@pytest.mark.parametrize("away", [killed, hung])
def test_a_search_tells_a_store_that_is_away_from_a_slow_one(away, staff, monkeypatch):
    monkeypatch.setattr(browse, "SEARCH_SECONDS", 1.0)
    site = Client()
    site.force_login(staff.user)
    with away("mongo"):
        for _ in range(3):
            started = time.monotonic()
            assert site.get("/admin/events/eventlog/?q=logged").status_code == 503
            assert time.monotonic() - started < 5
        assert sinks.breaker.is_open
    eventually(lambda: site.get("/admin/events/eventlog/?q=logged").status_code == 200)


def test_redis_away_leaves_the_figures_that_do_not_need_it(staff, sensor):
    assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 201
    with killed("redis"):
        assert sensor.api.post("/telemetry", {"data": {"a": 2}}).status == 201
        found = staff.api.get("/admin/stats").json
        assert found["telemetry"] is None
        assert found["caches"] is None
        assert found["devices"]["online"] == 1
        assert found["events"]["info"] == 3

    def counted() -> bool:
        assert sensor.api.post("/telemetry", {"data": {"a": 3}}).status == 201
        telemetry = staff.api.get("/admin/stats").json["telemetry"]
        # what came while it was away, and what came since
        return telemetry is not None and telemetry["last_minute"]["messages"] >= 2

    eventually(counted)
