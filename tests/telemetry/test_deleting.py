"""Deleting a range of a device's telemetry, and what a deleted device leaves."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from devices.models import Device
from events.models import DeviceConfig, EventLog
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import now_ms
from telemetry import deleting
from telemetry.models import Erasure, RangeDeletion
from telemetry.stores import telemetry_store

HOUR = 3_600_000


@pytest.fixture
def told(sensor):
    """A reading an hour, the last 50 minutes ago; `b` in the first half only."""
    now = now_ms()
    for n in range(10):
        data = {"a": n, "b": n} if n < 5 else {"a": n}
        sensor.api.post("/telemetry", {"data": data, "timestamp": now - (10 - n) * HOUR + 600_000})
    return sensor


def left(device) -> list[int]:
    found = device.api.get(f"/telemetry/{device.id}", order="asc").json["data"]
    return [reading["measurements"]["a"] for reading in found]


def latest(device) -> dict:
    return device.api.get(f"/telemetry/{device.id}/latest").json["latest_data"]


def delete(device, api=None, **body):
    return (api or device.api).delete(f"/telemetry/{device.id}", body or None)


def later() -> None:
    """As if what waits had waited long enough."""
    long_ago = timezone.now() - timedelta(minutes=5)
    RangeDeletion.objects.update(requested_at=long_ago)
    Erasure.objects.update(requested_at=long_ago)


def test_a_range_goes_and_the_latest_values_are_those_left(told, alice):
    answer = delete(told, start_time="-3h", stop_time="now")
    assert answer.status == 200
    assert answer.json["device_id"] == told.id
    assert left(told) == list(range(7))
    assert latest(told) == {"a": 6, "b": 4}
    feed = alice.api.get(f"/telemetry/user/{alice.user.user_id}").json["telemetry"]
    assert sorted(e["value"] for e in feed if e["measurement_name"] == "a") == list(range(7))
    [event] = EventLog.objects.filter(kind="telemetry.deleted")
    assert event.actor == f"device:{told.id}"


def test_the_range_may_be_in_the_query(told):
    path = f"/telemetry/{told.id}?start_time=-3h&stop_time=now"
    assert told.api.delete(path).status == 200
    assert left(told) == list(range(7))


def test_again_and_again_with_readings_between(told):
    for _ in range(3):
        assert delete(told, start_time="-3h", stop_time="now").status == 200
        assert latest(told) == {"a": 6, "b": 4}
        told.api.post("/telemetry", {"data": {"a": 70}})
        assert latest(told) == {"a": 70, "b": 4}
    later()
    while deleting.settle_ranges():
        pass
    assert latest(told) == {"a": 70, "b": 4}
    assert not RangeDeletion.objects.exists()


def test_everything_goes_future_dated_too(told):
    told.api.post("/telemetry", {"data": {"c": 1}, "timestamp": now_ms() + 300_000})
    assert delete(told, start_time="0001-01-01", stop_time="9999-12-31").status == 200
    assert left(told) == []
    assert latest(told) == {}


def test_a_late_reading_after_it_is_the_latest(told):
    delete(told, start_time="-100d", stop_time="now")
    told.api.post("/telemetry", {"data": {"a": "late"}, "timestamp": "-5d"})
    assert latest(told) == {"a": "late"}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"start_time", "stop_time"}),
        ({"start_time": "-1h"}, {"stop_time"}),
        ({"stop_time": "now"}, {"start_time"}),
        ({"start_time": "", "stop_time": None}, {"start_time", "stop_time"}),
        ({"start_time": {}, "stop_time": "soon"}, {"start_time", "stop_time"}),
        ({"start_time": "now", "stop_time": "-1h"}, {"start_time"}),
    ],
)
def test_without_a_range_nothing_goes(told, body, wrong):
    answer = delete(told, **body)
    assert answer.status == 400
    assert answer.fields() == wrong
    assert left(told) == list(range(10))


def test_who_may(told, alice, bob, staff, make_device):
    body = {"start_time": "-1h", "stop_time": "now"}
    assert delete(told, bob.api, **body).status == 404
    assert delete(told, make_device(alice).api, **body).status == 404
    assert delete(told, alice.api, **body).status == 200
    assert delete(told, staff.api, **body).status == 200
    alice.api.patch(f"/devices/{told.id}", {"status": "inactive"})
    assert delete(told, **body).status == 403


def test_what_was_under_way_is_settled_later(told):
    """A submission that was let in before keeps the old epoch, and its reading counts."""
    old = Device.objects.get(pk=told.id)
    delete(told, start_time="-3h", stop_time="now")
    from telemetry.backfill import Backfill, Sample

    backfill = Backfill(old)
    backfill._device.refresh_from_db = lambda fields: None  # it was past that line already
    backfill.write([Sample(now_ms(), {"a": 99, "d": 1})])
    deleting.settle_ranges()
    assert RangeDeletion.objects.exists(), "it waits for what is under way"
    later()
    assert deleting.settle_ranges() is False
    assert latest(told) == {"a": 99, "b": 4, "d": 1}


@pytest.mark.real
def test_what_is_far_behind_is_found_through_several_deletions(sensor, settings, monkeypatch):
    from telemetry.stores import cassandra

    monkeypatch.setattr(cassandra, "SEARCH_DAYS", 2)
    settings.HISTORY_SCAN_ROWS = 2
    day = 24 * HOUR
    now = now_ms()
    items = [{"data": {"rare": 1}, "timestamp": now - 30 * day}]
    items += [{"data": {"often": n}, "timestamp": now - n * day} for n in range(2, 29)]
    items += [{"data": {"rare": 2}, "timestamp": now - HOUR}]
    assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
    assert delete(sensor, start_time="-2h", stop_time="now").status == 200
    assert delete(sensor, start_time="-49h", stop_time="-47h").status == 200
    header = Client().get(
        f"/api/v1/telemetry/{sensor.id}/export", headers={"x-api-key": sensor.key}
    )
    assert b"".join(header.streaming_content).startswith(b"timestamp,often,rare")
    later()
    for _ in range(40):
        deleting.settle_ranges()
    assert not RangeDeletion.objects.exists()
    assert latest(sensor) == {"often": 3, "rare": 1}
    epochs = [0, 1, 2]
    places = telemetry_store().latest([(sensor.id, epoch) for epoch in epochs])
    assert [bool(places[sensor.id, epoch]) for epoch in epochs] == [False, False, True]


@pytest.mark.real
def test_what_broke_off_halfway_shows_in_the_latest_values(sensor, settings, monkeypatch):
    settings.INGEST_GROUP = 1
    assert sensor.api.post("/telemetry", {"data": {"a": 0}, "timestamp": "-1h"}).status == 201
    assert latest(sensor) == {"a": 0}
    store, writes = telemetry_store(), []

    def breaks(readings):
        writes.append(readings)
        if len(writes) == 2:
            raise StoreAway("The telemetry store")
        type(store).write(store, readings)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", breaks)
        items = [{"data": {"a": n}, "timestamp": f"-{20 - n}s"} for n in range(3)]
        assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 503
    assert latest(sensor) == {"a": left(sensor)[-1]}


def test_a_store_of_configurations_that_is_away_keeps_no_telemetry(told, monkeypatch):
    from devices.services import delete_devices

    delete_devices(devices=Device.objects.filter(pk=told.id), actor="test")
    later()

    def away(device_id):
        raise StoreAway("MongoDB")

    with monkeypatch.context() as patch:
        patch.setattr(deleting.configs, "count", away)
        with pytest.raises(StoreAway):
            deleting.erase_deleted()
    assert set(telemetry_store().count(told.id, told.device.owner_id, 0).values()) == {0}
    assert deleting.erase_deleted() is False
    [receipt] = EventLog.objects.filter(kind="device.erased")
    assert receipt.payload["rows"]["device_data"] == 15
    assert receipt.payload["rows"]["device_configs"] == 0


def test_a_deleted_device_leaves_nothing_and_a_receipt_says_what_went(told, alice):
    told.api.post("/telemetry", {"data": {"a": 1}, "timestamp": now_ms() + 300_000})
    delete(told, start_time="-1h", stop_time="now")
    alice.api.put(f"/devices/{told.id}/config", {"config": {"rate": 5}})
    from devices.services import delete_devices

    delete_devices(devices=Device.objects.filter(pk=told.id), actor="test")
    assert told.api.get(f"/telemetry/{told.id}").status == 401
    later()
    assert deleting.erase_deleted() is False
    store, place = telemetry_store(), (told.id, told.device.owner_id, 5)
    assert set(store.count(*place).values()) == {0}
    [receipt] = EventLog.objects.filter(kind="device.erased")
    rows = receipt.payload["rows"]
    assert rows["device_data"] == 15
    assert rows["device_configs"] == 1
    assert rows["latest_data"] >= 2
    assert rows["user_data"] >= 10
    assert not RangeDeletion.objects.exists()
    assert not DeviceConfig.objects.exists()
    again = alice.api.post("/devices/register", {"name": "sensor"}).json["device"]
    assert alice.api.get(f"/telemetry/{again['id']}", start_time="2000-01-01").json["data"] == []
    assert alice.api.get(f"/telemetry/{again['id']}/latest").json["latest_data"] == {}


def test_an_erasure_that_breaks_off_is_begun_again_with_the_same_receipt(told, monkeypatch):
    from devices.services import delete_devices

    delete_devices(devices=Device.objects.filter(pk=told.id), actor="test")
    later()
    store = telemetry_store()

    def breaks(*place):
        raise StoreAway("The telemetry store")

    with monkeypatch.context() as patch:
        patch.setattr(store, "erase", breaks)
        with pytest.raises(StoreAway):
            deleting.erase_deleted()
    store.erase(told.id, told.device.owner_id, 0)  # as far as it got
    assert deleting.erase_deleted() is False
    [receipt] = EventLog.objects.filter(kind="device.erased")
    assert receipt.payload["rows"]["device_data"] == 15
