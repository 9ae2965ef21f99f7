"""Failed proofs and reads of secrets are events; a flood of them is not a flood of events."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import failures
from accounts.models import Token
from devices.models import ApiKey
from events.models import EventLog
from tests.api import Api

UNKNOWN = "iotk_" + "u" * 43


def of(kind: str) -> list[EventLog]:
    return list(EventLog.objects.filter(kind=kind).order_by("time"))


def test_a_refused_key_is_an_event_that_does_not_tell_it(anybody):
    assert Api(key=UNKNOWN).get("/devices/config").status == 401
    [event] = of("device.key_refused")
    assert (event.severity, event.actor, event.user_id) == ("warning", "anonymous", None)
    assert event.address == "127.0.0.1"
    assert event.payload == {"count": 1}
    assert UNKNOWN not in str(vars(event))


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_the_use_of_a_key_that_has_ended_is_an_event_of_its_device(how, alice, sensor):
    past = timezone.now() - timedelta(minutes=1)
    ApiKey.objects.update(**{"revoked_at" if how == "revoked" else "expires_at": past})
    assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 401
    [event] = of("device.key_refused")
    assert (event.user_id, event.device_id) == (alice.user.pk, sensor.id)
    assert event.payload["prefix"] == ApiKey.objects.get().prefix
    newest = alice.api.get("/events").json["events"][0]
    assert newest["id"] == str(event.pk)


def test_a_refused_token_is_an_event_that_does_not_tell_it(alice):
    token = alice.api.token
    Token.objects.all().delete()
    assert alice.api.get("/devices").status == 401
    [event] = of("user.token_refused")
    assert event.payload == {"count": 1}
    assert token not in str(vars(event))


def test_a_flood_is_one_event_of_an_address_in_a_minute_and_counts(monkeypatch, settings):
    settings.RATE_ANONYMOUS = ""
    for _ in range(30):
        assert Api(key=UNKNOWN).get("/devices/config").status == 401
    assert len(of("device.key_refused")) == 1
    monkeypatch.setattr(failures, "ONE", "2/min")  # as if a minute had passed
    assert Api(key=UNKNOWN).get("/devices/config").status == 401
    assert [event.payload["count"] for event in of("device.key_refused")] == [1, 31]


def test_a_flood_from_everywhere_is_bounded_too(settings, monkeypatch):
    monkeypatch.setattr(failures, "ALL", "5/min")
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    for n in range(12):
        Client().get(
            "/api/v1/devices/config",
            headers={"X-API-Key": UNKNOWN, "X-Forwarded-For": f"192.0.2.{n}"},
        )
    assert len(of("device.key_refused")) == 5


def test_a_good_proof_is_no_event(alice, sensor):
    assert alice.api.get("/devices").status == 200
    assert sensor.api.get("/devices/config").status == 200
    assert of("device.key_refused") == of("user.token_refused") == []


class TestConfigurations:
    def test_who_reads_what_another_s_device_is_told_is_an_event(self, alice, staff, sensor):
        path = f"/devices/{sensor.id}/config"
        assert alice.api.put(path, {"config": {"wifi": "hush"}}).status == 200
        for who in (alice, staff, staff):
            for read in (path, f"{path}/history"):
                assert who.api.get(read).status == 200
        assert sensor.api.get("/devices/config").status == 200
        [event] = of("device.config_read")  # once an hour
        assert (event.actor, event.user_id) == ("user:staff", alice.user.pk)
        assert event.device_id == sensor.id

    def test_so_is_who_does_in_the_admin_site(self, alice, staff, sensor):
        assert alice.api.put(f"/devices/{sensor.id}/config", {"config": {}}).status == 200
        site = Client()
        site.force_login(staff.user)
        assert site.get(f"/admin/devices/device/{sensor.id}/configuration/").status_code == 200
        assert [event.actor for event in of("device.config_read")] == ["user:staff"]


def test_an_export_of_the_event_log_is_an_event(staff):
    site = Client()
    site.force_login(staff.user)
    answer = site.get("/admin/events/eventlog/export/?format=ndjson&start_time=-2h")
    assert b"".join(answer)
    [event] = of("events.exported")
    assert event.payload == {"format": "ndjson", "start_time": "-2h", "end_time": None}
    assert event.actor == "user:staff"
