"""History, latest values and the feed, over HTTP."""

import pytest
from django.test import Client

from iotflow.lib.timeparse import format_ms, now_ms
from tests.environment import STORES

HOUR = 3_600_000


@pytest.fixture
def filled(sensor):
    """A sensor with a reading an hour for the last two days, `n` hours ago."""
    now = now_ms()
    for hours in range(48, -1, -1):
        body = {"data": {"n": hours, "half": hours / 2}, "timestamp": now - hours * HOUR}
        assert sensor.api.post("/telemetry", body).status == 201
    return sensor


def numbers(answer) -> list[int]:
    return [reading["measurements"]["n"] for reading in answer.json["data"]]


class TestHistory:
    def test_its_shape(self, filled):
        answer = filled.api.get(f"/telemetry/{filled.id}", limit=1)
        assert answer.status == 200
        [reading] = answer.json.pop("data")
        assert reading["measurements"] == {"half": 0.0, "n": 0}
        cursor = answer.json.pop("next_cursor")
        assert isinstance(cursor, str)
        assert answer.json == {
            "device_id": filled.id,
            "device_name": "sensor",
            "device_type": "sensor",
            "start_time": "-24h",
            "end_time": "now",
            "count": 1,
            "cassandra_available": STORES == "real",
        }

    def test_by_default_it_is_the_last_day_newest_first(self, filled):
        assert numbers(filled.api.get(f"/telemetry/{filled.id}")) == list(range(24))

    def test_a_range_with_both_ends(self, filled):
        readings = filled.api.get(f"/telemetry/{filled.id}", start_time="-2d").json["data"]
        start, end = readings[10]["timestamp"], readings[5]["timestamp"]
        answer = filled.api.get(f"/telemetry/{filled.id}", start_time=start, end_time=end)
        assert numbers(answer) == [5, 6, 7, 8, 9, 10]
        assert answer.json["start_time"] == start

    @pytest.mark.parametrize("order", ["desc", "asc"])
    def test_cursors_lead_through_everything_once(self, filled, order):
        query = {"start_time": "-3d", "limit": 10, "order": order}
        found, cursor = [], {}
        while True:
            answer = filled.api.get(f"/telemetry/{filled.id}", **query, **cursor)
            found += numbers(answer)
            assert answer.json["count"] == len(answer.json["data"]) <= 10
            if answer.json["next_cursor"] is None:
                break
            cursor = {"cursor": answer.json["next_cursor"]}
        assert found == (list(range(49)) if order == "desc" else list(range(48, -1, -1)))

    def test_chosen_fields(self, filled):
        answer = filled.api.get(f"/telemetry/{filled.id}", limit=2, fields="half,none")
        assert [r["measurements"] for r in answer.json["data"]] == [{"half": 0.0}, {"half": 0.5}]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"limit": 0}, "limit"),
            ({"limit": 10_001}, "limit"),
            ({"limit": "many"}, "limit"),
            ({"limit": "9" * 5000}, "limit"),
            ({"limit": "--5"}, "limit"),
            ({"limit": "-"}, "limit"),
            ({"start_time": "soon"}, "start_time"),
            ({"end_time": "soon"}, "end_time"),
            ({"start_time": "-1h", "end_time": "-2h"}, "start_time"),
            ({"start_time": now_ms() + 86_400_000}, "start_time"),
            ({"end_time": "T" * 65}, "end_time"),
            ({"order": "up"}, "order"),
            ({"cursor": "x"}, "cursor"),
            ({"cursor": "bnVsbA"}, "cursor"),
            ({"cursor": "WzEsMSwxLCJ4Il0"}, "cursor"),
            ({"fields": "\0"}, "query"),
        ],
    )
    def test_a_bad_query_is_400_and_names_the_field(self, sensor, query, field):
        answer = sensor.api.get(f"/telemetry/{sensor.id}", **query)
        assert answer.status == 400
        assert answer.fields() == {field}

    def test_a_cursor_of_the_other_order_is_refused(self, filled):
        cursor = filled.api.get(f"/telemetry/{filled.id}", limit=1).json["next_cursor"]
        answer = filled.api.get(f"/telemetry/{filled.id}", order="asc", cursor=cursor)
        assert answer.fields() == {"cursor"}

    def test_any_legal_range_answers(self, sensor):
        for query in (
            {"start_time": now_ms() + 60_000},  # ahead of now, as a device's clock may be
            {"start_time": "0001-01-01", "end_time": "9999-12-31"},
            {"end_time": f"{now_ms()}000000"},  # in ns
            {"start_time": "-999999999w"},
            {"start_time": "-50000d", "end_time": "now", "limit": 10_000},
        ):
            answer = sensor.api.get(f"/telemetry/{sensor.id}", **query)
            assert answer.status == 200
            assert answer.json["data"] == []
            assert answer.json["next_cursor"] is None


