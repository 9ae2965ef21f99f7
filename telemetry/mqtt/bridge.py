"""What `manage.py mqtt_bridge` does: a loop of one thread, besides the committer's.

A message is acknowledged to the broker when it is stored, or when it never will be. What is held
meanwhile is bounded by the window that the broker keeps to; all else waits at the broker. So a
bridge may be killed at any time: what it had not acknowledged comes again, and is stored under the
same time, hence once.
"""

import logging
import threading
import time
from collections.abc import Callable
from itertools import islice

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections

from iotflow.lib.errors import StoreAway
from iotflow.lib.mqtt import Message, Outgoing, Session
from telemetry.mqtt import announcing, arrivals, figures
from telemetry.mqtt.arrivals import Refusal
from telemetry.mqtt.figures import Figures

logger = logging.getLogger(__name__)
# Shared: each message goes to one of the bridges.
DROPPED = "$SYS/broker/publish/messages/dropped"
TOPICS = ("$share/iotflow/devices/+/telemetry", "$share/iotflow/devices/+/commands/+", DROPPED)
WAIT_SECONDS = 0.2
ANNOUNCE_SECONDS = 1.0
NOTE_SECONDS = 2.0
PAUSE_MIN, PAUSE_MAX = 0.25, 5.0
QUIET_SECONDS = 5.0


class Bridge:
    """Between the broker that MQTT_URL names and the stores. `run` until `stop`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stop = threading.Event()
        self._figures = Figures()
        self._pause = 0.0
        self._retry_at = 0.0
        self._due: dict[Callable[[], None], float] = {}

    def stop(self) -> None:
        """From any thread, or a handler of a signal."""
        self._stop.set()

    def run(self) -> None:
        """Raises TakenOver where another bridge of this name has connected."""
        while not self._stop.is_set():
            self._turn()
        self._session.close()
        self._note()

    def leave(self) -> None:
        """Take no more than what waits at the broker already, and have it forget the session."""
        quiet_since = time.monotonic()
        has_refused = False
        while not self._stop.is_set() and time.monotonic() - quiet_since < QUIET_SECONDS:
            self._turn()
            if self._session.is_connected and not has_refused:
                self._session.refuse_more()
                has_refused = True
            if self._session.inbox or not self._session.is_connected:
                quiet_since = time.monotonic()
        self._session.close(is_final=not self._stop.is_set())

    def _turn(self) -> None:
        waits = max(0.0, self._retry_at - time.monotonic()) if self._session.inbox else WAIT_SECONDS
        self._session.turn(min(WAIT_SECONDS, waits))
        close_old_connections()
        if self._session.inbox and time.monotonic() >= self._retry_at:
            self._settle()
        self._every(ANNOUNCE_SECONDS, self._announce)
        self._every(NOTE_SECONDS, self._note)

    def _settle(self) -> None:
        """Store what has gathered, and acknowledge it in its order, as far as it is settled."""
        batch = list(islice(self._session.inbox, settings.INGEST_GROUP))
        try:
            verdicts = arrivals.settle(batch)
        except (StoreAway, OperationalError, InterfaceError) as error:
            self._later(error)
            return
        settled = 0
        for message, verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, StoreAway):
                self._later(verdict)
                break
            self._count("stored" if verdict is None else verdict.reason)
            if verdict is not None:
                self._tell(message, verdict)
            settled += 1
        else:
            self._pause = 0.0
        self._session.acknowledge(settled)

    def _later(self, error: Exception) -> None:
        if not self._pause:
            logger.warning("Messages wait: %s", error)
        self._pause = min(PAUSE_MAX, max(PAUSE_MIN, 2 * self._pause))
        self._retry_at = time.monotonic() + self._pause
        self._figures.retries += 1

    def _tell(self, message: Message, refusal: Refusal) -> None:
        """The device, if it listens."""
        if found := arrivals.TOPIC.fullmatch(message.topic):
            topic = f"devices/{found[1]}/errors"
            self._session.say(Outgoing(topic, arrivals.told(refusal, message)))

    def _announce(self) -> None:
        try:
            while self._session.is_connected and announcing.announce(self._session):
                pass
        except (StoreAway, DatabaseError) as error:
            logger.info("notices for the broker wait: %s", error)

    def _note(self) -> None:
        dropped = self._session.about_broker.get(DROPPED, "0")
        self._figures.dropped = int(dropped) if dropped.isdecimal() else 0
        self._figures.is_connected = self._session.is_connected
        self._figures.held = len(self._session.inbox)
        figures.note(self._session.name, self._figures)

    def _count(self, outcome: str) -> None:
        self._figures.settled[outcome] = self._figures.settled.get(outcome, 0) + 1

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        if time.monotonic() >= self._due.get(act, 0.0):
            act()
            self._due[act] = time.monotonic() + seconds
