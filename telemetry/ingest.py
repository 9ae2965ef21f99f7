"""How readings get in: group commit.

Request threads hand their submissions to the committer. It takes whatever has gathered, writes it
as one group and answers all of them; while it writes, the next group gathers. There is no timer, so
a lone request waits for nobody. INGEST_THREADS groups may be under way at once: while one waits for
Cassandra, another one waits for the event log.

For a group: keys and limits, where they were not looked at before → times for those that have none
→ the store, which must succeed → Redis in one pipeline, which may fail → the event log or its
outbox, one of which must succeed → what the rules of alerts have to say, which waits where it
cannot be decided now → the answers.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import repeat
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from django.conf import settings
from django.db import close_old_connections, connections

from devices import admission
from devices.admission import Admission, Claim
from devices.key_cache import DeviceRecord
from events import log
from events.context import NOWHERE, Origin
from events.kinds import Kind
from iotflow.lib import counters, json, tracing
from iotflow.lib.errors import StoreAway, as_store_away
from iotflow.lib.metrics import SIZES, Counter, Figure, Histogram
from iotflow.lib.ratelimit import State
from iotflow.lib.throttles import refused
from iotflow.lib.timeparse import format_ms
from telemetry import clock, commit
from telemetry.alerting import book
from telemetry.alerting.evaluation import decide, evaluation
from telemetry.commit import missed
from telemetry.readings import Reading, Value
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
REPAIR_SECONDS = 1.0
SHAKY = 3  # INGEST_WAIT_MS is divided by it where the store is shaky
GROUP_SIZE = Histogram("iotflow_group_submissions", "Submissions written together.", bounds=SIZES)
GROUP_SECONDS = Histogram("iotflow_group_seconds", "How long a group took, from keys to events.")
UNSTORED = Counter(
    "iotflow_submissions_unstored_total", "Submissions answered 503, by why.", ("reason",)
)


class NotKnown(Exception):
    """The claim does not hold: the key's device has changed, or nobody can tell."""


class Submission(NamedTuple):
    """One message of a device, checked; `time` is None where the server is to give one.

    With a `claim`, its key is looked at and its limits are charged with those of its group.
    `origin` is what asked for it.
    """

    device: DeviceRecord
    values: Mapping[str, Value]
    metadata: Mapping[str, Any] | None = None
    time: int | None = None
    claim: Claim | None = None
    origin: Origin = NOWHERE


class Receipt(NamedTuple):
    """The time in ms a message is stored under, and how the limits stand that it was charged."""

    time: int
    states: Sequence[State] = ()


def submit(submission: Submission) -> Receipt:
    """Store the submission durably, with its event.

    Raises StoreAway when that cannot be promised within INGEST_WAIT_MS, Refused when the store
    refuses this very reading; with a claim also NotKnown and TooManyRequests, and then nothing was
    stored. Submitting it again with the same time is safe either way; what was not answered in
    time may be stored all the same.
    """
    return committer().submit(submission)


def submit_all(submissions: Sequence[Submission]) -> list[Receipt | Exception]:
    """The same for many at once, in their order: of each its receipt, or what `submit` raises."""
    tickets = [_offered(submission) for submission in submissions]
    deadline = monotonic() + _patience()
    return [_outcome(ticket, deadline) for ticket in tickets]


class Ticket:
    """A submission in the queue, and the way its answer takes back to the thread that waits.

    A bare lock, held until there is an answer: a Future costs as much as all else here.
    """

    __slots__ = (
        *("_answered", "_lock", "error", "is_abandoned", "is_stored", "link", "states"),
        *("submission", "time"),
    )

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.time = submission.time
        self.link = tracing.link()
        self.states: Sequence[State] = ()
        self.error: Exception | None = None
        self.is_abandoned = False
        self.is_stored = False  # and so are its event and what Redis is to know
        self._answered = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> Receipt:
        if not self._lock.acquire(timeout=seconds) and not self.is_stored:
            self.is_abandoned = True  # what is still queued need not be written any more
            UNSTORED.add("timed_out")
            raise StoreAway("The telemetry store")
        if self.error is not None:
            if isinstance(self.error, StoreAway):
                UNSTORED.add("store_away")
            raise self.error
        assert self.time is not None
        return Receipt(self.time, self.states)

    def answer(self, error: Exception | None = None) -> None:
        """Let the thread go on; the first answer counts."""
        if not self._answered:
            self._answered = True
            self.error = error
            self._lock.release()


