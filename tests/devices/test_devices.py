"""Devices over HTTP: registering, their own state, what others may see."""

import pytest

from devices.models import ApiKey, Device
from events.models import EventLog
from tests.races import during


def register(who, **fields):
    return who.api.post("/devices/register", {"name": "Sensor 001", **fields})


def kinds() -> list[str]:
    return sorted(EventLog.objects.values_list("kind", flat=True))


class TestRegistering:
    def test_a_device_is_active_and_its_key_works_at_once(self, alice):
        from tests.api import Api

        answer = register(
            alice,
            device_type="thermometer",
            description="Hall",
            location="Room 1",
            firmware_version="1.2",
            hardware_version="B",
        )
        assert answer.status == 201
        device = answer.json["device"]
        assert device["status"] == "active"
        assert device["device_type"] == "thermometer"
        assert (device["is_online"], device["last_seen"]) == (False, None)
        api = Api(key=device["api_key"])
        assert api.post("/telemetry", {"data": {"a": 1}}).status == 201
        assert kinds() == ["device.registered", "telemetry.submitted"]

    def test_the_key_is_kept_as_a_digest_only(self, alice):
        key = register(alice).json["device"]["api_key"]
        stored = ApiKey.objects.get()
        assert len(key) == 48
        assert key.startswith(stored.prefix)
        assert key not in stored.digest
        assert all(key not in str(event) for event in EventLog.objects.values())

    def test_a_name_is_taken_once_per_owner(self, alice, bob):
        assert register(alice).status == 201
        answer = register(alice)
        assert answer.status == 409
        assert answer.fields() == {"name"}
        assert register(bob).status == 201

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"name": ""}, {"name"}),
            ({"name": None}, {"name"}),
            ({"name": "x" * 101}, {"name"}),
            ({"name": "a\0b"}, {"name"}),
            ({"name": "\ud800"}, {"name"}),
            ({"device_type": ["x"], "location": {}}, {"device_type", "location"}),
        ],
    )
    def test_bad_fields_are_named(self, alice, fields, wrong):
        answer = register(alice, **fields)
        assert answer.status == 400
        assert answer.fields() == wrong
        assert not Device.objects.exists()

    def test_only_users_register_devices(self, anybody, sensor):
        body = {"name": "x"}
        assert anybody.post("/devices/register", body).status == 401
        assert sensor.api.post("/devices/register", body).status == 401


class TestItsOwnState:
    def test_status_heartbeat_status(self, sensor):
        before = sensor.api.get("/devices/status").json
        assert before == {
            "device_id": sensor.id,
            "name": "sensor",
            "device_type": "sensor",
            "status": "active",
            "is_online": False,
            "last_seen": None,
        }
        beat = sensor.api.post("/devices/heartbeat")
        assert beat.status == 200
        assert beat.json["device_id"] == sensor.id
        after = sensor.api.get("/devices/status").json
        assert after["is_online"]
        assert after["last_seen"] is not None

    def test_submitting_is_being_there(self, sensor, alice):
        sensor.api.post("/telemetry", {"data": {"a": 1}, "timestamp": "2001-01-01"})
        answer = alice.api.get(f"/devices/{sensor.id}/status")
        assert answer.json["device"]["is_online"]
        assert answer.json["device"]["last_seen"] > "2026"

    def test_reporting_versions(self, sensor):
        answer = sensor.api.put(
            "/devices/config", {"firmware_version": "2.0", "status": "maintenance"}
        )
        assert answer.status == 200
        assert answer.json["device"]["firmware_version"] == "2.0"
        assert sensor.api.get("/devices/status").json["status"] == "maintenance"
        assert kinds() == ["device.changed", "device.registered", "device.status_changed"]

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            ({}, {"body"}),
            ({"status": "inactive"}, {"status"}),
            ({"status": "\ud800"}, {"status"}),
            ({"status": "broken", "location": 1.5, "hardware_version": []}, {"status"}),
        ],
    )
    def test_a_bad_report_is_named(self, sensor, body, wrong):
        answer = sensor.api.put("/devices/config", body)
        assert answer.status == 400
        assert wrong <= answer.fields()

    def test_credentials_say_which_key_but_not_the_key(self, sensor):
        sensor.api.post("/telemetry", {"data": {"a": 1}})
        answer = sensor.api.get("/devices/credentials")
        assert answer.status == 200
        assert answer.json["device_id"] == sensor.id
        assert answer.json["key_prefix"] == sensor.key[:11]
        assert answer.json["last_used"] is not None
        assert sensor.key not in answer.text


