"""Keys over HTTP: several per device, rotation with and without a grace, validity, revocation."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices import keys
from devices.models import ApiKey
from events.models import EventLog
from tests.api import Api

OLD_PEPPER = "tests-" + "o" * 40


def new_key(who, device, **fields):
    return who.api.post(f"/devices/{device.id}/keys", fields)


def listed(who, device) -> list[dict]:
    return who.api.get(f"/devices/{device.id}/keys").json["keys"]


def rotate(who, device, **fields):
    return who.api.post(f"/devices/{device.id}/rotate-key", fields)


def works(key: str) -> bool:
    answer = Api(key=key).get("/devices/status")
    assert answer.status in (200, 401)
    return answer.status == 200


def from_now(**span) -> str:
    return (timezone.now() + timedelta(**span)).isoformat()


class TestRotating:
    def test_the_new_key_is_shown_once_and_the_old_one_ends(self, alice, sensor):
        assert works(sensor.key)
        answer = rotate(alice, sensor, label="spring")
        assert answer.status == 200
        assert not works(sensor.key)
        assert works(answer.json["api_key"])
        new, old = listed(alice, sensor)
        assert (new["id"], new["label"], new["state"]) == (
            answer.json["key"]["id"],
            "spring",
            "valid",
        )
        assert old["state"] == "revoked"
        assert answer.json["api_key"] not in str([new, old])
        event = EventLog.objects.get(kind="device.key_rotated")
        assert (event.actor, event.device_id) == ("user:alice", sensor.id)
        assert all(answer.json["api_key"] not in str(row) for row in EventLog.objects.values())

    @pytest.mark.parametrize("body", [None, {}])
    def test_nothing_has_to_be_said(self, staff, sensor, body):
        answer = staff.api.post(f"/devices/{sensor.id}/rotate-key", body)
        assert answer.status == 200
        assert not works(sensor.key)

    def test_with_a_grace_the_old_key_works_until_it_ends(self, alice, sensor):
        assert works(sensor.key)
        secret = rotate(alice, sensor, grace_seconds=1).json["api_key"]
        assert works(sensor.key)
        assert works(secret)
        time.sleep(1.1)
        assert not works(sensor.key)
        assert works(secret)
        assert [key["state"] for key in listed(alice, sensor)] == ["valid", "expired"]

    def test_a_grace_lengthens_nothing_and_a_rotation_without_one_ends_it(self, alice, sensor):
        ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=60))
        before = listed(alice, sensor)[0]["expires_at"]
        second = rotate(alice, sensor, grace_seconds=3600).json["api_key"]
        assert listed(alice, sensor)[1]["expires_at"] == before
        rotate(alice, sensor)
        assert not works(sensor.key)
        assert not works(second)

    def test_a_key_that_waits_for_its_time_ends_too(self, alice, sensor):
        new_key(alice, sensor, valid_from=from_now(hours=1))
        rotate(alice, sensor)
        assert [key["state"] for key in listed(alice, sensor)] == ["valid", "revoked", "revoked"]

    def test_the_new_key_may_have_an_end(self, alice, sensor):
        answer = rotate(alice, sensor, expires_at=from_now(seconds=1))
        assert works(answer.json["api_key"])
        time.sleep(1.1)
        assert not works(answer.json["api_key"])

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            ({"grace_seconds": -1, "label": "x" * 101}, {"grace_seconds", "label"}),
            ({"grace_seconds": 604_801}, {"grace_seconds"}),
            ({"grace_seconds": 10**30}, {"grace_seconds"}),
            ({"grace_seconds": True, "label": ["x"]}, {"grace_seconds", "label"}),
            ({"grace_seconds": None, "expires_at": "soon"}, {"grace_seconds", "expires_at"}),
            ({"expires_at": "2001-01-01T00:00:00Z"}, {"expires_at"}),
            ({"expires_at": "9999-12-31T23:59:59-12:00"}, {"expires_at"}),
            ({"label": "a\0b"}, {"label"}),
            ([], {"body"}),
        ],
    )
    def test_a_bad_rotation_is_named_and_ends_nothing(self, alice, sensor, body, wrong):
        answer = alice.api.post(f"/devices/{sensor.id}/rotate-key", body)
        assert (answer.status, answer.fields()) == (400, wrong)
        assert works(sensor.key)

    def test_keys_in_their_grace_count(self, alice, sensor, settings):
        settings.KEYS_PER_DEVICE = 2
        assert rotate(alice, sensor, grace_seconds=60).status == 200
        assert rotate(alice, sensor, grace_seconds=60).status == 409
        assert works(sensor.key)
        assert rotate(alice, sensor).status == 200

    def test_it_is_for_the_owner_and_staff(self, bob, sensor, anybody):
        path = f"/devices/{sensor.id}/rotate-key"
        assert bob.api.post(path).status == 404
        assert sensor.api.post(path).status == 401
        assert anybody.post(path).status == 401
        assert works(sensor.key)


class TestSeveralKeys:
    def test_each_opens_the_door_and_says_when_it_was_used(
        self, alice, sensor, django_assert_num_queries
    ):
        answer = new_key(alice, sensor, label="gateway")
        assert answer.status == 201
        secret = answer.json["api_key"]
        assert works(sensor.key)
        assert works(secret)
        Api(key=secret).post("/telemetry", {"data": {"a": 1}})
        # The token with its user; the device; how many keys; the keys. Their last use is one
        # round trip to Redis.
        with django_assert_num_queries(4):
            new, old = listed(alice, sensor)
        assert set(new) == {
            *("id", "device_id", "label", "prefix", "state"),
            *("valid_from", "expires_at", "revoked_at", "created_at", "last_used"),
        }
        assert new["label"] == "gateway"
        assert secret.startswith(new["prefix"])
        assert new["last_used"] is not None
        assert old["last_used"] is None
        assert EventLog.objects.get(kind="device.key_created").payload["label"] == "gateway"
        assert all(secret not in str(row) for row in EventLog.objects.values())

    def test_a_key_is_not_valid_before_its_time_and_periods_overlap(self, alice, sensor):
        answer = new_key(
            alice, sensor, valid_from=from_now(seconds=1), expires_at=from_now(hours=1)
        )
        secret = answer.json["api_key"]
        assert answer.json["key"]["state"] == "pending"
        assert not works(secret)
        time.sleep(1.1)
        assert works(secret)
        assert works(sensor.key)
        assert [key["state"] for key in listed(alice, sensor)] == ["valid", "valid"]

    def test_a_time_without_a_zone_is_utc(self, alice, sensor, settings):
        settings.TIME_ZONE = "America/New_York"
        answer = new_key(alice, sensor, expires_at="2999-01-01T00:00:00")
        assert answer.json["key"]["expires_at"] == "2999-01-01T00:00:00.000Z"

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            (
                {"label": {}, "valid_from": 5, "expires_at": []},
                {"label", "valid_from", "expires_at"},
            ),
            ({"expires_at": "2001-01-01"}, {"expires_at"}),
            (
                {"valid_from": "2999-01-02T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"},
                {"expires_at"},
            ),
            ({"label": "\ud800"}, {"label"}),
            ("x", {"body"}),
        ],
    )
    def test_a_bad_key_is_named_and_not_made(self, alice, sensor, body, wrong):
        answer = alice.api.post(f"/devices/{sensor.id}/keys", body)
        assert (answer.status, answer.fields()) == (400, wrong)
        assert ApiKey.objects.count() == 1

    def test_there_is_a_bound_and_ended_keys_do_not_count(self, alice, sensor, settings):
        settings.KEYS_PER_DEVICE = 3
        first = new_key(alice, sensor).json["key"]["id"]
        assert new_key(alice, sensor, valid_from=from_now(hours=1)).status == 201
        assert new_key(alice, sensor).status == 409
        assert alice.api.delete(f"/devices/{sensor.id}/keys/{first}").status == 200
        assert new_key(alice, sensor).status == 201
        assert new_key(alice, sensor).status == 409

    def test_the_bound_holds_when_many_ask_at_once(self, alice, sensor, settings):
        settings.KEYS_PER_DEVICE = 4

        def ask(_: int) -> int:
            try:
                return new_key(alice, sensor).status
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(ask, range(8)))
        assert sorted(statuses) == [201] * 3 + [409] * 5

    def test_a_revoked_key_ends_and_the_others_go_on(self, alice, sensor):
        answer = new_key(alice, sensor)
        secret, key_id = answer.json["api_key"], answer.json["key"]["id"]
        assert works(secret)
        path = f"/devices/{sensor.id}/keys/{key_id}"
        for _ in range(2):
            assert alice.api.delete(path).status == 200
        assert not works(secret)
        assert works(sensor.key)
        assert listed(alice, sensor)[0]["state"] == "revoked"
        assert EventLog.objects.get(kind="device.key_revoked").payload["key_id"] == key_id

    def test_even_the_last_one_may_be_revoked(self, alice, sensor):
        [only] = listed(alice, sensor)
        assert alice.api.delete(f"/devices/{sensor.id}/keys/{only['id']}").status == 200
        assert not works(sensor.key)
        assert works(new_key(alice, sensor).json["api_key"])

    def test_the_list_is_paged(self, alice, sensor):
        new_key(alice, sensor, label="second")
        page = alice.api.get(f"/devices/{sensor.id}/keys", limit=1).json
        assert [key["label"] for key in page["keys"]] == ["second"]
        assert page["meta"] == {"limit": 1, "offset": 0, "returned": 1, "total": 2}

    def test_somebody_elses_keys_are_not_there(self, alice, bob, sensor, make_device):
        [key] = listed(alice, sensor)
        his = make_device(bob)
        assert bob.api.get(f"/devices/{sensor.id}/keys").status == 404
        assert new_key(bob, sensor).status == 404
        assert bob.api.delete(f"/devices/{sensor.id}/keys/{key['id']}").status == 404
        assert bob.api.delete(f"/devices/{his.id}/keys/{key['id']}").status == 404
        assert bob.api.delete(f"/devices/{his.id}/keys/{'9' * 30}").status == 404
        assert sensor.api.get(f"/devices/{sensor.id}/keys").status == 401
        assert works(sensor.key)


class TestPepper:
    @pytest.fixture
    def rotated(self, sensor, settings):
        """The sensor's key, made under a pepper that is a former one now."""
        ApiKey.objects.update(
            digest=keys.digest(sensor.key, OLD_PEPPER), pepper=keys.fingerprint(OLD_PEPPER)
        )
        settings.API_KEY_PEPPERS_OLD = ["tests-" + "x" * 40, OLD_PEPPER]
        return sensor

    def test_a_key_under_a_former_pepper_works_and_moves(self, rotated, settings):
        assert works(rotated.key)
        stored = ApiKey.objects.get()
        assert stored.digest == keys.digest(rotated.key, settings.API_KEY_PEPPER)
        assert stored.pepper == keys.fingerprint(settings.API_KEY_PEPPER)
        settings.API_KEY_PEPPERS_OLD = []
        assert works(rotated.key)

    def test_a_key_that_has_ended_does_not_move(self, rotated):
        ApiKey.objects.update(revoked_at=timezone.now())
        assert not works(rotated.key)
        assert ApiKey.objects.get().digest == keys.digest(rotated.key, OLD_PEPPER)

    def test_a_pepper_that_is_not_listed_opens_nothing(self, rotated, settings):
        settings.API_KEY_PEPPERS_OLD = []
        assert not works(rotated.key)

    def test_an_unknown_key_costs_one_query_and_one_more_with_former_peppers(self, settings):
        assert not works(keys.make())  # the first of a minute is an event, which costs more
        assert self.queries_of_an_unknown_key() == 1
        settings.API_KEY_PEPPERS_OLD = [OLD_PEPPER, "tests-" + "x" * 40]
        assert self.queries_of_an_unknown_key() == 2

    def queries_of_an_unknown_key(self) -> int:
        """Of the table of keys: the cache now and then asks another one."""
        with CaptureQueriesContext(connection) as queries:
            assert not works(keys.make())
        return sum("devices_apikey" in query["sql"] for query in queries)

    def test_a_command_counts_the_keys_by_pepper(self, alice, rotated, settings, capsys):
        for _ in range(2):
            new_key(alice, rotated)
        call_command("key_peppers")
        lines = sorted(line.split() for line in capsys.readouterr().out.splitlines())
        assert lines == sorted(
            [
                [keys.fingerprint(OLD_PEPPER), "1", "former"],
                [keys.fingerprint(settings.API_KEY_PEPPER), "2", "present"],
            ]
        )
        works(rotated.key)
        call_command("key_peppers")
        assert capsys.readouterr().out.split()[1:] == ["3", "present"]

    def test_a_fingerprint_is_short_and_not_the_digest_of_the_pepper(self):
        assert len(keys.fingerprint(OLD_PEPPER)) == 8
        assert keys.fingerprint(OLD_PEPPER) not in keys.digest("", OLD_PEPPER)
