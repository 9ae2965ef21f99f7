"""Many readings in one call: verdicts, order, retries."""

import pytest

from events.models import EventLog
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.models import IdempotencyKey


def readings(device, **query):
    query = {"start_time": "2000-01-01", "limit": 10_000, **query}
    return device.api.get(f"/telemetry/{device.id}", **query).json["data"]


def batch(device, items, **headers):
    return device.api.post("/telemetry/batch", {"readings": items}, **headers)


def bulk(who, items, **headers):
    return who.api.post("/telemetry/bulk", {"readings": items}, **headers)


def statuses(answer) -> list[str]:
    return [verdict["status"] for verdict in answer.json["results"]]


def test_a_thousand_with_seven_bad_ones_and_the_same_again(sensor):
    start = now_ms() - 3_600_000
    items = [{"data": {"a": n, "b": n / 2}, "timestamp": start + n} for n in range(1000)]
    bad = {
        3: {"data": {}},
        100: {"data": {"a": None}},
        101: {"data": {"a": 1}, "timestamp": "soon"},
        500: {"data": {"a": 2**63}},
        501: {"data": {"a": 1}, "timestamp": "2999-01-01"},
        998: "text",
        999: {"metadata": []},
    }
    for index, item in bad.items():
        items[index] = item
    for _ in range(2):
        answer = batch(sensor, items)
        assert answer.status == 207
        counts = {key: answer.json[key] for key in ("stored", "duplicates", "rejected")}
        assert counts == {"stored": 993, "duplicates": 0, "rejected": 7}
        rejected = {v["index"]: v for v in answer.json["results"] if v["status"] == "rejected"}
        assert set(rejected) == set(bad)
        assert {index: set(v["details"]) for index, v in rejected.items()} == {
            3: {"data"},
            100: {"data.a"},
            101: {"timestamp"},
            500: {"data.a"},
            501: {"timestamp"},
            998: {"body"},
            999: {"data", "metadata"},
        }
        assert all(v["reason"] for v in rejected.values())
        assert len(readings(sensor)) == 993
    stored = readings(sensor, order="asc", limit=3)
    assert [r["measurements"] for r in stored] == [{"a": n, "b": n / 2} for n in range(3)]
    assert sensor.api.get(f"/telemetry/{sensor.id}/latest").json["latest_data"] == {
        "a": 997,
        "b": 498.5,
    }


def test_without_times_each_has_a_time_of_its_own_in_their_order(sensor):
    answer = batch(sensor, [{"data": {"a": n}} for n in range(300)])
    assert answer.status == 201
    assert statuses(answer) == ["stored"] * 300
    times = [verdict["timestamp"] for verdict in answer.json["results"]]
    assert times == sorted(set(times))
    assert [r["measurements"]["a"] for r in readings(sensor, order="asc")] == list(range(300))


def test_what_is_repeated_within_the_call_is_a_duplicate_and_a_correction_is_not(sensor):
    at = "2026-01-01T00:00:00Z"
    items = [
        {"data": {"a": 1}, "timestamp": at},
        {"data": {"a": 1}, "timestamp": "2026-01-01T01:00:00+01:00"},
        {"data": {"a": 1.0}, "timestamp": at},
        {"data": {"b": 2}, "timestamp": at, "metadata": {"x": 1}},
        {"data": {"a": 1}},
    ]
    answer = batch(sensor, items)
    assert answer.status == 201
    assert statuses(answer) == ["stored", "duplicate", "stored", "stored", "stored"]
    oldest = readings(sensor, order="asc")[0]
    assert oldest["measurements"] == {"a": 1.0, "b": 2}
    assert oldest["metadata"] == {"x": 1}


def test_of_one_time_the_last_one_written_counts(sensor):
    at = "2026-01-01T00:00:00Z"
    answer = batch(sensor, [{"data": {"a": n}, "timestamp": at} for n in (1, 2, 1, 1)])
    assert statuses(answer) == ["stored", "stored", "stored", "duplicate"]
    assert readings(sensor)[0]["measurements"] == {"a": 1}