class TestWhoSeesWhat:
    def test_ones_own_devices_and_all_of_them_for_staff(self, alice, bob, staff, make_device):
        mine, his = make_device(alice), make_device(bob)
        for who, seen in ((alice, {mine.id}), (bob, {his.id}), (staff, {mine.id, his.id})):
            answer = who.api.get("/devices")
            assert {device["id"] for device in answer.json["devices"]} == seen
            assert answer.json["meta"]["total"] == len(seen)

    def test_somebody_elses_device_is_not_there(self, bob, sensor):
        for path in (f"/devices/{sensor.id}/status", f"/devices/{sensor.id}/groups"):
            answer = bob.api.get(path)
            assert answer.status == 404
            assert answer.json["error"] == "not_found"

    def test_filters_search_and_pages(self, alice, make_device):
        for n in range(5):
            make_device(alice, f"hall {n}", device_type="a" if n % 2 else "b")
        found = alice.api.get("/devices", device_type="a", search="HALL", limit=1, offset=1).json
        assert [device["name"] for device in found["devices"]] == ["hall 3"]
        assert found["meta"] == {"limit": 1, "offset": 1, "returned": 1, "total": 2}

    @pytest.mark.parametrize(
        ("query", "wrong"),
        [
            ({"status": "gone"}, "status"),
            ({"limit": 1001}, "limit"),
            ({"offset": -1}, "offset"),
            ({"offset": "--1"}, "offset"),
            ({"limit": "²"}, "limit"),
        ],
    )
    def test_a_bad_query_is_named(self, alice, query, wrong):
        answer = alice.api.get("/devices", **query)
        assert answer.status == 400
        assert answer.fields() == {wrong}

    @pytest.mark.parametrize(
        "path",
        ["/admin/devices/1/status", "/admin/devices", "/admin/stats", "/admin/anything/else"],
    )
    def test_admin_paths_refuse_whoever_is_not_staff(self, path, alice, sensor, anybody):
        assert anybody.put(path, {"status": "inactive"}).status == 401
        assert sensor.api.put(path, {"status": "inactive"}).status == 401
        assert alice.api.put(path, {"status": "inactive"}).status == 403


class TestSwitchingOff:
    """Acts on the next request, caches included."""

    def writes(self, device) -> set[int]:
        return {
            device.api.post("/telemetry", {"data": {"a": 1}}).status,
            device.api.post("/devices/heartbeat").status,
            device.api.put("/devices/config", {"location": "x"}).status,
        }

    def test_an_inactive_devices_writes_are_403_and_its_reads_are_not(self, sensor, staff):
        assert self.writes(sensor) == {201, 200}
        path = f"/admin/devices/{sensor.id}/status"
        assert staff.api.put(path, {"status": "inactive"}).status == 200
        assert self.writes(sensor) == {403}
        assert sensor.api.get("/devices/status").json["status"] == "inactive"
        staff.api.put(path, {"status": "active"})
        assert self.writes(sensor) == {201, 200}

    def test_a_deactivated_owners_devices_are_403(self, sensor, alice):
        from accounts.services import set_active

        assert self.writes(sensor) == {201, 200}
        set_active(users=[alice.user], active=False, actor=None)
        assert self.writes(sensor) == {403}
        set_active(users=[alice.user], active=True, actor=None)
        assert self.writes(sensor) == {201, 200}

    def test_a_rotated_key_is_401_and_the_new_one_works(self, sensor):
        from devices.services import rotate_key
        from tests.api import Api

        assert self.writes(sensor) == {201, 200}
        _, secret = rotate_key(device=sensor.device, actor="test")
        assert sensor.api.get("/devices/status").status == 401
        assert Api(key=secret).get("/devices/status").status == 200

    def test_a_deleted_devices_key_is_401(self, sensor):
        from devices.services import delete_devices

        assert self.writes(sensor) == {201, 200}
        delete_devices(devices=[sensor.device], actor="test")
        assert sensor.api.get("/devices/status").status == 401

    def test_an_expired_key_is_401(self, sensor):
        from datetime import timedelta

        from django.utils import timezone

        ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=0.5))
        assert sensor.api.get("/devices/status").status == 200
        import time

        time.sleep(0.6)
        assert sensor.api.get("/devices/status").status == 401

    def test_a_device_does_not_switch_itself_on_again(self, sensor, alice):
        """It said that it is active just before its owner's change was committed."""
        sensor.api.put("/devices/config", {"status": "maintenance"})
        answer = during(
            lambda: alice.api.put(f"/devices/{sensor.id}", {"status": "inactive"}),
            lambda: sensor.api.put("/devices/config", {"status": "active", "location": "x"}),
        )
        assert answer.status == 403
        device = Device.objects.get(pk=sensor.id)
        assert (device.status, device.location) == ("inactive", "")
        newest = EventLog.objects.filter(kind="device.status_changed").order_by("time").last()
        assert newest.payload == {"before": "maintenance", "after": "inactive"}

    def test_two_changes_at_once_are_both_told_as_they_were(self, sensor, alice):
        path = f"/devices/{sensor.id}"
        answer = during(
            lambda: alice.api.put(path, {"location": "Hall", "status": "maintenance"}),
            lambda: alice.api.put(path, {"location": "Yard", "status": "inactive"}),
        )
        assert answer.json["device"]["status"] == "inactive"
        newest = EventLog.objects.filter(kind="device.status_changed").order_by("time").last()
        assert newest.payload == {"before": "maintenance", "after": "inactive"}
        newest = EventLog.objects.filter(kind="device.changed").order_by("time").last()
        assert newest.payload == {"changes": {"location": ["Hall", "Yard"]}}

    def test_a_change_of_a_device_that_is_deleted_meanwhile_is_404(self, sensor, alice):
        path = f"/devices/{sensor.id}"
        answer = during(
            lambda: alice.api.delete(path), lambda: alice.api.put(path, {"location": "x"})
        )
        assert answer.status == 404

    @pytest.mark.parametrize("body", [{}, {"status": "off"}, {"status": None}])
    def test_a_bad_status_is_named(self, sensor, staff, body):
        answer = staff.api.put(f"/admin/devices/{sensor.id}/status", body)
        assert answer.status == 400
        assert answer.fields() == {"status"}


