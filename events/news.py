"""What goes to the channels of those who listen to the event log, when it has an event."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from events.kinds import MASS
from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import News
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import format_datetime, to_ms

logger = logging.getLogger(__name__)
# Subjects of channels, beside the ids of devices: kinds that come by the thousand, and all others.
MASSES, OTHERS = -2, -1
# A listener waits for longer than this before it reads the store, so that every writer knows of it.
KNOWN_SECONDS = 1.0


class Ears:
    """Whether anybody listens, asked once in KNOWN_SECONDS; and what Redis may have missed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._heard: frozenset[int] = frozenset()
        self._missed: set[int] = set()

    def heard(self, client: Any) -> frozenset[int]:
        now = time.monotonic()
        if now >= self._until:
            with client.pipeline(transaction=False) as pipe:
                channels.ask(pipe, (MASSES, OTHERS))
                [answers] = pipe.execute()
            pairs = zip((MASSES, OTHERS), answers, strict=True)
            self._heard = frozenset(subject for subject, names in pairs if names)
            self._until = now + KNOWN_SECONDS
        return self._heard

    def missed(self, subjects: set[int]) -> None:
        with self._lock:
            self._missed |= subjects

    def interruptions(self) -> list[News]:
        """One for each subject of which something was missed; they are said once."""
        with self._lock:
            missed, self._missed = self._missed, set()
        return [channels.interruption(subject) for subject in sorted(missed)]


ears = Ears()


def subject_of(kind: str) -> int:
    return MASSES if kind in MASS else OTHERS


def tell(documents: Sequence[Mapping[str, Any]]) -> None:
    """Send these on, where anybody listens. Never fails: what is missed is said later."""
    subjects = {subject_of(document["kind"]) for document in documents}
    try:
        with redis() as client:
            heard = ears.heard(client) & subjects
            if heard:
                news = [_news(one) for one in documents if subject_of(one["kind"]) in heard]
                channels.tell(client, [*ears.interruptions(), *news])
    except StoreAway:
        ears.missed(subjects)


def _news(document: Mapping[str, Any]) -> News:
    time = datetime.fromisoformat(document["time"])
    return News(subject_of(document["kind"]), to_ms(time), body(document, time))


def body(event: Mapping[str, Any], time: datetime) -> bytes:
    """An event as staff see it; the same bytes, wherever it was read."""
    return json.dumps(
        {
            "id": str(event["id"]),
            "time": format_datetime(time),
            **{name: event[name] for name in NAMES},
        }
    )


NAMES = (
    *("kind", "severity", "message", "actor", "user_id", "device_id", "address", "request_id"),
    "payload",
)
