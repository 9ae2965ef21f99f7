"""How readings get in: group commit.

Request threads hand their submissions to one committer thread. It takes whatever has gathered,
writes it as one group and answers all of them; while it writes, the next group gathers. There is
no timer, so a lone request waits for nobody.

For a group: times for those that have none → the store, which must succeed → Redis in one
pipeline, which may fail → the event log or its outbox, one of which must succeed → the answers.
"""

import hashlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections

from devices import presence
from devices.key_cache import DeviceRecord
from events import log
from events.context import Origin, origin
from events.kinds import Kind
from iotflow.lib import counters, json
from iotflow.lib.errors import StoreAway, as_store_away
from iotflow.lib.redis import redis, shared
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry import clock, latest
from telemetry.readings import Reading, Value, newest
from telemetry.stores import Refused, telemetry_store

logger = logging.getLogger(__name__)
EVENT_NAMESPACE = uuid.UUID("7c0c9c4e-7b1c-4a5f-9a3e-4d8f0d6f2b11")
DIRTY_MAX = 10_000
REPAIR_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Submission:
    """One message of a device, checked; `time` is None where the server is to give one."""

    device: DeviceRecord
    values: Mapping[str, Value]
    metadata: Mapping[str, Any] | None = None
    time: int | None = None
    origin: Origin = field(default_factory=origin)


def submit(submission: Submission) -> int:
    """Store the submission durably, with its event; the time in ms it is stored under.

    Raises StoreAway when that cannot be promised within INGEST_WAIT_MS, Refused when the store
    refuses this very reading. Submitting it again with the same time is safe either way; what was
    not answered in time may be stored all the same.
    """
    return committer().submit(submission)