def test_deleting_a_user_takes_devices_keys_and_telemetry(sensor, alice):
    from datetime import timedelta

    from django.utils import timezone

    from telemetry import deleting
    from telemetry.models import Erasure
    from telemetry.readings import HistoryQuery
    from telemetry.stores import telemetry_store

    sensor.api.post("/telemetry", {"data": {"a": 1}})
    alice.user.delete()
    assert sensor.api.get("/devices/status").status == 401
    deleting.erase_deleted()
    assert Erasure.objects.exists(), "what was let in before may still be under way"
    Erasure.objects.update(requested_at=timezone.now() - timedelta(minutes=1))
    assert deleting.erase_deleted() is False
    assert not telemetry_store().history(HistoryQuery(sensor.id, 0, 2**42, 10)).readings
    assert "device.erased" in kinds()


class TestQueryCounts:
    def test_lists_cost_the_same_for_any_number_of_devices(
        self, alice, make_device, django_assert_num_queries
    ):
        for _ in range(7):
            make_device(alice)
        # The token with its user; the number of devices; the devices. Presence is one round
        # trip to Redis.
        with django_assert_num_queries(3):
            alice.api.get("/devices")


class TestDevicesOfAUser:
    def test_ones_own_or_anybodys_for_staff(self, alice, bob, staff, sensor):
        path = f"/devices/user/{alice.user.user_id}"
        for who in (alice, staff):
            answer = who.api.get(path, search="sens")
            assert answer.status == 200
            assert answer.json["username"] == "alice"
            assert answer.json["total_devices"] == 1
            assert [device["id"] for device in answer.json["devices"]] == [sensor.id]
            assert answer.json["meta"]["total"] == 1
        assert bob.api.get(path).status == 404


class TestAdmin:
    def test_all_devices_and_their_states(self, alice, bob, staff, make_device):
        one, two = make_device(alice), make_device(bob, device_type="valve")
        two.api.post("/devices/heartbeat")
        listed = staff.api.get("/admin/devices").json
        assert [device["id"] for device in listed["devices"]] == [one.id, two.id]
        states = staff.api.get("/admin/devices/statuses", device_type="valve").json["devices"]
        assert [(s["id"], s["status"], s["is_online"]) for s in states] == [
            (two.id, "active", True)
        ]

    def test_one_is_read_changed_and_deleted(self, staff, sensor):
        path = f"/admin/devices/{sensor.id}"
        assert staff.api.get(path).json["device"]["name"] == "sensor"
        changed = staff.api.put(path, {"name": "renamed", "status": "maintenance"})
        assert changed.json["device"]["status"] == "maintenance"
        assert sensor.api.get("/devices/status").json["name"] == "renamed"
        assert staff.api.put(path, {"status": "off"}).fields() == {"status"}
        assert staff.api.delete(path).status == 200
        assert sensor.api.get("/devices/status").status == 401
        assert staff.api.get(path).status == 404

    def test_it_is_for_staff(self, alice, sensor):
        for path in ("/admin/devices", "/admin/devices/statuses", f"/admin/devices/{sensor.id}"):
            assert alice.api.get(path).status == 403
            assert sensor.api.get(path).status == 401


def test_nothing_of_many_deleted_devices_stays_in_redis(monkeypatch, alice, make_device):
    from devices import presence, services
    from iotflow.lib.redis import redis

    monkeypatch.setattr(presence, "FORGET_CHUNK", 2)
    devices = [make_device(alice) for _ in range(5)]
    for device in devices:
        device.api.post("/devices/heartbeat")
    services.delete_devices(devices=[device.device for device in devices[:-1]], actor="test")
    with redis() as client:
        assert client.zrange(presence.online_key(), 0, -1) == [b"%d" % devices[-1].id]
        for name in (presence._status_key, presence._last_seen_key):
            there = [client.exists(name(device.id)) for device in devices]
            assert there == [0, 0, 0, 0, 1]
