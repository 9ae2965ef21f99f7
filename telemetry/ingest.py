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
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections

from devices.key_cache import DeviceRecord
from events import log
from events.context import Origin, origin
from events.kinds import Kind
from iotflow.lib import counters, json
from iotflow.lib.errors import StoreAway, as_store_away
from iotflow.lib.timeparse import format_ms
from telemetry import clock, commit
from telemetry.commit import missed
from telemetry.readings import Reading, Value

logger = logging.getLogger(__name__)
EVENT_NAMESPACE = uuid.UUID("7c0c9c4e-7b1c-4a5f-9a3e-4d8f0d6f2b11")
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
                if not self._wake.wait(REPAIR_SECONDS) and missed:
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
            readings = _readings([submission for submission, _ in group])
            refusals = commit.store(readings)
            stored = []
            for (submission, answer), reading, refusal in zip(
                group, readings, refusals, strict=True
            ):
                if refusal is None:
                    stored.append((submission, reading))
                else:
                    answer.set_exception(refusal)
            counters.count("messages", len(stored))
            commit.publish([reading for _, reading in stored], [s.device for s, _ in stored])
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

    def _repair(self) -> None:
        try:
            commit.publish([])
        except Exception:  # whatever it is, the thread that commits must not end of it
            logger.exception("repairing what Redis missed failed")


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


def _readings(submissions: Sequence[Submission]) -> list[Reading]:
    given = iter(clock.give([s.device.id for s in submissions if s.time is None]))
    return [
        Reading(
            device_id=submission.device.id,
            owner_id=submission.device.owner_id,
            time=next(given) if submission.time is None else submission.time,
            written=clock.written(),
            values=submission.values,
            metadata=submission.metadata,
            latest_epoch=submission.device.latest_epoch,
            device_type=submission.device.device_type,
        )
        for submission in submissions
    ]


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