class Committer:
    """One thread and a bounded queue. `submit` from any thread."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Submission, Future[int]]] = deque()
        self._wake = threading.Condition()
        self._dirty: set[latest.Place] = set()
        self._written = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, submission: Submission) -> int:
        answer: Future[int] = Future()
        with self._wake:
            if not self.is_alive or len(self._queue) >= settings.INGEST_QUEUE:
                raise StoreAway("The ingest queue")
            self._queue.append((submission, answer))
            self._wake.notify()
        try:
            return answer.result(timeout=settings.INGEST_WAIT_MS / 1000)
        except FutureTimeout as error:
            answer.cancel()  # what is still queued need not be written any more
            raise StoreAway("The telemetry store") from error

    def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (group := self._gather()) is not None:
            close_old_connections()
            if group:
                self._commit(group)
            else:
                self._repair()
            close_old_connections()
        connections.close_all()

    def _gather(self) -> list[tuple[Submission, Future[int]]] | None:
        """What has gathered, up to INGEST_GROUP messages and INGEST_GROUP_VALUES values.

        Empty when only repairs wait; None at the end.
        """
        with self._wake:
            while not self._queue and not self._stopping:
                if not self._wake.wait(REPAIR_SECONDS if self._dirty else None) and self._dirty:
                    return []
            if not self._queue:
                return None
            taken = [self._queue.popleft()]
            values = len(taken[0][0].values)
            while self._queue and len(taken) < settings.INGEST_GROUP:
                values += len(self._queue[0][0].values)
                if values > settings.INGEST_GROUP_VALUES:
                    break
                taken.append(self._queue.popleft())
        return [item for item in taken if item[1].set_running_or_notify_cancel()]

    def _commit(self, group: Sequence[tuple[Submission, Future[int]]]) -> None:
        try:
            readings = self._readings([submission for submission, _ in group])
            stored = self._store(group, readings)
            self._update_redis(*zip(*stored, strict=True) if stored else ([], []))
            log.submitted([_event(submission, reading) for submission, reading in stored])
        except Exception as error:
            failure: Exception | None = as_store_away(error)
            if failure is None:
                logger.exception("a group of %d submissions failed", len(group))
                failure = StoreAway("The telemetry store")
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(failure)
            return
        for (_, answer), reading in zip(group, readings, strict=True):
            if not answer.done():
                answer.set_result(reading.time)

    def _readings(self, submissions: Sequence[Submission]) -> list[Reading]:
        given = iter(clock.give([s.device.id for s in submissions if s.time is None]))
        return [
            Reading(
                device_id=submission.device.id,
                owner_id=submission.device.owner_id,
                time=next(given) if submission.time is None else submission.time,
                written=self._next_written(),
                values=submission.values,
                metadata=submission.metadata,
                latest_epoch=submission.device.latest_epoch,
            )
            for submission in submissions
        ]

    def _next_written(self) -> int:
        self._written = max(self._written + 1, time.time_ns() // 1000)
        return self._written

    def _store(
        self, group: Sequence[tuple[Submission, Future[int]]], readings: Sequence[Reading]
    ) -> list[tuple[Submission, Reading]]:
        """Write the group; if one of it is refused, each alone. Those that are stored."""
        pairs = [
            (submission, reading) for (submission, _), reading in zip(group, readings, strict=True)
        ]
        store = telemetry_store()
        try:
            store.write(readings)
            return pairs
        except Refused as error:
            if len(group) == 1:
                group[0][1].set_exception(error)
                return []
        stored = []
        for (_, answer), pair in zip(group, pairs, strict=True):
            try:
                store.write([pair[1]])
                stored.append(pair)
            except Refused as error:
                answer.set_exception(error)
        return stored

    def _update_redis(self, submissions: Sequence[Submission], readings: Sequence[Reading]) -> None:
        """Latest values and presence, in one pipeline. What Redis misses is repaired later."""
        values = newest(readings)
        devices = [submission.device for submission in submissions]
        counters.count("messages", len(submissions))
        counters.count("readings", len(readings))
        counters.count("values", sum(len(reading.values) for reading in readings))
        try:
            with (
                redis() as client,
                client.pipeline(transaction=False) as pipe,
                counters.sending(pipe),
            ):
                latest.forget(pipe, self._dirty)
                if devices:
                    latest.add_newest(pipe, values)
                    presence.add_touches(pipe, devices, now_ms())
                pipe.execute()
            self._dirty.clear()
            if not shared():  # nobody else sees it there, and it ends with this process
                self._save_presence(devices)
        except StoreAway:
            if len(self._dirty) < DIRTY_MAX:
                self._dirty.update(values)
            self._save_presence(devices)

    def _repair(self) -> None:
        try:
            self._update_redis([], [])
        except Exception:  # whatever it is, the thread that commits must not end of it
            logger.exception("repairing what Redis missed failed")

    def _save_presence(self, devices: Sequence[DeviceRecord]) -> None:
        try:
            presence.save_touches(devices)
        except DatabaseError:
            logger.warning("neither Redis nor the database took when devices were last seen")


_committer: Committer | None = None
_committer_lock = threading.Lock()


def committer() -> Committer:
    """The committer of this process, started when first needed."""
    global _committer
    if _committer is None:
        with _committer_lock:
            if _committer is None:
                _committer = Committer()
    return _committer


def _event(submission: Submission, reading: Reading) -> dict[str, Any]:
    """What the event log says of a submission; the same submission again is the same event."""
    names = sorted(reading.values)
    content = json.dumps([sorted(reading.values.items()), reading.metadata])
    digest = hashlib.sha256(content).hexdigest()
    return log.event(
        uuid.uuid5(EVENT_NAMESPACE, f"{reading.device_id}:{reading.time}:{digest}"),
        Kind.TELEMETRY_SUBMITTED,
        f"{submission.device.name} submitted {len(names)} measurement(s)",
        actor=f"device:{reading.device_id}",
        user_id=reading.owner_id,
        device_id=reading.device_id,
        payload={"timestamp": format_ms(reading.time), "measurements": names},
        origin=submission.origin,
    )
