"""Devices that speak MQTT: Mosquitto with its plugin, a bridge, the stores, all of them real."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from paho.mqtt.client import MQTTv311

from devices import configs
from devices.models import BrokerNotice
from devices.services import create_key, delete_devices, rotate_key, set_status
from events.models import EventLog
from iotflow.lib.timeparse import now_ms, parse_ms
from tests.environment import ROOT
from tests.mqtt import (
    REFUSED,
    START,
    Mqtt,
    bridge,
    counted,
    restart_broker,
    stored,
    values,
    with_another_key,
)
from tests.services import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def bridged(mqtt_server, mqtt_environment, tmp_path_factory) -> Iterator[None]:
    """One broker and one bridge for all of them."""
    restart_broker(mqtt_server)
    with bridge(tmp_path_factory.mktemp("mqtt") / "bridge.log", mqtt_environment):
        yield


@pytest.fixture(autouse=True)
def named(settings) -> None:
    settings.MQTT_URL = os.environ["MOSQUITTO_URL"]


# --- What is stored -------------------------------------------------------------------------------
def test_a_message_is_stored_as_the_api_would_store_it(sensor):
    before = now_ms()
    with Mqtt(sensor) as device:
        device.submit({"a": 1, "b": "x"}, timestamp="2026-01-01T00:00:00Z", metadata={"n": 1})
        device.submit({"a": 2})
    eventually(lambda: len(stored(sensor)) == 2)
    first, second = stored(sensor)
    assert first["measurements"] == {"a": 1, "b": "x"}
    assert first["metadata"] == {"n": 1}
    assert first["timestamp"] == "2026-01-01T00:00:00.000Z"
    assert before <= parse_ms(second["timestamp"], 0) <= now_ms()
    event = EventLog.objects.filter(kind="telemetry.submitted").latest("time")
    assert event.actor == f"device:{sensor.id}"
    assert sensor.api.get("/devices/status").json["is_online"]


def test_the_commands_of_the_docs_work_as_printed(sensor):
    page = (ROOT / "docs" / "mqtt.md").read_text()
    [block] = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    configs.put(device=sensor.device, config={"every": 10}, actor="test")
    eventually(lambda: not BrokerNotice.objects.exists())
    known = {"DEVICE": str(sensor.id), "KEY": sensor.key, "MQTT_URL": os.environ["MOSQUITTO_URL"]}
    done = subprocess.run(
        ["bash", "-eu", "-c", block],
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"] == {"every": 10}
    eventually(lambda: len(stored(sensor)) == 2)
    assert [one["measurements"] for one in stored(sensor)] == [
        {"temperature": 21.7},
        {"temperature": 21.5},
    ]


def test_messages_without_a_time_have_each_their_own(sensor):
    with Mqtt(sensor, version=MQTTv311) as device:
        for n in range(60):
            device.client.publish(f"devices/{sensor.id}/telemetry", f'{{"data": {{"a": {n}}}}}', 1)
        eventually(lambda: len(stored(sensor)) == 60)
    assert values(sensor) == list(range(60))


# --- Who may --------------------------------------------------------------------------------------
class TestKeys:
    @pytest.mark.parametrize("key", ["iotd_" + "x" * 43, "nonsense", "a b\r\nX-Evil: 1"])
    def test_a_wrong_key_is_refused(self, sensor, key):
        with Mqtt(sensor, key) as device:
            assert device.refused == REFUSED

    def test_the_key_of_another_device_is_refused(self, sensor, alice, make_device):
        with Mqtt(sensor, make_device(alice).key) as device:
            assert device.refused == REFUSED

    def test_a_revoked_and_an_expired_key_are_refused(self, sensor):
        soon = timezone.now() + timedelta(seconds=2)
        _, expiring = create_key(device=sensor.device, fields={"expires_at": soon}, actor="test")
        rotate_key(device=sensor.device, actor="test", grace_seconds=0)
        with Mqtt(sensor) as device:
            assert device.refused == REFUSED
        time.sleep(2)
        with Mqtt(sensor, expiring) as device:
            assert device.refused == REFUSED

    def test_a_refused_key_is_an_event_that_names_the_client(self, sensor):
        rotate_key(device=sensor.device, actor="test")
        with Mqtt(sensor) as device:
            assert device.refused == REFUSED
        eventually(lambda: EventLog.objects.filter(kind="device.key_refused").exists())

    def test_a_connection_under_a_key_that_is_revoked_is_cut(self, sensor):
        with Mqtt(sensor) as device:
            device.submit({"a": 1})
            rotate_key(device=sensor.device, actor="test")
            eventually(lambda: device.refused == REFUSED)
            assert device.ends > 0
        again = with_another_key(sensor)
        eventually(lambda: values(again) == [1])

    def test_a_connection_ends_with_its_key(self, sensor):
        soon = timezone.now() + timedelta(seconds=2)
        _, expiring = create_key(device=sensor.device, fields={"expires_at": soon}, actor="test")
        with Mqtt(sensor, expiring) as device:
            device.submit({"a": 1})
            time.sleep(2.1)
            device.send({"data": {"a": 2}})
            eventually(lambda: device.refused == REFUSED)
        assert values(sensor) == [1]


class TestTopics:
    def test_a_device_publishes_to_no_topic_but_its_own(self, sensor, alice, make_device):
        other = make_device(alice)
        with Mqtt(sensor) as device:
            for part, of in (("telemetry", other.id), ("config", None), ("errors", other.id)):
                assert str(device.publish(part, {"data": {"a": 1}}, of=of)) == REFUSED, part
            device.submit({"a": 2})
        eventually(lambda: values(sensor) == [2])
        assert stored(other) == []

    def test_a_device_hears_nothing_but_what_is_for_it(self, sensor, alice, make_device):
        other = make_device(alice)
        with Mqtt(sensor) as device:
            assert device.hear("config") == "Granted QoS 1"
            assert device.hear("errors") == "Granted QoS 1"
            assert device.hear("telemetry") == REFUSED
            for topic in (
                *("#", "devices/#", "devices/+/config", "$SYS/#", "iotflow/kick"),
                *(f"devices/{other.id}/config", f"devices/{other.id}/errors"),
                f"$share/iotflow/devices/{sensor.id}/telemetry",
            ):
                assert device.subscribe(topic) == REFUSED, topic

    def test_a_device_cannot_say_under_which_key_or_when_it_spoke(self, sensor):
        with Mqtt(sensor) as device:
            device.publish("telemetry", {"data": {"a": 1}}, stamp="1 1000000000000")
        eventually(lambda: values(sensor) == [1])
        assert stored(sensor)[0]["timestamp"] > "2026"

    def test_a_will_is_not_taken_for_a_reading(self, sensor):
        before = counted("unattributed")
        with Mqtt(sensor, will=f"devices/{sensor.id}/telemetry") as device:
            device.client.socket().shutdown(socket.SHUT_RDWR)
            eventually(lambda: counted("unattributed") == before + 1)
        assert stored(sensor) == []


def test_over_its_limit_a_device_is_cut_off_and_loses_nothing(sensor):
    with Mqtt(sensor) as device:
        for n in range(250):
            device.send({"data": {"a": n}, "timestamp": START + n})
        eventually(lambda: len(stored(sensor)) == 250, 60)
        assert device.ends > 0
    assert values(sensor) == list(range(250))


# --- What is refused ------------------------------------------------------------------------------
BAD = [
    (b"{", "not JSON", set()),
    (b"\xff\xfe", "not JSON", set()),
    ({"data": {}}, "Not accepted", {"data"}),
    ({"data": {"a": None}}, "Not accepted", {"data.a"}),
    ({"data": {"a": 1}, "timestamp": "2126-01-01"}, "Not accepted", {"timestamp"}),
    ([], "Not accepted", {"body"}),
]


def test_what_is_wrong_is_told_and_keeps_nothing_waiting(sensor):
    before = counted("invalid")
    with Mqtt(sensor) as device:
        device.hear("errors")
        for body, _, _ in BAD:
            device.publish("telemetry", body)
        device.submit({"a": 1})
        eventually(lambda: values(sensor) == [1])
        for error, (body, text, fields) in zip(device.heard(len(BAD)), BAD, strict=True):
            assert error["error"] == "validation_error", body
            assert text in error["message"], body
            assert set(error.get("details", {})) == fields, body
            assert error["received_at"] > "2026", body
    eventually(lambda: counted("invalid") == before + len(BAD))


def test_a_device_that_is_switched_off_is_told_so(sensor):
    with Mqtt(sensor) as device:
        device.hear("errors")
        set_status(devices=[sensor.device], status="inactive", actor="test")
        device.submit({"a": 1})
        [error] = device.heard()
        assert error["error"] == "forbidden"
        set_status(devices=[sensor.device], status="maintenance", actor="test")
        device.submit({"a": 2})
        eventually(lambda: values(sensor) == [2])


# --- What devices are told ------------------------------------------------------------------------
class TestConfiguration:
    def test_it_is_there_for_a_device_that_comes_later_and_follows_it(self, sensor):
        configs.put(device=sensor.device, config={"every": 10}, actor="test")
        eventually(lambda: not BrokerNotice.objects.exists())
        with Mqtt(sensor) as device:
            device.hear("config")
            [body] = device.heard()
            assert (body["version"], body["config"]) == (1, {"every": 10})
            assert body == sensor.api.get("/devices/config").json
            assert device.got[0][2]
            configs.put(device=sensor.device, config={"every": 5}, actor="test")
            assert device.heard(2)[1]["config"] == {"every": 5}

    def test_the_broker_forgets_that_of_a_deleted_device(self, sensor, alice):
        configs.put(device=sensor.device, config={"secret": 1}, actor="test")
        eventually(lambda: not BrokerNotice.objects.exists())
        with Mqtt(sensor) as device:
            device.hear("config")
            device.heard()
            delete_devices(devices=[sensor.device], actor="test")
            eventually(lambda: device.got[-1][1] is None or device.ends > 0)
        eventually(lambda: not BrokerNotice.objects.exists())


# --- Commands -------------------------------------------------------------------------------------
class TestCommands:
    @pytest.fixture
    def give(self, alice):
        def give(thing, name="reboot"):
            answer = alice.api.post(f"/devices/{thing.id}/commands", {"name": name})
            assert answer.status == 201, answer.text
            return answer.json["command"]["id"]

        return give

    @pytest.fixture
    def status(self, alice):
        def of(command):
            return alice.api.get(f"/commands/{command}").json["command"]["status"]

        return of

    def test_one_goes_to_the_device_and_its_answer_comes_back(self, alice, sensor, give, status):
        with Mqtt(sensor) as device:
            device.hear("commands")
            command = give(sensor)
            [got] = device.heard()
            assert (got["id"], got["name"], got["times_sent"]) == (command, "reboot", 1)
            assert not device.got[0][2]
            eventually(lambda: status(command) == "sent")
            device.publish("commands/answer", {"command_id": command, "status": "acknowledged"})
            eventually(lambda: status(command) == "acknowledged")
            done = {"command_id": command, "status": "succeeded", "result": {"a": 1}}
            for _ in range(2):
                device.publish("commands/answer", done)
            eventually(lambda: status(command) == "succeeded")
        assert alice.api.get(f"/commands/{command}").json["command"]["result"] == {"a": 1}
        kinds = EventLog.objects.filter(kind__startswith="command.").order_by("time")
        assert [event.kind for event in kinds] == [
            f"command.{what}" for what in ("created", "sent", "acknowledged", "succeeded")
        ]

    def test_nobody_who_listens_is_not_sent_to_and_asks_when_it_is_there(
        self, sensor, give, status
    ):
        commands = [give(sensor, f"step {n}") for n in range(30)]
        eventually(lambda: not BrokerNotice.objects.exists())
        assert {status(command) for command in commands} == {"queued"}
        with Mqtt(sensor) as device:
            device.hear("commands")
            device.publish("commands/get", {})
            assert [got["id"] for got in device.heard(30)] == commands
            eventually(lambda: {status(command) for command in commands} == {"sent"})
            device.publish("commands/get", {})  # all of them again, though they were just sent
            assert [got["id"] for got in device.heard(60)] == commands * 2

    def test_an_answer_that_is_none_is_an_error_of_the_device(
        self, sensor, alice, make_device, give
    ):
        other = give(make_device(alice))
        with Mqtt(sensor) as device:
            device.hear("errors")
            device.publish("commands/answer", b"{")
            device.publish("commands/answer", {"command_id": other, "status": "succeeded"})
            device.publish("commands/answer", {"command_id": other, "status": "queued"})
            errors = [error["error"] for error in device.heard(3)]
        assert errors == ["validation_error", "not_found", "validation_error"]

    def test_a_device_hears_and_answers_for_itself_alone(self, sensor, alice, make_device):
        other = make_device(alice)
        with Mqtt(sensor) as device:
            assert device.subscribe(f"devices/{other.id}/commands") == REFUSED
            assert device.publish("commands", {"id": "x"}) == REFUSED
            assert device.publish("commands/other", {}) == REFUSED
            assert device.publish("commands/answer", {}, of=other.id) == REFUSED
