"""A session with an MQTT broker; the driver is known here alone.

Everything happens in the thread that calls `turn`, `acknowledge`, `deliver` or `say`. What came
under one connection cannot be acknowledged under the next, which may use its numbers for other
messages: it is forgotten with the connection, and the broker sends it again.
"""

import logging
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

logger = logging.getLogger(__name__)
PORTS = {"mqtt": 1883, "mqtts": 8883}
FOR_EVER = 0xFFFFFFFF
CONNECT_SECONDS = 2.0
PAUSE_SECONDS = 1.0
KEEPALIVE_SECONDS = 30
TAKEN_OVER = 0x8E
NO_SUBSCRIBERS = 0x10
ABOUT_ITSELF = "$SYS/"


class Message(NamedTuple):
    """What came in. `properties` are MQTT 5's user properties, the last of each name."""

    topic: str
    payload: bytes
    properties: dict[str, str]
    number: int
    qos: int


class Outgoing(NamedTuple):
    topic: str
    payload: bytes
    is_retained: bool = False


class TakenOver(Exception):
    """Somebody else has connected under this name."""


class Session:
    """A client of the broker at `mqtt://name:password@host:port`, its name being its client id.

    The broker keeps what it did not acknowledge, for ever; at most `window` messages are sent to
    it ahead of that. `inbox` holds those in their order, `about_broker` what the broker says of
    itself, by topic.
    """

    def __init__(
        self, url: str, context: ssl.SSLContext | None, topics: Sequence[str], window: int
    ) -> None:
        parts = urlsplit(url)
        self.name = unquote(parts.username or "")
        self.inbox: deque[Message] = deque()
        self.about_broker: dict[str, str] = {}
        self.is_connected = False
        self._unheard: set[int] = set()
        self._host = parts.hostname or "localhost"
        self._port = parts.port or PORTS[parts.scheme]
        self._topics = topics
        self._window = window
        self._is_taken_over = False
        self._retry_at = 0.0
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=self.name, protocol=MQTTv5, manual_ack=True
        )
        self._client.username_pw_set(self.name, unquote(parts.password or ""))
        self._client.connect_timeout = CONNECT_SECONDS
        if parts.scheme == "mqtts":
            self._client.tls_set_context(context or ssl.create_default_context())
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.on_publish = self._published

    def turn(self, seconds: float) -> None:
        """Send and receive what there is, waiting for so long at most; connect where it is lost.

        Raises TakenOver.
        """
        if self._client.socket() is None:
            self._connect_again(seconds)
            return
        self._client.loop(seconds)
        before = -1
        while before < len(self.inbox) < self._window and self._client.socket() is not None:
            before = len(self.inbox)
            self._client.loop_read()  # a packet, where one is there
        if self._is_taken_over:
            raise TakenOver(f"Another client of the broker is called {self.name}.")

    def acknowledge(self, count: int) -> None:
        """Tell the broker that the first `count` messages of the inbox need not come again."""
        for _ in range(count):
            if not self.inbox:  # with the connection
                return
            message = self.inbox.popleft()
            if message.qos:
                self._client.ack(message.number, message.qos)

    def deliver(self, messages: Iterable[Outgoing], seconds: float) -> list[bool] | None:
        """For each whether somebody has subscribed to its topic, once the broker acknowledged all
        of them; None where it did not in time, though it may have some.
        """
        if not self.is_connected:
            return None
        self._unheard.clear()
        sent = [
            self._client.publish(one.topic, one.payload, qos=1, retain=one.is_retained)
            for one in messages
        ]
        if any(info.rc for info in sent):  # the connection has just ended
            return None
        deadline = time.monotonic() + seconds
        while not all(info.is_published() for info in sent):
            if not self.is_connected or time.monotonic() > deadline:
                return None
            self.turn(0.05)
        return [info.mid not in self._unheard for info in sent]

    def say(self, message: Outgoing) -> None:
        """Send it once, to whoever listens."""
        self._client.publish(message.topic, message.payload, qos=0)

    def refuse_more(self) -> None:
        """Have the broker send what waits already, and nothing that comes from now on."""
        self._client.unsubscribe(list(self._topics))

    def close(self, *, is_final: bool = False) -> None:
        """Disconnect; where it is final, the broker forgets the session."""
        properties = Properties(PacketTypes.DISCONNECT)
        if is_final:
            properties.SessionExpiryInterval = 0
        with suppress(OSError):
            self._client.disconnect(properties=properties)
            self._client.loop(0.1)

    def _connect_again(self, seconds: float) -> None:
        wait = self._retry_at - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, seconds))
            return
        self._retry_at = time.monotonic() + PAUSE_SECONDS
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = FOR_EVER
        properties.ReceiveMaximum = self._window
        try:
            self._client.connect(
                self._host,
                self._port,
                KEEPALIVE_SECONDS,
                clean_start=False,
                properties=properties,
            )
        except OSError as error:
            logger.warning("The broker at %s:%d: %s", self._host, self._port, error)

    # --- What the driver calls --------------------------------------------------------------------
    def _connected(
        self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            logger.error("The broker refuses %s: %s", self.name, reason)
            return
        self.is_connected = True
        client.subscribe([(topic, 1) for topic in self._topics])
        logger.info("Connected to the broker at %s:%d as %s", self._host, self._port, self.name)

    def _disconnected(
        self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self.inbox.clear()
        if self.is_connected:
            logger.warning("The connection to the broker has ended: %s", reason)
        self.is_connected = False
        self._is_taken_over = reason.value == TAKEN_OVER

    def _published(
        self, client: Client, userdata: Any, number: int, reason: Any, properties: Any
    ) -> None:
        if reason.value == NO_SUBSCRIBERS:
            self._unheard.add(number)
        elif reason.is_failure:  # it is too large, say, and would be another time
            logger.error("The broker does not take a message of %s: %s", self.name, reason)

    def _received(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if message.topic.startswith(ABOUT_ITSELF):
            self.about_broker[message.topic] = message.payload.decode("utf-8", "replace")
            return
        if not message.qos and len(self.inbox) >= self._window:
            return  # of these the broker sends any number, and nobody was promised one
        pairs = getattr(message.properties, "UserProperty", [])
        self.inbox.append(
            Message(message.topic, bytes(message.payload), dict(pairs), message.mid, message.qos)
        )
