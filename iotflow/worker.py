"""The background work, done by `manage.py worker` or by one thread of an embedded server.

Every job is safe to break off, to run again and to run in several workers at once.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from accounts.models import Token
from devices import commands, key_cache, presence, presence_history, tally
from events import outbox, sinks
from events.audit import sealer
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis
from iotflow.lib.timeparse import now_ms
from telemetry import deleting, rollups
from telemetry import services as telemetry
from telemetry.alerting import alerts, rollup, silence, sweep
from telemetry.notifications import queue as notifications
from telemetry.notifications.sending import postman

logger = logging.getLogger(__name__)


def drop_expired() -> None:
    """Tokens, sessions, events, alerts, commands, presence, telemetry that outlived their time."""
    now = timezone.now()
    Token.objects.filter(expiry__lt=now).delete()
    Session.objects.filter(expire_date__lt=now).delete()
    sinks.purge_expired(now)
    presence_history.purge(now)
    commands.purge(now)
    telemetry.purge()
    sinks.purge_alerts(now - timedelta(days=settings.EVENT_RETENTION_DAYS))
    notifications.purge(now)


class PresenceFlush:
    """Carries presence into the database: everything at first, then what is new."""

    def __init__(self) -> None:
        self._since = 0

    def __call__(self) -> None:
        started = now_ms()
        presence_history.settle()  # before the database is told of when they came back
        presence.flush(self._since)
        self._since = started - 1000


@dataclass(slots=True)
class Job:
    name: str
    every: float
    run: Callable[[], object]
    due: float = field(default=0.0)


def jobs() -> list[Job]:
    return [
        Job("deliver events", 1.0, outbox.relay_all),
        Job("invalidate cached keys", 1.0, key_cache.apply_pending),
        Job("save when devices were last seen", 30.0, PresenceFlush()),
        Job("note who came and went", 1.0, presence_history.settle),
        Job("deliver alerts", 1.0, alerts.deliver_all),
        Job("send notifications", 1.0, postman.send),
        Job("have commands expire", 5.0, commands.expire),
        Job("seal events", 5.0, sealer.seal),
        Job("count devices", tally.EVERY_SECONDS, tally.renew),
        Job("erase what deleted devices left", 10.0, deleting.erase_deleted),
        Job("settle deleted ranges of telemetry", 5.0, deleting.settle_ranges),
        Job("find devices that are silent", 10.0, silence.find_silence),
        Job("close alerts that nothing watches", 60.0, sweep.close_unwatched),
        Job("roll up telemetry", 300.0, rollups.Roller()),
        Job("compare rollups with alert rules", 60.0, rollup.look_at_rollups),
        Job("drop what has expired", 3600.0, drop_expired),
    ]


class Worker:
    """Runs each job when it is due until told to stop; a job that fails is tried again."""

    def __init__(self) -> None:
        self._jobs = jobs()
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def start_thread(self) -> None:
        threading.Thread(target=self.run, name="worker", daemon=True).start()

    def finish(self) -> None:
        """Stop, and do once more what would be lost or late: presence, waiting events, alerts."""
        self.stop()
        for job in self._jobs[:4]:
            self._run(job)
        postman.finish()

    def run(self) -> None:
        while not self._stop.is_set():
            self.run_due(time.monotonic())
            self._stop.wait(max(0.05, min(job.due for job in self._jobs) - time.monotonic()))

    def run_due(self, now: float) -> None:
        for job in self._jobs:
            if job.due <= now and not self._stop.is_set():
                has_more = self._run(job)
                job.due = time.monotonic() + (0 if has_more else job.every)

    def _run(self, job: Job) -> bool:
        """Whether it did its slice and has more to do."""
        close_old_connections()
        started = time.time()
        try:
            has_more = job.run() is True
            _note(job.name, started)
            return has_more
        except (StoreAway, DatabaseError) as error:
            logger.info("%s: later (%s)", job.name, error)
        except Exception:
            logger.exception("%s failed", job.name)
        finally:
            close_old_connections()
        return False


class Run(NamedTuple):
    """When a job ended well, in s since 1970, and how long it took."""

    ended: float
    seconds: float


def last_runs() -> dict[str, Run]:
    """The last good run of each job in any process, by the job's name. Raises StoreAway."""
    with redis() as client:
        noted = client.hgetall(_runs_key())
    return {name.decode(): Run(*map(float, run.split())) for name, run in noted.items()}


def _note(name: str, started: float) -> None:
    ended = time.time()
    with suppress(StoreAway), redis() as client:
        client.hset(_runs_key(), name, f"{ended:.3f} {ended - started:.3f}")


def _runs_key() -> str:
    return key("worker", "runs")
