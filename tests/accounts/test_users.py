"""Users over HTTP: their own profile, and what staff may do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from accounts.models import Token, User
from devices import receivers
from devices.models import Device
from devices.signals import devices_deleted
from events.models import EventLog
from iotflow.lib.errors import StoreAway
from tests.api import Api
from tests.races import at_once, during


def path(who, rest: str = "") -> str:
    return f"/users/{who.user.user_id}{rest}"


def test_staff_list_and_search_users(staff, alice, bob):
    answer = staff.api.get("/users", limit=2)
    assert [user["username"] for user in answer.json["users"]] == ["staff", "alice"]
    assert answer.json["meta"] == {"limit": 2, "offset": 0, "returned": 2, "total": 3}
    found = staff.api.get("/users", search="BOB@").json["users"]
    assert [user["username"] for user in found] == ["bob"]
    assert alice.api.get("/users").status == 403


def test_a_profile_is_ones_own_or_for_staff(alice, bob, staff, sensor):
    assert alice.api.get(path(alice)).json["user"]["email"] == "alice@example.org"
    assert staff.api.get(path(alice)).status == 200
    assert bob.api.get(path(alice)).status == 404
    assert sensor.api.get(path(alice)).status == 401


def test_changing_fields_leaves_the_rest(alice):
    answer = alice.api.put(path(alice), {"email": "new@example.org"})
    assert answer.status == 200
    user = User.objects.get(pk=alice.user.pk)
    assert (user.username, user.email) == ("alice", "new@example.org")
    assert user.check_password("swordfish 17")
    assert EventLog.objects.get(kind="user.changed").actor == "user:alice"


def test_a_changed_password_ends_the_other_tokens_and_not_this_one(alice, anybody):
    other = Api(token=Token.objects.create(alice.user)[1])
    assert alice.api.put(path(alice), {"password": "mackerel 23"}).status == 200
    assert other.get("/devices").status == 401
    assert alice.api.get("/devices").status == 200
    login = {"username": "alice", "password": "mackerel 23"}
    assert anybody.post("/auth/login", login).status == 200
    assert all("mackerel" not in str(event) for event in EventLog.objects.values())


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({}, 400, {"body"}),
        ({"password": "short"}, 400, {"password"}),
        ({"password": "alice"}, 400, {"password"}),
        ({"username": "a b", "email": "x"}, 400, {"username", "email"}),
        ({"username": "BOB"}, 409, {"username"}),
        ({"email": "bob@example.org"}, 409, {"email"}),
    ],
)
def test_bad_changes_are_named_and_change_nothing(alice, bob, body, status, fields):
    answer = alice.api.put(path(alice), body)
    assert answer.status == status
    assert answer.fields() == fields
    user = User.objects.get(pk=alice.user.pk)
    assert (user.username, user.email) == ("alice", "alice@example.org")


def test_nobody_makes_themselves_staff(alice):
    alice.api.put(path(alice), {"email": "a@example.org", "is_staff": True, "is_admin": True})
    assert not User.objects.get(pk=alice.user.pk).is_staff


def test_deactivating_acts_at_once_and_is_undone(alice, bob, staff, sensor):
    assert sensor.api.post("/devices/heartbeat").status == 200
    assert bob.api.patch(path(alice, "/deactivate")).status == 403
    assert staff.api.patch(path(alice, "/deactivate")).json["user"]["is_active"] is False
    assert alice.api.get("/devices").status == 401
    assert sensor.api.post("/devices/heartbeat").status == 403
    assert staff.api.patch(path(alice, "/activate")).json["user"]["is_active"] is True
    assert sensor.api.post("/devices/heartbeat").status == 200


def test_deleting_takes_everything_and_is_for_staff(alice, bob, staff, sensor):
    assert alice.api.delete(path(alice)).status == 403
    assert bob.api.delete(path(alice)).status == 403
    assert staff.api.delete(path(alice)).status == 200
    assert staff.api.get(path(alice)).status == 404
    assert not Device.objects.exists()
    assert sensor.api.get("/devices/status").status == 401
    assert EventLog.objects.get(kind="user.deleted").actor == "user:staff"


@pytest.mark.parametrize("user_id", ["1", "x", "6f9619ff-8b86-4011-b42d-00c04fc964ff"])
def test_a_user_that_is_not_there_is_404(staff, user_id):
    assert staff.api.get(f"/users/{user_id}").status == 404


@pytest.mark.parametrize(("verb", "rest"), [("delete", ""), ("patch", "/deactivate")])
def test_staff_do_not_lock_themselves_out(staff, make_user, verb, rest):
    answer = getattr(staff.api, verb)(path(staff, rest))
    assert answer.status == 409
    assert "yourself" in answer.json["message"]
    assert staff.api.get("/users").status == 200
    other = make_user("other", is_staff=True, is_superuser=True)
    assert getattr(other.api, verb)(path(staff, rest)).status == 200
    assert staff.api.get("/users").status == 401


def test_staff_do_not_become_superusers_by_way_of_one(staff, make_user):
    helper = make_user("helper", is_staff=True)
    answers = [
        helper.api.put(path(staff), {"password": "mackerel 23"}),
        helper.api.patch(path(staff, "/deactivate")),
        helper.api.delete(path(staff)),
    ]
    assert {answer.status for answer in answers} == {403}
    assert helper.api.get(path(staff)).status == 200
    assert helper.api.put(path(helper), {"email": "new@example.org"}).status == 200
    assert User.objects.get(pk=staff.user.pk).check_password("swordfish 17")


def test_a_password_that_staff_set_ends_the_users_tokens_and_not_theirs(alice, staff):
    assert staff.api.put(path(alice), {"password": "mackerel 23"}).status == 200
    assert alice.api.get("/devices").status == 401
    assert staff.api.get("/devices").status == 200


@pytest.mark.parametrize("what", ["/devices", "/groups"])
def test_what_a_user_makes_who_is_deleted_meanwhile_is_404(alice, staff, what):
    answer = during(
        lambda: staff.api.delete(path(alice)), lambda: alice.api.post(what, {"name": "new"})
    )
    assert answer.status == 404
    assert alice.api.get("/devices").status == 401


@contextmanager
def told_of_each_part(look: Callable[[int], None]) -> Iterator[None]:
    """`look` is given how many devices go, in each transaction that deletes some."""

    def receive(device_ids: list[int], **kwargs: object) -> None:
        look(len(device_ids))

    devices_deleted.connect(receive)
    try:
        yield
    finally:
        devices_deleted.disconnect(receive)


class TestDeletingInParts:
    """The locks of many devices are not held at once: others write meanwhile."""

    @pytest.fixture(autouse=True)
    def sensors(self, monkeypatch, alice, make_device):
        monkeypatch.setattr(receivers, "PART", 2)
        return [make_device(alice) for _ in range(5)]

    def test_no_transaction_deletes_more_than_a_part(self, alice, staff):
        parts: list[int] = []
        with told_of_each_part(parts.append):
            assert staff.api.delete(path(alice)).status == 200
        assert parts == [2, 2, 1]
        assert EventLog.objects.filter(kind="device.deleted").count() == 5
        [event] = EventLog.objects.filter(kind="user.deleted")
        assert event.payload == {"devices": 5, "device_groups": 0, "tokens": 1}

    def test_one_that_breaks_off_refuses_the_user_and_is_begun_again(self, alice, staff, sensors):
        parts: list[int] = []

        def fail(size: int) -> None:
            parts.append(size)
            if len(parts) == 2:
                raise StoreAway("The database")

        with told_of_each_part(fail):
            assert staff.api.delete(path(alice)).status == 503
        assert staff.api.get(path(alice)).json["user"]["is_active"] is False
        assert Device.objects.count() == 3
        assert alice.api.post("/devices", {"name": "new"}).status == 401
        statuses = [device.api.post("/devices/heartbeat").status for device in sensors]
        assert statuses == [401, 401, 403, 403, 403]
        assert not EventLog.objects.filter(kind="user.deleted").exists()
        assert staff.api.delete(path(alice)).status == 200
        assert not Device.objects.exists()
        assert EventLog.objects.filter(kind="device.deleted").count() == 5
        assert EventLog.objects.filter(kind="user.deleted").count() == 1

    def test_two_at_once_are_told_once(self, alice, staff):
        statuses = at_once(3, lambda: staff.api.delete(path(alice)).status)
        assert sorted(statuses) == [200, 404, 404]
        assert EventLog.objects.filter(kind="device.deleted").count() == 5
        assert EventLog.objects.filter(kind="user.deleted").count() == 1

    def test_whoever_deactivates_meanwhile_waits_and_finds_nobody(self, alice, staff):
        answer = during(
            lambda: staff.api.delete(path(alice)),
            lambda: staff.api.patch(path(alice, "/deactivate")),
        )
        assert answer.status == 404

    @pytest.mark.real
    def test_all_of_it_at_once_is_no_deadlock(self, alice, staff):
        """Whoever locks begins with the user, then takes devices, then keys, by their ids."""
        asks = [
            lambda: staff.api.delete(path(alice)).status,
            lambda: staff.api.patch(path(alice, "/deactivate")).status,
            lambda: staff.api.patch(path(alice, "/activate")).status,
        ]
        turns = iter(asks * 3)
        assert set(at_once(9, lambda: next(turns)())) <= {200, 404}
        assert staff.api.get(path(alice)).status == 404
        assert EventLog.objects.filter(kind="user.deleted").count() == 1