def test_values_are_bounded_for_all_readings_together(sensor, settings):
    settings.BATCH_VALUES = 10
    wide = {"data": {f"m{n}": n for n in range(4)}}
    answer = batch(sensor, [wide] * 3)
    assert answer.status == 400
    assert answer.fields() == {"readings"}
    assert batch(sensor, [wide] * 2).status == 201


def test_many_faults_make_no_answer_of_megabytes(sensor):
    bad = {"data": {f"m{n}": None for n in range(20)}}
    answer = batch(sensor, [bad] * 900)
    assert answer.status == 400
    assert len(answer.text) < 200_000
    assert "and 990 more" in answer.json["message"]
    mixed = batch(sensor, [{"data": {"a": 1}}, bad])
    [_, verdict] = mixed.json["results"]
    assert len(verdict["details"]) == 11
    assert verdict["details"]["more"] == ["10 more fields."]
    assert len(verdict["reason"]) < 200


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"readings"}),
        ([], {"readings"}),
        (None, {"readings"}),
        ({"readings": {}}, {"readings"}),
        ({"readings": []}, {"readings"}),
        ({"readings": [{"data": {"a": 1}}] * 1001}, {"readings"}),
        ({"readings": [{"data": {"a": None}}, 7]}, {"readings.0.data.a", "readings.1.body"}),
    ],
)
def test_a_call_without_anything_to_store_is_400_and_says_why(sensor, body, wrong):
    answer = sensor.api.post("/telemetry/batch", body)
    assert answer.status == 400
    assert answer.fields() == wrong
    assert readings(sensor) == []


def test_the_bound_is_a_setting(sensor, settings):
    settings.BATCH_READINGS = 2
    assert batch(sensor, [{"data": {"a": 1}}] * 3).status == 400
    assert batch(sensor, [{"data": {"a": 1}}] * 2).status == 201


def test_a_key_replayed_gives_the_first_answer_and_stores_nothing_new(sensor):
    items = [{"data": {"a": 1}}, {"data": {"a": 2}, "timestamp": "-1m"}, {"data": {"a": None}}]
    first = batch(sensor, items, idempotency_key="k")
    again = batch(sensor, items, idempotency_key="k")
    assert (first.status, again.status) == (207, 207)
    assert again.json == first.json
    assert len(readings(sensor)) == 2
    other = batch(sensor, items[:2], idempotency_key="k")
    assert other.status == 409
    assert other.fields() == {"Idempotency-Key"}


def test_a_key_of_one_endpoint_is_not_good_at_another(sensor):
    body = {"data": {"a": 1}, "readings": [{"data": {"a": 1}}]}
    assert sensor.api.post("/telemetry", body, idempotency_key="k").status == 201
    assert sensor.api.post("/telemetry/batch", body, idempotency_key="k").status == 409


def test_one_call_is_one_event_also_when_it_is_sent_again(sensor):
    items = [{"data": {"a": n}, "timestamp": format_ms(1000 * n)} for n in range(5)]
    for _ in range(2):
        batch(sensor, items)
    [event] = EventLog.objects.filter(kind="telemetry.submitted")
    assert event.payload == {
        "readings": 5,
        "first": "1970-01-01T00:00:00.000Z",
        "last": "1970-01-01T00:00:04.000Z",
        "measurements": ["a"],
    }


def test_a_batch_makes_the_device_online(sensor, alice):
    batch(sensor, [{"data": {"a": 1}}])
    assert alice.api.get(f"/devices/{sensor.id}/status").json["device"]["is_online"]


def test_a_batch_with_a_cached_key_costs_no_query(sensor, django_assert_num_queries, settings):
    batch(sensor, [{"data": {"a": 1}}])
    if settings.REDIS_EMBEDDED:
        return  # there the key is looked up each time and presence is saved
    # Readings go to the store, its event to the event log; the database has no part in it.
    with django_assert_num_queries(0):
        assert batch(sensor, [{"data": {"a": n}} for n in range(50)]).status == 201