class TestLatest:
    def test_its_shape(self, sensor):
        stamp = now_ms() - HOUR
        sensor.api.post("/telemetry", {"data": {"a": 1, "b": "x"}, "timestamp": stamp})
        sensor.api.post("/telemetry", {"data": {"a": 0}, "timestamp": stamp - 1})
        for _ in range(2):  # from the store, then from the cache
            assert sensor.api.get(f"/telemetry/{sensor.id}/latest").json == {
                "device_id": sensor.id,
                "device_name": "sensor",
                "device_type": "sensor",
                "latest_data": {"a": 1, "b": "x"},
                "timestamp": format_ms(stamp),
                "cassandra_available": STORES == "real",
            }

    def test_what_is_submitted_after_a_read_shows_in_the_next(self, sensor):
        for value in (1, 2.5, "three", {"four": 4}, False):
            sensor.api.post("/telemetry", {"data": {"a": value}})
            answer = sensor.api.get(f"/telemetry/{sensor.id}/latest")
            assert answer.json["latest_data"] == {"a": value}

    def test_a_device_that_said_nothing(self, sensor):
        answer = sensor.api.get(f"/telemetry/{sensor.id}/latest")
        assert answer.status == 200
        assert answer.json["latest_data"] == {}
        assert answer.json["timestamp"] is None


class TestPolling:
    @pytest.mark.parametrize("path", ["/api/v1/telemetry/{}", "/api/v1/telemetry/{}/latest"])
    def test_what_is_known_is_not_sent_again_and_what_is_new_is(self, path, sensor):
        sensor.api.post("/telemetry", {"data": {"a": 1}})

        def ask(**headers):
            return Client().get(path.format(sensor.id), HTTP_X_API_KEY=sensor.key, **headers)

        first = ask()
        assert ask()["ETag"] == first["ETag"]
        known = ask(HTTP_IF_NONE_MATCH=first["ETag"])
        assert (known.status_code, known.content) == (304, b"")
        sensor.api.post("/telemetry", {"data": {"a": 2}})
        changed = ask(HTTP_IF_NONE_MATCH=first["ETag"])
        assert changed.status_code == 200
        assert changed["ETag"] != first["ETag"]


class TestWhoMayRead:
    @pytest.mark.parametrize("path", ["/telemetry/{}", "/telemetry/{}/latest"])
    def test_the_device_its_owner_and_staff_and_nobody_else(
        self, path, sensor, alice, bob, staff, make_device, anybody
    ):
        path = path.format(sensor.id)
        neighbour = make_device(alice)
        assert [who.get(path).status for who in (sensor.api, alice.api, staff.api)] == [200] * 3
        assert [who.get(path).status for who in (bob.api, neighbour.api)] == [404] * 2
        assert anybody.get(path).status == 401

    @pytest.mark.parametrize("number", ["0", "999999", "9" * 30, "-1", "x"])
    def test_a_device_that_is_not_there_is_404(self, alice, number):
        answer = alice.api.get(f"/telemetry/{number}")
        assert answer.status == 404
        assert answer.json["error"] == "not_found"


class TestFeed:
    def test_the_newest_values_of_all_ones_devices(self, alice, sensor, make_device):
        other = make_device(alice, "other")
        now = now_ms()
        sensor.api.post("/telemetry", {"data": {"a": 1, "b": 2}, "timestamp": now - 2000})
        other.api.post("/telemetry", {"data": {"c": "x"}, "timestamp": now - 1000})
        answer = alice.api.get(f"/telemetry/user/{alice.user.user_id}")
        assert answer.status == 200
        assert answer.json == {
            "status": "success",
            "user_id": str(alice.user.user_id),
            "telemetry": [
                {
                    "device_id": device.id,
                    "device_name": device.device.name,
                    "timestamp": format_ms(stamp),
                    "measurement_name": name,
                    "value": value,
                }
                for device, stamp, name, value in (
                    (other, now - 1000, "c", "x"),
                    (sensor, now - 2000, "a", 1),
                    (sensor, now - 2000, "b", 2),
                )
            ],
            "count": 3,
            "limit": 100,
            "start_time": "-24h",
            "end_time": "now",
            "next_cursor": None,
        }

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_cursors_lead_through_every_value_once(self, alice, make_device, limit):
        now = now_ms()
        devices = [make_device(alice) for _ in range(3)]
        for device in devices:
            for n in range(3):
                body = {"data": {"a": n, "b": n, "c": n}, "timestamp": now - n}
                device.api.post("/telemetry", body)
        found, cursor = [], {}
        while True:
            answer = alice.api.get(
                f"/telemetry/user/{alice.user.user_id}", limit=limit, **cursor
            ).json
            assert answer["count"] == len(answer["telemetry"]) <= limit
            found += [
                (e["device_id"], e["timestamp"], e["measurement_name"]) for e in answer["telemetry"]
            ]
            if answer["next_cursor"] is None:
                break
            cursor = {"cursor": answer["next_cursor"]}
        assert len(found) == len(set(found)) == 27

    def test_it_is_ones_own_or_staffs(self, alice, bob, staff, sensor):
        path = f"/telemetry/user/{alice.user.user_id}"
        assert staff.api.get(path).status == 200
        assert bob.api.get(path).status == 404
        assert sensor.api.get(path).status == 401
        assert alice.api.get("/telemetry/user/not-a-uuid").status == 404


def test_the_stores_status_is_public(anybody):
    answer = anybody.get("/telemetry/status")
    assert answer.status == 200
    assert answer.json == {
        "backend": "cassandra" if STORES == "real" else "relational",
        "cassandra_available": STORES == "real",
        "status": "healthy",
    }