class Committer:
    """Its threads and a bounded queue. `submit` from any thread."""

    def __init__(self) -> None:
        self._queue: deque[Ticket] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name="committer", daemon=True)
            # The relational store has one writer, SQLite by its nature.
            for _ in range(settings.INGEST_THREADS if settings.CASSANDRA_HOSTS else 1)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    @property
    def is_ending(self) -> bool:
        return self._stopping

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, submission: Submission) -> Receipt:
        ticket = self.offer(submission)
        with tracing.span("wait for the group"):
            return ticket.wait(_patience())

    def offer(self, submission: Submission) -> Ticket:
        """Queue it. Raises StoreAway where that is of no use."""
        # Not behind a group that waits in order to find out whether the store is back.
        if telemetry_store().is_refusing():
            UNSTORED.add("store_away")
            raise StoreAway("The telemetry store")
        ticket = Ticket(submission)
        with self._wake:
            if not self.is_alive or len(self._queue) >= settings.INGEST_QUEUE:
                UNSTORED.add("queue_full")
                raise StoreAway("The ingest queue")
            self._queue.append(ticket)
            self._wake.notify()
        return ticket

    def stop(self, seconds: float = 10) -> None:
        """Finish what is queued, then end the threads; wait so long for them at most."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))

    def _run(self) -> None:
        while (group := self._gather()) is not None:
            close_old_connections()
            if group:
                started = perf_counter()
                with tracing.span("group", [ticket.link for ticket in group]):
                    self._commit(group)
                GROUP_SECONDS.observe(perf_counter() - started)
            else:
                self._repair()
        connections.close_all()

    def _gather(self) -> list[Ticket] | None:
        """What has gathered, up to INGEST_GROUP messages and INGEST_GROUP_VALUES values.

        Empty when only repairs wait; None at the end.
        """
        with self._wake:
            while not self._queue and not self._stopping:
                if not self._wake.wait(REPAIR_SECONDS) and (missed or evaluation):
                    return []
            if not self._queue:
                return None
            taken = [self._queue.popleft()]
            values = len(taken[0].submission.values)
            while self._queue and len(taken) < settings.INGEST_GROUP:
                values += len(self._queue[0].submission.values)
                if values > settings.INGEST_GROUP_VALUES:
                    break
                taken.append(self._queue.popleft())
        return [ticket for ticket in taken if not ticket.is_abandoned]

    def _commit(self, group: Sequence[Ticket]) -> None:
        """Store the group and answer every ticket of it, whatever happens."""
        try:
            admitted = _admitted(group)
            if not admitted:
                return
            readings = _readings(admitted)
            stored = []
            for ticket, reading, refusal in zip(
                admitted, readings, commit.store(readings), strict=True
            ):
                if refusal is None:
                    stored.append((ticket, reading))
                else:
                    ticket.answer(refusal)
            counters.count("messages", len(stored))
            GROUP_SIZE.observe(len(stored))
            devices = [ticket.submission.device for ticket, _ in stored]
            readings = [reading for _, reading in stored]
            due = commit.publish(readings, devices, book.checks(readings, devices))
            log.submitted([_event(ticket.submission, reading) for ticket, reading in stored])
            for ticket, _ in stored:
                ticket.is_stored = True
            decide(due)
        except Exception as error:
            failure: Exception | None = as_store_away(error)
            if failure is None:
                logger.exception("a group of %d submissions failed", len(group))
                failure = StoreAway("The telemetry store")
            for ticket in group:
                ticket.answer(failure)
            return
        for ticket, _ in stored:
            ticket.answer()

    def _repair(self) -> None:
        try:
            commit.publish([])
        except Exception:  # whatever it is, the thread that commits must not end of it
            logger.exception("repairing what Redis missed failed")
        decide()


_committer: Committer | None = None
_committer_lock = threading.Lock()
Figure(
    "iotflow_queue_submissions",
    "Submissions that wait for a group.",
    (),
    lambda: {(): _committer.waiting if _committer else 0},
)
Figure(
    "iotflow_queue_limit",
    "How many may, in all processes together.",
    (),
    lambda: {(): settings.INGEST_QUEUE},
)


def committer() -> Committer:
    """The committer of this process, started when first needed."""
    global _committer
    if _committer is None:
        with _committer_lock:
            if _committer is None:
                _committer = Committer()
    return _committer


def _offered(submission: Submission) -> Ticket | StoreAway:
    try:
        return committer().offer(submission)
    except StoreAway as error:
        return error


def _outcome(ticket: Ticket | StoreAway, deadline: float) -> Receipt | Exception:
    if isinstance(ticket, StoreAway):
        return ticket
    try:
        return ticket.wait(max(0.0, deadline - monotonic()))
    except Exception as error:  # whatever answered it
        return error


def _patience() -> float:
    """Seconds that a submission waits.

    A store that fails, or is hardly back, would have all threads of the process wait, and whoever
    comes after them wait for a thread.
    """
    seconds: float = settings.INGEST_WAIT_MS / 1000
    return seconds / SHAKY if telemetry_store().is_shaky() else seconds


def stop(seconds: float) -> None:
    """Let the committer of this process finish, if it has begun."""
    if _committer is not None:
        _committer.stop(seconds)


def _admitted(group: Sequence[Ticket]) -> list[Ticket]:
    """The tickets whose claims hold, with the time they were given; the others are answered."""
    claims = [ticket.submission.claim for ticket in group if ticket.submission.claim]
    if not claims:
        return list(group)
    try:
        answers = iter(admission.admit(claims))
    except StoreAway:
        answers = repeat(None)
    return [
        ticket
        for ticket in group
        if ticket.submission.claim is None or _is_admitted(ticket, next(answers))
    ]


def _is_admitted(ticket: Ticket, admission: Admission | None) -> bool:
    if admission is None:
        ticket.answer(NotKnown())
        return False
    if admission.verdict.refusal is not None:
        ticket.answer(refused(admission.verdict.refusal, admission.verdict.states))
        return False
    counters.count("keys.hits")
    ticket.states = admission.verdict.states
    if admission.time is not None:
        ticket.time = clock.note(ticket.submission.device.id, admission.time)
    return True


def _readings(tickets: Sequence[Ticket]) -> list[Reading]:
    timeless = [ticket for ticket in tickets if ticket.time is None]
    given = clock.give([ticket.submission.device.id for ticket in timeless])
    for ticket, time in zip(timeless, given, strict=True):
        ticket.time = time
    return [_reading(ticket.submission, ticket.time or 0) for ticket in tickets]


def _reading(submission: Submission, time: int) -> Reading:
    return Reading(
        device_id=submission.device.id,
        owner_id=submission.device.owner_id,
        time=time,
        written=clock.written(),
        values=submission.values,
        metadata=submission.metadata,
        latest_epoch=submission.device.latest_epoch,
        device_type=submission.device.device_type,
    )


def _event(submission: Submission, reading: Reading) -> dict[str, Any]:
    """What the event log says of a submission; the same submission again is the same event."""
    names = sorted(reading.values)
    content = [reading.device_id, reading.time, sorted(reading.values.items()), reading.metadata]
    return log.event(
        log.id_of(json.dumps(content, sort_keys=True)),
        Kind.TELEMETRY_SUBMITTED,
        f"{submission.device.name} submitted {len(names)} measurement(s)",
        actor=f"device:{reading.device_id}",
        user_id=reading.owner_id,
        device_id=reading.device_id,
        payload={"timestamp": format_ms(reading.time), "measurements": names},
        origin=submission.origin,
    )
