"""POST /telemetry: what is stored, what is refused, and that refusing stores nothing."""

import json
import threading
import time

import pytest

from events.models import EventLog
from iotflow.lib.timeparse import format_ms, now_ms
from tests.environment import STORES

BIG = {f"m{n}": n for n in range(100)}


def submit(device, data, **fields):
    return device.api.post("/telemetry", {"data": data, **fields})


def readings(device, **query):
    return device.api.get(f"/telemetry/{device.id}", start_time="1970-01-01", **query).json["data"]


def test_a_reading_is_stored_and_answered(sensor):
    before = now_ms()
    answer = submit(sensor, {"temperature": 21.5, "ok": True}, metadata={"unit": "°C"})
    assert answer.status == 201
    stamp = answer.json.pop("timestamp")
    assert format_ms(before) <= stamp <= format_ms(now_ms())
    assert answer.json == {
        "message": "Telemetry data stored successfully",
        "device_id": sensor.id,
        "device_name": "sensor",
        "stored_in_cassandra": STORES == "real",
    }
    assert readings(sensor) == [
        {
            "timestamp": stamp,
            "measurements": {"ok": True, "temperature": 21.5},
            "metadata": {"unit": "°C"},
        }
    ]


def test_it_is_an_event(sensor):
    stamp = submit(sensor, {"b": 1, "a": 2}).json["timestamp"]
    event = EventLog.objects.get(kind="telemetry.submitted")
    assert event.device_id == sensor.id
    assert event.user_id == sensor.device.owner_id
    assert event.actor == f"device:{sensor.id}"
    assert event.address == "127.0.0.1"
    assert event.payload == {"timestamp": stamp, "measurements": ["a", "b"]}


def test_retrying_with_a_timestamp_is_one_reading_and_one_event(sensor):
    for _ in range(3):
        assert submit(sensor, {"a": 1}, timestamp="2026-01-01T00:00:00Z").status == 201
    assert len(readings(sensor)) == 1
    assert EventLog.objects.filter(kind="telemetry.submitted").count() == 1


def test_the_order_of_names_makes_no_other_event(sensor):
    for path, wrap in (("/telemetry", dict), ("/telemetry/batch", lambda one: {"readings": [one]})):
        for names in ("ab", "ba"):
            nested = {name: dict.fromkeys(names, 1) for name in names}
            body = {"data": nested, "metadata": nested, "timestamp": "2026-01-01T00:00:00Z"}
            assert sensor.api.post(path, wrap(body)).status == 201
    assert len(readings(sensor)) == 1
    assert EventLog.objects.filter(kind="telemetry.submitted").count() == 2


def test_a_correction_is_one_reading_and_two_events(sensor):
    for value in (1, "one"):
        submit(sensor, {"a": value}, timestamp="2026-01-01T00:00:00Z")
    assert [r["measurements"] for r in readings(sensor)] == [{"a": "one"}]
    assert EventLog.objects.filter(kind="telemetry.submitted").count() == 2


def test_times_that_the_server_gives_are_unique(sensor):
    """Eight threads at once: no two readings of a device share a time."""
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.extend(submit(sensor, {"a": 1}).status for _ in range(10))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 80
    assert len({r["timestamp"] for r in readings(sensor, limit=1000)}) == 80


