"""Groups over HTTP."""

import pytest

from devices.models import DeviceGroup
from events.models import EventLog
from tests.races import at_once, during


def make_group(who, name="Hall", **fields):
    return who.api.post("/groups", {"name": name, **fields})


@pytest.fixture
def group(alice) -> int:
    return make_group(alice).json["group"]["id"]


def test_a_group_is_made_empty(alice):
    answer = make_group(alice, description="All of them", color="#00ff7F")
    assert answer.status == 201
    group = answer.json["group"]
    assert group["color"] == "#00ff7F"
    assert group["device_count"] == 0


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, {"name"}),
        ({"color": "red"}, {"color"}),
        ({"color": "#12345g", "name": None}, {"color", "name"}),
        ({"description": "\0"}, {"description"}),
    ],
)
def test_bad_fields_are_named(alice, fields, wrong):
    answer = make_group(alice, **fields)
    assert answer.status == 400
    assert answer.fields() == wrong


def test_a_name_is_taken_once_per_owner(alice, bob, group):
    assert make_group(alice).status == 409
    assert make_group(bob).status == 201


def test_devices_come_and_go(alice, group, sensor):
    added = alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
    assert added.status == 201
    assert added.json["membership"]["device_id"] == sensor.id
    again = alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
    assert again.status == 409
    assert again.fields() == {"device_id"}
    listed = alice.api.get(f"/groups/{group}/devices").json
    assert [device["id"] for device in listed["devices"]] == [sensor.id]
    of_device = alice.api.get(f"/devices/{sensor.id}/groups").json
    assert of_device["total_groups"] == 1
    assert of_device["groups"][0]["id"] == group
    assert of_device["groups"][0]["added_at"].endswith("Z")
    assert alice.api.delete(f"/groups/{group}/devices/{sensor.id}").status == 200
    assert alice.api.delete(f"/groups/{group}/devices/{sensor.id}").status == 404
    assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 0


def test_with_devices_where_asked_for(alice, group, sensor):
    alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
    one = alice.api.get(f"/groups/{group}").json["group"]
    assert [device["id"] for device in one["devices"]] == [sensor.id]
    assert "devices" not in alice.api.get(f"/groups/{group}", include_devices="false").json["group"]
    assert "devices" not in alice.api.get("/groups").json["groups"][0]
    listed = alice.api.get("/groups", include_devices="true").json["groups"][0]
    assert [device["name"] for device in listed["devices"]] == ["sensor"]


def test_somebody_elses_group_or_device_is_not_there(alice, bob, group, sensor, make_device):
    his = make_device(bob)
    assert bob.api.get(f"/groups/{group}").status == 404
    assert bob.api.post(f"/groups/{group}/devices", {"device_id": his.id}).status == 404
    assert alice.api.post(f"/groups/{group}/devices", {"device_id": his.id}).status == 404
    assert bob.api.get("/groups").json["groups"] == []


def test_even_staff_do_not_mix_owners_in_a_group(staff, bob, group, make_device):
    his = make_device(bob)
    answer = staff.api.post(f"/groups/{group}/devices", {"device_id": his.id})
    assert answer.status == 400
    assert not DeviceGroup.objects.get().devices.exists()


@pytest.mark.parametrize("body", [{}, {"device_id": "x"}, {"device_id": None}, {"device_id": 0}])
def test_a_bad_device_id_is_named(alice, group, body):
    answer = alice.api.post(f"/groups/{group}/devices", body)
    assert answer.status == 400
    assert answer.fields() == {"device_id"}


def test_changing_and_deleting_leaves_the_devices(alice, group, sensor):
    alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
    changed = alice.api.put(f"/groups/{group}", {"description": "new"}).json["group"]
    assert (changed["name"], changed["description"]) == ("Hall", "new")
    assert alice.api.delete(f"/groups/{group}").status == 200
    assert alice.api.get(f"/groups/{group}").status == 404
    assert alice.api.get(f"/devices/{sensor.id}/status").status == 200


def test_lists_cost_the_same_for_any_number_of_groups(
    alice, make_device, django_assert_num_queries
):
    for n in range(4):
        group = make_group(alice, f"group {n}").json["group"]["id"]
        for _ in range(n):
            device_id = make_device(alice).id
            alice.api.post(f"/groups/{group}/devices", {"device_id": device_id})
    # The token with its user; the number of groups; the groups with their device counts.
    with django_assert_num_queries(3):
        alice.api.get("/groups")
    # And the memberships of all of them with their devices.
    with django_assert_num_queries(4):
        alice.api.get("/groups", include_devices="true")


