"""What goes to the channels of those who listen to the event log, when it has an event."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from events.kinds import MASS
from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import News
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import format_datetime, to_ms

# Subjects of channels, beside those of devices: kinds that come by the thousand, and all others.
MASSES, OTHERS = -2, -1
# A listener waits for longer than this before it reads the store, so that every writer knows of it.
KNOWN_SECONDS = 1.0
NAMES = (
    *("kind", "severity", "message", "actor", "user_id", "device_id", "address", "request_id"),
    "payload",
)


class Ears:
    """Which subjects have listeners, asked once in KNOWN_SECONDS; and of which some was missed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._heard: frozenset[int] = frozenset()
        self._missed: frozenset[int] = frozenset()

    def heard(self) -> frozenset[int]:
        """Raises StoreAway."""
        now = time.monotonic()
        if now >= self._until:
            with redis() as client, client.pipeline(transaction=False) as pipe:
                channels.ask(pipe, (MASSES, OTHERS))
                [answers] = pipe.execute()
            pairs = zip((MASSES, OTHERS), answers, strict=True)
            self._heard = frozenset(subject for subject, names in pairs if names)
            self._until = now + KNOWN_SECONDS
        return self._heard

    def missed(self, subjects: Iterable[int]) -> None:
        with self._lock:
            self._missed = self._missed.union(subjects)

    def take_missed(self) -> frozenset[int]:
        with self._lock:
            taken, self._missed = self._missed, frozenset()
        return taken


ears = Ears()


def subject_of(kind: str) -> int:
    return MASSES if kind in MASS else OTHERS


def tell(documents: Sequence[Mapping[str, Any]]) -> None:
    """Send these on, where anybody listens. Never fails: what is missed is said later."""
    lost: frozenset[int] = frozenset()
    try:
        if not (heard := ears.heard()):
            return
        if news := [_news(one) for one in documents if subject_of(one["kind"]) in heard]:
            lost = ears.take_missed()
            with redis() as client:
                channels.tell(client, [*map(channels.interruption, lost), *news])
    except StoreAway:
        ears.missed(lost)
        missed(documents)


def missed(documents: Sequence[Mapping[str, Any]]) -> None:
    """Any of these may be in the event log without that anybody was told."""
    ears.missed(subject_of(document["kind"]) for document in documents)


def _news(document: Mapping[str, Any]) -> News:
    moment = datetime.fromisoformat(document["time"])
    text = json.dumps(body(document, moment))
    return News(subject_of(document["kind"]), to_ms(moment), text)


def body(event: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """An event as staff see it: the same, wherever it was read."""
    fields = {name: event[name] for name in NAMES}
    return {"id": str(event["id"]), "time": format_datetime(moment), **fields}