class TestIdempotencyKey:
    def send(self, device, body, key="key-1"):
        return device.api.post("/telemetry", body, idempotency_key=key)

    def test_a_retry_gets_the_first_answer_and_stores_nothing_new(self, sensor):
        first = self.send(sensor, {"data": {"a": 1}})
        time.sleep(0.005)
        again = self.send(sensor, {"data": {"a": 1}})
        assert (first.status, again.status) == (201, 201)
        assert again.json == first.json
        assert len(readings(sensor)) == 1

    def test_another_body_is_a_conflict(self, sensor):
        self.send(sensor, {"data": {"a": 1}})
        answer = self.send(sensor, {"data": {"a": 2}})
        assert answer.status == 409
        assert answer.fields() == {"Idempotency-Key"}
        assert len(readings(sensor)) == 1

    @pytest.mark.parametrize("stamp", ["now", "-1h", 1_700_000_000, "2026-01-01"])
    def test_a_retry_with_a_time_however_written_is_a_retry(self, sensor, stamp):
        first = self.send(sensor, {"data": {"a": 1}, "timestamp": stamp})
        time.sleep(0.005)
        again = self.send(sensor, {"data": {"a": 1}, "timestamp": stamp})
        assert (first.status, again.status) == (201, 201)
        assert again.json == first.json
        assert len(readings(sensor)) == 1

    def test_it_is_the_devices_own(self, sensor, make_device, alice):
        other = make_device(alice)
        assert self.send(sensor, {"data": {"a": 1}}).status == 201
        assert self.send(other, {"data": {"a": 2}}).status == 201

    def test_a_retry_does_not_undo_a_correction(self, sensor):
        stamp = self.send(sensor, {"data": {"a": 1}}).json["timestamp"]
        submit(sensor, {"a": 2}, timestamp=stamp)
        self.send(sensor, {"data": {"a": 1}})
        assert [r["measurements"] for r in readings(sensor)] == [{"a": 2}]

    @pytest.mark.parametrize("key", ["", "x" * 256, "with space", "ü"])
    def test_a_bad_key_is_named(self, sensor, key):
        answer = self.send(sensor, {"data": {"a": 1}}, key)
        assert answer.status == 400
        assert answer.fields() == {"Idempotency-Key"}
        assert readings(sensor) == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"data"}),
        ({"data": None}, {"data"}),
        ({"data": {}}, {"data"}),
        ({"data": [1, 2]}, {"data"}),
        ({"data": "text"}, {"data"}),
        ({"data": 5}, {"data"}),
        ([{"data": {"a": 1}}], {"body"}),
        ("text", {"body"}),
        (None, {"data"}),
        ({"data": {"a": None}}, {"data.a"}),
        ({"data": {"": 1}}, {"data."}),
        ({"data": {"a b\n": 1}}, {"data.a b\n"}),
        ({"data": {"ü": 1}}, {"data.ü"}),
        ({"data": {"x" * 65: 1}}, {"data." + "x" * 65}),
        ({"data": {"a": "x" * 1025}}, {"data.a"}),
        ({"data": {"a": "é" * 513}}, {"data.a"}),
        ({"data": {"a": "\0"}}, {"data.a"}),
        ({"data": {"a": "\ud800"}}, {"data.a"}),
        ({"data": {"a": ["\ud800"]}}, {"data.a"}),
        ({"data": {"a": ["x" * 4096]}}, {"data.a"}),
        ({"data": {"a": 2**63}}, {"data.a"}),
        ({"data": {"a": 2**70}}, {"data.a"}),
        ({"data": {"a": -(2**63) - 1}}, {"data.a"}),
        ({"data": {"a": {"b": [2**64 - 1]}}}, {"data.a"}),
        ({"data": {"a": 1}, "metadata": {"b": [2**64 - 1]}}, {"metadata"}),
        ({"data": {**BIG, "one more": 1}}, {"data"}),
        ({"data": {f"m{n}": n for n in range(10_000)}}, {"data"}),
        ({"data": {"a": 1}, "metadata": "text"}, {"metadata"}),
        ({"data": {"a": 1}, "metadata": {"a": "x" * 4096}}, {"metadata"}),
        ({"data": {"a": 1}, "timestamp": "tomorrow"}, {"timestamp"}),
        ({"data": {"a": 1}, "timestamp": True}, {"timestamp"}),
        ({"data": {"a": 1}, "timestamp": {}}, {"timestamp"}),
        ({"data": {"a": 1}, "timestamp": ""}, {"timestamp"}),
        ({"data": {"a": 1}, "timestamp": "now" + " " * 62}, {"timestamp"}),
        ({"data": {"a": 1}, "timestamp": now_ms() + 2 * 365 * 86_400_000}, {"timestamp"}),
        (
            {"data": {"a": None, "ok": 1, "b": "\0"}, "metadata": 1, "timestamp": "x"},
            {"data.a", "data.b", "metadata", "timestamp"},
        ),
    ],
)
def test_bad_input_is_400_names_every_field_and_stores_nothing(sensor, body, fields):
    answer = sensor.api.post("/telemetry", body)
    assert answer.status == 400
    assert answer.json["error"] == "validation_error"
    assert answer.fields() == fields
    assert readings(sensor) == []