class TestBulk:
    def test_many_join_and_those_inside_are_skipped(self, alice, group, sensor, make_device):
        alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
        ids = [sensor.id, make_device(alice).id, make_device(alice).id]
        answer = alice.api.post(f"/groups/{group}/devices/bulk", {"device_ids": [*ids, ids[1]]})
        assert answer.status == 201
        assert (answer.json["added"], answer.json["skipped"]) == (2, 1)
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 3

    @pytest.mark.parametrize(
        "ids", [None, [], "x", [0], ["x"], [999_999_999], list(range(1, 1002))]
    )
    def test_bad_lists_are_named_and_add_nothing(self, alice, group, sensor, ids):
        body = {
            "device_ids": ids if not isinstance(ids, list) else [sensor.id, *ids][bool(not ids) :]
        }
        answer = alice.api.post(f"/groups/{group}/devices/bulk", body)
        assert answer.status == 400
        assert {field.split(".")[0] for field in answer.fields()} == {"device_ids"}
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 0

    def test_somebody_elses_device_is_not_there(self, alice, bob, group, make_device):
        his = make_device(bob)
        answer = alice.api.post(f"/groups/{group}/devices/bulk", {"device_ids": [his.id]})
        assert answer.status == 400

    def test_many_leave_and_those_outside_are_skipped(self, alice, bob, group, sensor, make_device):
        outside, his = make_device(alice), make_device(bob)
        ids = [sensor.id, make_device(alice).id]
        alice.api.post(f"/groups/{group}/devices/bulk", {"device_ids": ids})
        answer = alice.api.delete(
            f"/groups/{group}/devices/bulk",
            {"device_ids": [*ids, ids[0], outside.id, his.id, 999_999_999]},
        )
        assert answer.status == 200
        assert (answer.json["removed"], answer.json["skipped"]) == (2, 3)
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 0
        assert alice.api.get("/devices").json["meta"]["total"] == 3
        assert EventLog.objects.filter(kind="group.device_removed").count() == 2

    @pytest.mark.parametrize("body", [None, {}, {"device_ids": []}, {"device_ids": ["x", 0]}, []])
    def test_a_bad_list_takes_nothing_out(self, alice, group, sensor, body):
        alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
        answer = alice.api.delete(f"/groups/{group}/devices/bulk", body)
        assert answer.status == 400
        assert {field.split(".")[0] for field in answer.fields()} <= {"device_ids", "body"}
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 1

    def test_nobody_empties_somebody_elses_group(self, alice, bob, group, sensor):
        alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id})
        body = {"device_ids": [sensor.id]}
        assert bob.api.delete(f"/groups/{group}/devices/bulk", body).status == 404
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 1


class TestMeanwhile:
    """What others do to the same group and devices at the same time."""

    def add_all(self, alice, group, *ids):
        return alice.api.post(f"/groups/{group}/devices/bulk", {"device_ids": ids})

    def test_of_equal_calls_at_once_each_device_joins_by_one(self, alice, group, make_device):
        ids = [make_device(alice).id for _ in range(20)]
        answers = at_once(3, lambda: self.add_all(alice, group, *ids).json)
        counts = sorted((answer["added"], answer["skipped"]) for answer in answers)
        assert counts == [(0, 20), (0, 20), (20, 0)]
        assert EventLog.objects.filter(kind="group.device_added").count() == 20

    def test_one_that_joined_meanwhile_is_skipped(self, alice, group, sensor, make_device):
        other = make_device(alice)
        answer = during(
            lambda: alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id}),
            lambda: self.add_all(alice, group, sensor.id, other.id),
        )
        assert (answer.json["added"], answer.json["skipped"]) == (1, 1)
        assert EventLog.objects.filter(kind="group.device_added").count() == 2

    def test_a_device_that_was_deleted_meanwhile_is_named(self, alice, group, sensor, make_device):
        other = make_device(alice)
        answer = during(
            lambda: alice.api.delete(f"/devices/{sensor.id}"),
            lambda: self.add_all(alice, group, sensor.id, other.id),
        )
        assert answer.status == 400
        assert answer.json["details"] == {"device_ids": [f"There is no device {sensor.id}."]}
        assert alice.api.get(f"/groups/{group}").json["group"]["device_count"] == 0
        assert not EventLog.objects.filter(kind="group.device_added").exists()

    def test_one_device_that_was_deleted_meanwhile_is_404(self, alice, group, sensor):
        answer = during(
            lambda: alice.api.delete(f"/devices/{sensor.id}"),
            lambda: alice.api.post(f"/groups/{group}/devices", {"device_id": sensor.id}),
        )
        assert answer.status == 404

    def test_a_group_that_was_deleted_meanwhile_is_404(self, alice, group, sensor):
        answer = during(
            lambda: alice.api.delete(f"/groups/{group}"),
            lambda: self.add_all(alice, group, sensor.id),
        )
        assert answer.status == 404

    @pytest.mark.parametrize(
        ("path", "kind"), [("/devices/{}", "group.device_removed"), ("", "group.deleted")]
    )
    def test_what_is_gone_already_is_404_and_told_once(self, alice, group, sensor, path, kind):
        self.add_all(alice, group, sensor.id)
        path = f"/groups/{group}" + path.format(sensor.id)
        answer = during(lambda: alice.api.delete(path), lambda: alice.api.delete(path))
        assert answer.status == 404
        assert EventLog.objects.filter(kind=kind).count() == 1
