"""Devices, a bridge and the broker, as tests of MQTT use them."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.services import create_key
from iotflow.lib.child import Child
from telemetry.mqtt import figures
from tests.api import Api, Something
from tests.services import control, eventually

SERVICES = Path(os.environ.get("SERVICES_CONTROL", "/nowhere/deploy/x")).parent.parent / ".services"
REFUSED = "Not authorized"
START = 1_764_460_800_000  # ms, of the readings that have times of their own
PORT = int(os.environ.get("MOSQUITTO_URL", ":0").rsplit(":", 1)[1])


def restart_broker(asked: str) -> None:
    """A broker that knows nothing, and asks the server at this address for keys."""
    control("kill", "mosquitto")
    (SERVICES / "data" / "mosquitto" / "mosquitto.db").unlink(missing_ok=True)
    os.environ["MOSQUITTO_ASKS"] = f"{asked}/api/v1/devices/credentials"
    control("start", "mosquitto")


def stored(device: Something) -> list[dict[str, Any]]:
    """The readings of a device, oldest first."""
    answer = device.api.get(
        f"/telemetry/{device.id}", start_time="2020-01-01", order="asc", limit=1000
    )
    assert answer.status == 200, answer.text
    return answer.json["data"]


def values(device: Something) -> list[Any]:
    """What they say of `a`."""
    return [reading["measurements"]["a"] for reading in stored(device)]


def with_another_key(device: Something) -> Something:
    _, key = create_key(device=device.device, fields={}, actor="test")
    return Something(device.device, key, Api(key=key))


def counted(outcome: str) -> int:
    """So many messages has the bridge counted so."""
    return sum(one.settled.get(outcome, 0) for one in figures.bridges().values())


@contextmanager
def bridge(log: Path, environment: dict[str, str], *options: str) -> Iterator[Child]:
    """A bridge that is connected inside, and gone after."""
    command = [sys.executable, "manage.py", "mqtt_bridge", *options]
    child = Child("bridge", command, log, environment)
    try:
        eventually(lambda: "Connected to the broker" in log.read_text() or not child.is_alive, 60)
        assert child.is_alive, child.obituary()
        yield child
    finally:
        child.stop()


class Mqtt:
    """A client of the broker; by default what a device is, under its number and key."""

    def __init__(
        self,
        device: Something,
        key: str | None = None,
        *,
        name: str | None = None,
        version: int = MQTTv5,
        will: str | None = None,
    ) -> None:
        self.id = device.id
        self.refused = ""
        self.ends = 0
        self.got: list[tuple[str, Any, bool]] = []  # topic, JSON, whether it was retained
        self._granted: list[Any] = []
        self._sent: list[Any] = []
        self._acknowledged: dict[int, Any] = {}
        self._answered = threading.Event()
        self.client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=str(device.id), protocol=version
        )
        client.username_pw_set(name or str(device.id), key or device.key)
        if will:
            client.will_set(will, b'{"data": {"a": 666}}', qos=1)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_subscribe = lambda *call: self._granted.extend(call[3])
        client.on_publish = lambda *call: self._acknowledged.update({call[2]: call[3]})
        client.connect_async("127.0.0.1", PORT)

    def __enter__(self) -> "Mqtt":
        self.client.loop_start()
        assert self._answered.wait(20), "the broker does not answer"
        return self

    def __exit__(self, *error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def submit(self, values: dict[str, Any], **fields: Any) -> Any:
        """Publish a reading; the broker's reason code, once it has acknowledged it."""
        return self.publish("telemetry", {"data": values, **fields})

    def publish(
        self, part: str, body: Any, *, of: int | None = None, stamp: str = "", retain: bool = False
    ) -> Any:
        properties = None
        if stamp:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("iotflow", stamp)
        payload = body if isinstance(body, bytes) else json.dumps(body)
        topic = f"devices/{of or self.id}/{part}"
        info = self.client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        eventually(lambda: info.mid in self._acknowledged)
        return self._acknowledged[info.mid]

    def send(self, body: Any) -> None:
        """Publish, and do not wait."""
        topic, payload = f"devices/{self.id}/telemetry", json.dumps(body)
        self._sent.append(self.client.publish(topic, payload, qos=1))

    @property
    def has_sent_all(self) -> bool:
        return all(info.is_published() for info in self._sent)

    def hear(self, part: str) -> str:
        """Subscribe to something of this device's; what the broker says to it."""
        return self.subscribe(f"devices/{self.id}/{part}")

    def subscribe(self, topic: str) -> str:
        self._granted.clear()
        self.client.subscribe(topic, qos=1)
        eventually(lambda: bool(self._granted))
        return str(self._granted[0])

    def heard(self, count: int = 1) -> list[Any]:
        """The messages, when so many have come."""
        eventually(lambda: len(self.got) >= count)
        return [body for _, body, _ in self.got]

    def _connected(self, client, userdata, flags, reason, properties) -> None:
        self.refused = str(reason) if reason.is_failure else ""
        self._answered.set()

    def _disconnected(self, *call: Any) -> None:
        self.ends += 1
        self._answered.set()

    def _received(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        body = json.loads(message.payload) if message.payload else None
        self.got.append((message.topic, body, message.retain))


@contextmanager
def connected(devices: Sequence[Something]) -> Iterator[list[Mqtt]]:
    """All of them at once."""
    clients = [Mqtt(device) for device in devices]
    try:
        for client in clients:
            client.client.loop_start()
        eventually(lambda: all(client.client.is_connected() for client in clients), 60)
        yield clients
    finally:
        for client in clients:
            client.__exit__()