def test_a_very_long_timestamp_is_400_at_once(sensor):
    begun = time.perf_counter()
    answer = sensor.api.post("/telemetry", {"data": {"a": 1}, "timestamp": "T" * 500_000})
    assert time.perf_counter() - begun < 5  # and not the hours of a square
    assert (answer.status, answer.fields()) == (400, {"timestamp"})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"data": {"a": NaN}}',
        b'{"data": {"a": Infinity}}',
        b'{"data": {"a": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data": {"a": ' + b"9" * 5000 + b"}}",
        b'{"data": {"a": 1e999}}',
    ],
)
def test_broken_json_is_400_and_stores_nothing(sensor, body):
    answer = sensor.api.post("/telemetry", body)
    assert answer.status == 400
    assert answer.fields() <= {"body", "data.a", "data"}
    assert answer.fields()
    assert readings(sensor) == []


def test_a_body_of_ten_megabytes_is_413(sensor):
    body = json.dumps({"data": {"a": "x" * 10_000_000}}).encode()
    answer = sensor.api.post("/telemetry", body)
    assert answer.status == 413
    assert answer.json["error"] == "body_too_large"
    assert answer.fields() == {"body"}
    assert readings(sensor) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data"])
def test_another_content_type_is_415(sensor, content_type):
    answer = sensor.api.post("/telemetry", b'{"data": {"a": 1}}', content_type=content_type)
    assert answer.status == 415
    assert answer.fields() == {"Content-Type"}
    assert readings(sensor) == []


@pytest.mark.parametrize("value", [BIG, {"x" * 64: 1}, {"a": "é" * 512}, {"A-z_0.9/:% ": 1}])
def test_what_is_just_within_the_bounds_is_stored(sensor, value):
    assert submit(sensor, value).status == 201
    [stored] = readings(sensor)
    assert stored["measurements"] == value


@pytest.mark.parametrize("ahead", [0, 590_000])
def test_a_clock_within_the_skew_is_accepted(sensor, ahead):
    assert submit(sensor, {"a": 1}, timestamp=now_ms() + ahead).status == 201
    assert len(readings(sensor)) == 1


def test_a_clock_beyond_the_skew_is_refused_with_the_limit(sensor):
    answer = submit(sensor, {"a": 1}, timestamp=now_ms() + 610_000)
    assert answer.status == 400
    assert answer.json["details"] == {
        "timestamp": ["At most 600 seconds ahead of the server's clock."]
    }


@pytest.mark.parametrize("stamp", ["1970-01-01T00:00:00Z", "0001-01-01", 0, -1, "-50w"])
def test_a_reading_may_be_as_old_as_it_likes(sensor, stamp):
    assert submit(sensor, {"a": 1}, timestamp=stamp).status == 201


def test_with_a_retention_older_readings_are_refused(sensor, settings):
    settings.TELEMETRY_RETENTION_DAYS = 30
    answer = submit(sensor, {"a": 1}, timestamp="-31d")
    assert answer.status == 400
    assert answer.fields() == {"timestamp"}
    assert "30 days" in answer.text
    assert submit(sensor, {"a": 1}, timestamp="-29d").status == 201


@pytest.mark.parametrize("key", [None, "x", "iotd_" + "A" * 43, "ü" * 50, "\0", "x" * 5000])
def test_without_a_valid_key_it_is_401(anybody, sensor, key):
    from tests.api import Api

    answer = Api(key=key).post("/telemetry", {"data": {"a": 1}})
    assert answer.status == 401
    assert answer.json["error"] == "not_authenticated"
    assert answer.headers["WWW-Authenticate"].startswith("ApiKey")


def test_a_users_token_does_not_submit(alice):
    assert alice.api.post("/telemetry", {"data": {"a": 1}}).status == 401
