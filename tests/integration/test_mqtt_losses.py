"""Broker, bridge and stores are killed: what devices have published is stored, and once."""

import os
import signal
import time
from contextlib import ExitStack, suppress

import pytest
from django.db import DatabaseError

from devices import configs
from devices.models import BrokerNotice
from devices.services import revoke_key
from events.models import EventLog, Outbox
from telemetry.mqtt import figures
from tests.mqtt import (
    SERVICES,
    START,
    Mqtt,
    bridge,
    connected,
    counted,
    restart_broker,
    stored,
    values,
    with_another_key,
)
from tests.server import running
from tests.services import control, eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def broker(mqtt_server, settings) -> None:
    """One that knows nothing."""
    settings.MQTT_URL = os.environ["MOSQUITTO_URL"]
    restart_broker(mqtt_server)


@pytest.fixture
def environment(mqtt_environment) -> dict[str, str]:
    return mqtt_environment


def events_taken(device) -> set[str]:
    """Ids of the events of its submissions, which are removed here: ten thousand at the end of a
    test are too many for one answer of the event log.
    """
    events = EventLog.objects.filter(device_id=device.id, kind="telemetry.submitted")
    ids = {str(one) for one in answered(lambda: list(events.values_list("pk", flat=True)))}
    answered(events.delete)
    return ids


def answered(ask):
    """What the event log says to it, when it does: it has much to do then."""
    answers = []

    def has_answered() -> bool:
        with suppress(DatabaseError):
            answers.append(ask())
        return bool(answers)

    eventually(has_answered)
    return answers[0]


def test_ten_thousand_messages_are_stored_once_though_bridge_and_cassandra_are_killed(
    environment, tmp_path, alice, make_device
):
    """Half of them bring their time; half are given one by the broker."""
    devices = [make_device(alice) for _ in range(100)]
    with bridge(tmp_path / "first.log", environment) as first, connected(devices) as clients:

        def publish(rounds: range) -> None:
            for n in rounds:
                for place, client in enumerate(clients):
                    body = {"data": {"a": n}} | (
                        {"timestamp": START + 1000 * n} if place % 2 else {}
                    )
                    client.send(body)
                time.sleep(0.05)

        publish(range(30))
        os.kill(first.pid, signal.SIGKILL)
        publish(range(30, 40))
        with bridge(tmp_path / "second.log", environment):
            publish(range(40, 60))
            control("kill", "cassandra")
            publish(range(60, 80))
            control("start", "cassandra")
            publish(range(80, 100))
            eventually(lambda: all(len(stored(device)) >= 100 for device in devices), 120)
            eventually(lambda: sum(one.held for one in figures.bridges().values()) == 0)
            eventually(lambda: all(client.has_sent_all for client in clients))
    for place, device in enumerate(devices):
        assert values(device) == list(range(100)), f"device {place}"
    waiting = {str(row.event_id) for row in Outbox.objects.all()}
    assert len(waiting.union(*map(events_taken, devices))) == 10_000
    assert figures.bridges()["bridge"].retries > 0


def test_what_waits_at_the_broker_outlives_the_end_of_it(environment, tmp_path, sensor):
    """Half of it is with the bridge that is killed, half was never sent to one."""
    slow = environment | {"MQTT_WINDOW": "5"}
    with bridge(tmp_path / "first.log", slow) as first, Mqtt(sensor) as device:
        os.kill(first.pid, signal.SIGSTOP)
        for n in range(10):
            device.submit({"a": n})
        os.kill(first.pid, signal.SIGKILL)
    control("halt", "mosquitto")
    control("start", "mosquitto")
    assert stored(sensor) == []
    with bridge(tmp_path / "second.log", environment):
        eventually(lambda: values(sensor) == list(range(10)))


def test_nobody_is_let_in_before_a_bridge_takes_what_they_say(environment, tmp_path, sensor):
    device = Mqtt(sensor)
    with device:
        time.sleep(1)
        assert not device.client.is_connected()
        assert device.refused == ""
        with bridge(tmp_path / "bridge.log", environment):
            eventually(device.client.is_connected)
            device.submit({"a": 1})
            eventually(lambda: values(sensor) == [1])


def test_without_the_server_nobody_is_let_in_and_whoever_is_in_goes_on(
    environment, tmp_path, sensor, alice, make_device
):
    with ExitStack() as there:
        with running(tmp_path / "server.log", environment) as url:
            restart_broker(url)
            there.enter_context(bridge(tmp_path / "bridge.log", environment))
            early = there.enter_context(Mqtt(sensor))
        late = there.enter_context(Mqtt(make_device(alice)))
        early.submit({"a": 1})
        eventually(lambda: values(sensor) == [1])
        assert not late.client.is_connected()
        assert late.refused == ""  # which would be for good


def test_what_came_under_a_key_that_had_ended_is_not_stored(environment, tmp_path, sensor):
    """The bridge is away, so nothing cuts the connection."""
    with bridge(tmp_path / "first.log", environment):
        pass
    with Mqtt(sensor) as device:
        device.submit({"a": 1})
        revoke_key(api_key=sensor.device.keys.get(), actor="test")
        time.sleep(0.01)
        device.submit({"a": 2})
        with bridge(tmp_path / "second.log", environment):
            eventually(lambda: counted("key_ended") == 1)
    assert values(with_another_key(sensor)) == [1]


def test_a_configuration_waits_for_a_broker_that_is_away(environment, tmp_path, sensor):
    with bridge(tmp_path / "bridge.log", environment):
        control("kill", "mosquitto")
        configs.put(device=sensor.device, config={"every": 10}, actor="test")
        time.sleep(2)
        assert BrokerNotice.objects.exists()
        control("start", "mosquitto")
        eventually(lambda: not BrokerNotice.objects.exists())
        with Mqtt(sensor) as device:
            device.hear("config")
            assert [body["version"] for body in device.heard()] == [1]


def test_no_key_is_in_what_the_broker_writes(environment, tmp_path, sensor):
    with bridge(tmp_path / "bridge.log", environment):
        with Mqtt(sensor) as device:
            device.submit({"a": 1})
        with Mqtt(sensor, wrong := "iotd_" + "w" * 43):
            pass
        eventually(lambda: values(sensor) == [1])
        control("halt", "mosquitto")
        written = (SERVICES / "logs" / "mosquitto.log").read_bytes()
        written += (SERVICES / "data" / "mosquitto" / "mosquitto.db").read_bytes()
        control("start", "mosquitto")
    assert b"bridge" in written
    for secret in (sensor.key, wrong):
        assert secret.encode() not in written


def test_a_bridge_that_leaves_stores_what_waits_and_is_forgotten(environment, tmp_path, sensor):
    with bridge(tmp_path / "first.log", environment) as first, Mqtt(sensor) as device:
        first.stop()
        device.submit({"a": 1})
        with bridge(tmp_path / "second.log", environment, "--leave") as leaving:
            eventually(lambda: not leaving.is_alive, 60)
        assert values(sensor) == [1]
        assert str(device.submit({"a": 2})) == "No matching subscribers"
