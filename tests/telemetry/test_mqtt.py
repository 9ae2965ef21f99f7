"""What becomes of messages that the broker passes on. The broker itself: tests/integration."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from devices import commands, configs, notices
from devices.models import ApiKey, BrokerNotice
from devices.services import create_key, delete_devices, revoke_key, rotate_key, set_status
from events.models import EventLog
from iotflow.lib.errors import StoreAway
from iotflow.lib.mqtt import Message
from iotflow.lib.timeparse import format_ms, now_ms, to_ms
from telemetry import commit
from telemetry.mqtt import arrivals
from telemetry.mqtt.arrivals import settle

AT = 1_764_460_800_000


def message(device, body, *, at: int | None = None, key: int | None = None, topic: str = ""):
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is None:
        key = ApiKey.objects.filter(device=device.device).latest("pk").pk
    stamp = {"iotflow": f"{key} {now_ms() if at is None else at}"}
    return Message(topic or f"devices/{device.id}/telemetry", payload, stamp, 1, 1)


def stored(device) -> list[tuple[str, dict]]:
    answer = device.api.get(f"/telemetry/{device.id}", start_time="2020-01-01", order="asc")
    assert answer.status == 200
    return [(reading["timestamp"], reading["measurements"]) for reading in answer.json["data"]]


def reasons(verdicts) -> list[str | None]:
    return [None if verdict is None else verdict.reason for verdict in verdicts]


def test_a_message_is_stored_under_its_own_time_or_that_of_its_coming(sensor):
    own = message(sensor, {"data": {"a": 1}, "timestamp": "2026-01-01T00:00:00Z"})
    given = message(sensor, {"data": {"a": 2}}, at=AT)
    relative = message(sensor, {"data": {"a": 3}, "timestamp": "-1h"}, at=AT)
    assert settle([own, given, relative]) == [None, None, None]
    assert stored(sensor) == [
        (format_ms(AT - 3_600_000), {"a": 3}),
        (format_ms(AT), {"a": 2}),
        ("2026-01-01T00:00:00.000Z", {"a": 1}),
    ]


def test_brought_again_it_is_the_same_reading_and_the_same_event(sensor):
    batch = [message(sensor, {"data": {"a": n}}, at=AT + n) for n in range(5)]
    for _ in range(3):
        assert settle(batch) == [None] * 5
    assert len(stored(sensor)) == 5
    assert EventLog.objects.filter(kind="telemetry.submitted").count() == 5


def test_what_is_wrong_is_refused_and_the_rest_is_stored(sensor):
    batch = [
        message(sensor, b"{"),
        message(sensor, b"\xff"),
        message(sensor, b'"' + b"[" * 5000),
        message(sensor, {"data": {"a": None}}),
        message(sensor, {"data": {"a": 1}, "timestamp": "2126-01-01"}),
        message(sensor, {"data": {"a": 7}}),
    ]
    verdicts = settle(batch)
    assert reasons(verdicts) == ["invalid"] * 5 + [None]
    assert verdicts[3].error["error"] == "validation_error"
    assert set(verdicts[3].error["details"]) == {"data.a"}
    told = json.loads(arrivals.told(verdicts[3], batch[3]))
    assert set(told) == {"error", "message", "details", "received_at"}
    assert [values for _, values in stored(sensor)] == [{"a": 7}]


@pytest.mark.parametrize(
    ("topic", "properties"),
    [
        ("devices/{id}/telemetry", {}),
        ("devices/{id}/telemetry", {"iotflow": ""}),
        ("devices/{id}/telemetry", {"iotflow": "x 1"}),
        ("devices/{id}/telemetry", {"iotflow": "1 99999999999999"}),
        ("devices/0{id}/telemetry", {"iotflow": "{key} {now}"}),
        ("devices/{id}/telemetry/x", {"iotflow": "{key} {now}"}),
        ("devices/{id}x/telemetry", {"iotflow": "{key} {now}"}),
    ],
)
def test_what_the_broker_has_not_attributed_is_refused(sensor, topic, properties):
    names = {"id": sensor.id, "key": sensor.device.keys.get().pk, "now": now_ms()}
    properties = {name: text.format(**names) for name, text in properties.items()}
    one = Message(topic.format(**names), b'{"data": {"a": 1}}', properties, 1, 1)
    [verdict] = settle([one])
    assert verdict.reason == "unattributed"
    assert stored(sensor) == []
    assert json.loads(arrivals.told(verdict, one))["error"] == "not_authenticated"


class TestKeys:
    def test_what_came_before_a_key_ended_is_stored_and_what_came_after_is_not(self, sensor):
        old = sensor.device.keys.get()
        rotate_key(device=sensor.device, actor="test")
        old.refresh_from_db()
        end = to_ms(old.revoked_at)
        early = message(sensor, {"data": {"a": 1}}, at=end - 1000, key=old.pk)
        late = message(sensor, {"data": {"a": 2}}, at=end + 1, key=old.pk)
        assert reasons(settle([early, late])) == [None, "key_ended"]

    def test_an_expired_one_and_one_not_valid_yet_are_refused(self, sensor):
        now = timezone.now()
        fields = {"valid_from": now + timedelta(hours=1), "expires_at": now + timedelta(hours=2)}
        key, _ = create_key(device=sensor.device, fields=fields, actor="test")
        begin, end = to_ms(key.valid_from), to_ms(key.expires_at)
        times = [begin - 1, begin + 1, end - 1, end + 1]
        verdicts = settle([message(sensor, {"data": {"a": 1}}, at=at) for at in times])
        assert reasons(verdicts) == ["key_ended", None, None, "key_ended"]

    def test_one_of_another_device_opens_nothing(self, sensor, alice, make_device):
        other = make_device(alice)
        key = other.device.keys.get().pk
        assert reasons(settle([message(sensor, {"data": {"a": 1}}, key=key)])) == ["key_ended"]
        assert stored(sensor) == stored(other) == []

    def test_one_that_is_refused_is_an_event_once_a_minute(self, sensor):
        [key] = sensor.device.keys.all()
        revoke_key(api_key=key, actor="test")
        for _ in range(3):
            settle([message(sensor, {"data": {"a": 1}}, at=now_ms() + 1000)])
        [event] = EventLog.objects.filter(kind="device.key_refused")
        assert (event.device_id, event.user_id) == (sensor.id, sensor.device.owner_id)
        assert event.payload == {"count": 1, "key_id": key.pk, "prefix": key.prefix}

    def test_that_of_a_deleted_device_is_refused(self, sensor):
        one = message(sensor, {"data": {"a": 1}})
        delete_devices(devices=[sensor.device], actor="test")
        assert reasons(settle([one])) == ["key_ended"]


@pytest.mark.parametrize(
    ("status", "reason"), [("inactive", "inactive"), ("maintenance", None), ("active", None)]
)
def test_the_status_of_the_device_counts(sensor, status, reason):
    set_status(devices=[sensor.device], status=status, actor="test")
    [verdict] = settle([message(sensor, {"data": {"a": 1}})])
    assert reasons([verdict]) == [reason]
    if verdict is not None:
        assert verdict.error["error"] == "forbidden"


def test_a_store_that_is_away_leaves_a_message_to_be_brought_again(sensor, monkeypatch):
    def away(*arguments):
        raise StoreAway("The telemetry store")

    batch = [message(sensor, {"data": {"a": 1}}, at=AT), message(sensor, b"{")]
    with monkeypatch.context() as patch:
        patch.setattr(commit, "store", away)
        first, second = settle(batch)
    assert isinstance(first, StoreAway)
    assert second.reason == "invalid"
    assert reasons(settle(batch)) == [None, "invalid"]
    assert stored(sensor) == [(format_ms(AT), {"a": 1})]


def test_a_defect_of_ours_costs_one_message_and_keeps_no_other_waiting(sensor, monkeypatch):
    parse = arrivals.parse_message

    def defective(body, *arguments):
        if "b" in body["data"]:
            raise ZeroDivisionError
        return parse(body, *arguments)

    monkeypatch.setattr(arrivals, "parse_message", defective)
    bodies = [{"data": {name: 1}} for name in "abc"]
    assert reasons(settle([message(sensor, body, at=AT) for body in bodies])) == [
        None,
        "failed",
        None,
    ]


def test_a_batch_costs_one_query_for_its_keys(alice, make_device, django_assert_num_queries):
    devices = [make_device(alice) for _ in range(10)]
    batch = [message(device, b"{") for device in devices]
    with django_assert_num_queries(1):
        settle(batch)


class TestNotices:
    @pytest.fixture(autouse=True)
    def named(self, settings) -> None:
        settings.MQTT_URL = "mqtt://bridge:word@127.0.0.1"

    def subjects(self) -> list[tuple[str, int]]:
        return list(BrokerNotice.objects.values_list("subject", "device_id"))

    def test_another_version_of_a_configuration_is_noted_once(self, sensor):
        for _ in range(2):
            configs.put(device=sensor.device, config={"a": 1}, actor="test")
        assert self.subjects() == [("config", sensor.id)]

    def test_keys_that_end_are_noted(self, sensor):
        key, _ = create_key(device=sensor.device, fields={}, actor="test")
        assert self.subjects() == []
        revoke_key(api_key=key, actor="test")
        rotate_key(device=sensor.device, actor="test", grace_seconds=60)
        assert self.subjects() == [("keys", sensor.id)] * 2

    def test_a_deleted_device_is_noted(self, sensor):
        delete_devices(devices=[sensor.device], actor="test")
        assert self.subjects() == [("config", sensor.id), ("keys", sensor.id)]

    def test_where_there_is_no_broker_nothing_is_noted(self, sensor, settings):
        settings.MQTT_URL = ""
        configs.put(device=sensor.device, config={"a": 1}, actor="test")
        rotate_key(device=sensor.device, actor="test")
        assert self.subjects() == []

    def test_they_are_told_a_hundred_at_a_time_oldest_first(self, sensor):
        notices.config_changed(range(1, 251))
        first = notices.waiting()
        assert [notice.device_id for notice in first] == list(range(1, 101))
        notices.told(first)
        assert notices.waiting()[0].device_id == 101


class TestCommands:
    @pytest.fixture
    def command(self, alice, sensor):
        return alice.api.post(f"/devices/{sensor.id}/commands", {"name": "x"}).json["command"]["id"]

    def answer(self, sensor, body):
        return message(sensor, body, topic=f"devices/{sensor.id}/commands/answer")

    def test_an_answer_is_taken_as_the_api_takes_it_and_again(self, alice, sensor, command):
        one = {"command_id": command, "status": "acknowledged"}
        done = {"command_id": command, "status": "failed", "result": {"why": "no"}}
        batch = [self.answer(sensor, body) for body in (one, done)]
        assert settle([*batch, message(sensor, {"data": {"a": 1}}), *batch]) == [None] * 5
        told = alice.api.get(f"/commands/{command}").json["command"]
        assert (told["status"], told["result"]) == ("failed", {"why": "no"})
        assert len(stored(sensor)) == 1

    def test_what_is_no_answer_is_refused(self, sensor, command):
        bodies = [{}, [], {"command_id": "x", "status": "failed"}, b"{"]
        bodies += [{"command_id": command, "status": "queued"}]
        bodies += [{"command_id": "00000000-0000-0000-0000-000000000000", "status": "failed"}]
        verdicts = settle([self.answer(sensor, body) for body in bodies])
        assert reasons(verdicts) == ["invalid"] * 6

    def test_a_device_that_asks_is_noted_for_the_bridge(self, sensor, settings):
        settings.MQTT_URL = "mqtt://bridge:x@localhost"
        topic = f"devices/{sensor.id}/commands/get"
        assert settle([message(sensor, b"", topic=topic)]) == [None]
        assert [notice.subject for notice in notices.waiting()] == ["asked"]

    def test_of_each_device_the_oldest_few_are_found_by_one_query(
        self, alice, sensor, make_device, django_assert_num_queries
    ):
        things = [sensor, make_device(alice), make_device(alice)]
        given = {
            thing.id: [
                alice.api.post(f"/devices/{thing.id}/commands", {"name": "x"}).json["command"]["id"]
                for _ in range(commands.HANDED_MAX + 1)
            ]
            for thing in things
        }
        with django_assert_num_queries(1):
            found = commands.waiting({thing.id: timezone.now() for thing in (things[0], things[2])})
        by_device = {thing.id: [] for thing in (things[0], things[2])}
        for one in found:
            by_device[one.device_id].append(str(one.pk))
        assert by_device == {pk: given[pk][: commands.HANDED_MAX] for pk in by_device}
