"""A device as a REST resource: made, read, changed and deleted by its owner or staff."""

import pytest

from devices.models import Device
from events.models import EventLog
from tests.api import Api


def kinds() -> list[str]:
    return sorted(EventLog.objects.values_list("kind", flat=True))


def test_posting_to_the_list_registers(alice):
    answer = alice.api.post("/devices", {"name": "Sensor 001", "location": "Hall"})
    assert answer.status == 201
    assert answer.json["device"]["location"] == "Hall"
    api = Api(key=answer.json["device"]["api_key"])
    assert api.post("/telemetry", {"data": {"a": 1}}).status == 201
    assert alice.api.post("/devices", {"name": "Sensor 001"}).fields() == {"name"}


def test_one_is_read_with_its_presence_and_owner(alice, staff, sensor, django_assert_num_queries):
    sensor.api.post("/devices/heartbeat")
    # The token with its user; the device with its owner. Presence comes from Redis.
    with django_assert_num_queries(2):
        device = alice.api.get(f"/devices/{sensor.id}").json["device"]
    assert (device["name"], device["is_online"]) == ("sensor", True)
    assert device["last_seen"].endswith("Z")
    assert device["user_id"] == str(alice.user.user_id)
    assert staff.api.get(f"/devices/{sensor.id}").json["device"]["id"] == sensor.id


@pytest.mark.parametrize("verb", ["put", "patch"])
def test_the_owner_changes_the_fields_sent_and_the_rest_stays(alice, sensor, verb):
    body = {
        "name": "renamed",
        "device_type": "valve",
        "description": "in the cellar",
        "firmware_version": "2",
        "status": "maintenance",
    }
    answer = getattr(alice.api, verb)(f"/devices/{sensor.id}", body)
    assert answer.status == 200
    device = alice.api.get(f"/devices/{sensor.id}").json["device"]
    assert body.items() <= device.items()
    again = getattr(alice.api, verb)(f"/devices/{sensor.id}", {"location": "x"}).json["device"]
    assert body.items() <= again.items()
    changes = [event for event in EventLog.objects.all() if event.kind != "device.registered"]
    assert {event.actor for event in changes} == {"user:alice"}
    assert {"device.changed", "device.status_changed"} <= set(kinds())


def test_an_owner_switches_off_and_on(alice, sensor):
    assert sensor.api.post("/devices/heartbeat").status == 200
    assert alice.api.patch(f"/devices/{sensor.id}", {"status": "inactive"}).status == 200
    assert sensor.api.post("/devices/heartbeat").status == 403
    assert alice.api.patch(f"/devices/{sensor.id}", {"status": "active"}).status == 200
    assert sensor.api.post("/devices/heartbeat").status == 200


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({"name": "", "status": "off"}, 400, {"name", "status"}),
        ({"name": None, "location": "x" * 201}, 400, {"name", "location"}),
        ({"description": "a\0b", "device_type": ["x"]}, 400, {"description", "device_type"}),
        ({"name": "\ud800"}, 400, {"name"}),
        ([], 400, {"body"}),
        ("name", 400, {"body"}),
        ({"name": "other"}, 409, {"name"}),
    ],
)
def test_bad_changes_are_named_and_change_nothing(alice, sensor, make_device, body, status, fields):
    make_device(alice, "other")
    answer = alice.api.put(f"/devices/{sensor.id}", body)
    assert (answer.status, answer.fields()) == (status, fields)
    assert Device.objects.get(pk=sensor.id).name == "sensor"


def test_what_is_not_the_owners_to_change_stays(alice, bob, sensor):
    body = {"owner": bob.user.pk, "user_id": str(bob.user.user_id), "id": 5, "last_seen": None}
    assert alice.api.put(f"/devices/{sensor.id}", body).status == 200
    assert Device.objects.get().owner == alice.user


@pytest.mark.parametrize("who", ["alice", "staff"])
def test_deleting_ends_the_device_and_its_key(who, request, alice, sensor):
    api = request.getfixturevalue(who).api
    assert sensor.api.get("/devices/status").status == 200
    assert api.delete(f"/devices/{sensor.id}").status == 200
    assert sensor.api.get("/devices/status").status == 401
    assert api.get(f"/devices/{sensor.id}").status == 404
    assert api.delete(f"/devices/{sensor.id}").status == 404
    assert EventLog.objects.get(kind="device.deleted").actor == f"user:{who}"


def test_somebody_elses_device_is_not_there(bob, sensor):
    path = f"/devices/{sensor.id}"
    answers = [
        bob.api.get(path),
        bob.api.put(path, {"name": "x"}),
        bob.api.patch(path, {"name": "x"}),
        bob.api.delete(path),
    ]
    assert {answer.status for answer in answers} == {404}
    assert Device.objects.get().name == "sensor"


@pytest.mark.parametrize("device_id", ["0", "99999999", "9" * 30, "x", "-1"])
def test_a_device_that_is_not_there_is_404(alice, device_id):
    assert alice.api.get(f"/devices/{device_id}").status == 404


def test_a_device_does_not_change_devices(sensor, anybody):
    for api in (sensor.api, anybody):
        assert api.put(f"/devices/{sensor.id}", {"name": "x"}).status == 401
        assert api.delete(f"/devices/{sensor.id}").status == 401