class TestBulk:
    def test_a_gateway_submits_for_its_owners_devices(self, alice, make_device):
        one, two = make_device(alice), make_device(alice)
        items = [
            {"device_id": device.id, "data": {"a": n}, "timestamp": f"2026-01-0{n + 1}"}
            for n in range(3)
            for device in (one, two)
        ]
        answer = bulk(alice, items)
        assert answer.status == 201
        assert answer.json["stored"] == 6
        for device in (one, two):
            assert [r["measurements"]["a"] for r in readings(device)] == [2, 1, 0]
        assert EventLog.objects.filter(kind="telemetry.submitted").count() == 2

    def test_another_users_device_is_one_that_is_not_there(self, alice, bob, sensor, make_device):
        mine = make_device(bob)
        theirs = {"device_id": sensor.id, "data": {"a": 1}}
        nobodys = {"device_id": 10**9, "data": {"a": 1}}
        answer = bulk(bob, [{"device_id": mine.id, "data": {"a": 1}}, theirs, nobodys])
        assert answer.status == 207
        assert statuses(answer) == ["stored", "rejected", "rejected"]
        verdicts = answer.json["results"]
        assert verdicts[1]["reason"] == verdicts[2]["reason"]
        assert readings(sensor) == []
        alone = bulk(bob, [theirs])
        assert alone.status == 400
        assert alone.fields() == {"readings.0.device_id"}

    def test_staff_submit_for_anybodys(self, staff, sensor):
        assert bulk(staff, [{"device_id": sensor.id, "data": {"a": 1}}]).status == 201

    def test_a_device_that_is_switched_off_takes_nothing(self, alice, sensor, make_device):
        off = make_device(alice)
        alice.api.put(f"/devices/{off.id}", {"status": "inactive"})
        answer = bulk(alice, [{"device_id": d.id, "data": {"a": 1}} for d in (off, sensor)])
        assert statuses(answer) == ["rejected", "stored"]

    @pytest.mark.parametrize("device_id", [None, 0, -1, "1", 1.0, True, 2**63, [1]])
    def test_a_bad_device_is_named(self, alice, sensor, device_id):
        items = [
            {"device_id": device_id, "data": {"a": None}},
            {"device_id": sensor.id, "data": {"a": 1}},
        ]
        answer = bulk(alice, items)
        assert answer.status == 207
        assert set(answer.json["results"][0]["details"]) == {"device_id", "data.a"}

    def test_a_key_is_the_users_own(self, alice, bob, make_device):
        for who in (alice, bob):
            device = make_device(who)
            items = [{"device_id": device.id, "data": {"a": 1}}]
            first = bulk(who, items, idempotency_key="k")
            assert first.status == 201
            assert bulk(who, items, idempotency_key="k").json == first.json
            assert len(readings(device)) == 1

    def test_a_retry_after_a_device_went_is_still_answered(self, alice, make_device):
        stays, goes = make_device(alice), make_device(alice)
        items = [{"device_id": device.id, "data": {"a": 1}} for device in (goes, stays)]
        first = bulk(alice, items, idempotency_key="k")
        IdempotencyKey.objects.update(answer=None)  # as if the first try had broken off
        alice.api.delete(f"/devices/{goes.id}")
        again = bulk(alice, items, idempotency_key="k")
        assert (first.status, again.status) == (201, 207)
        assert statuses(again) == ["rejected", "stored"]
        assert again.json["results"][1] == first.json["results"][1]
        assert len(readings(stays)) == 1

    def test_a_retry_of_what_is_done_is_the_first_answer_whatever_went_since(
        self, alice, make_device
    ):
        device = make_device(alice)
        items = [{"device_id": device.id, "data": {"a": 1}}]
        first = bulk(alice, items, idempotency_key="k")
        alice.api.delete(f"/devices/{device.id}")
        again = bulk(alice, items, idempotency_key="k")
        assert (first.status, again.status) == (201, 201)
        assert again.json == first.json

    def test_devices_may_not(self, sensor, anybody):
        body = {"readings": [{"device_id": sensor.id, "data": {"a": 1}}]}
        assert sensor.api.post("/telemetry/bulk", body).status == 401
        assert anybody.post("/telemetry/bulk", body).status == 401
