"""What waits is sent by the worker, several channels side by side.

A channel is leased by one thread of one worker at a time, which sends one delivery after the other.
So a target is asked one thing at a time, what is told of an alert arrives in order, and one that
hangs holds up itself. A worker that dies leaves its lease to run out: what it had sent, and not
noted, is sent again under the same id.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from random import uniform
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from events import log
from events.kinds import Kind, Severity
from telemetry.notifications import mail, signing, webhook
from telemetry.notifications.failure import Failed
from telemetry.notifications.models import ANSWER_MAX, Delivery, NotificationChannel

logger = logging.getLogger(__name__)
TURN_SECONDS = 10.0
# More than a turn, the look-up of a name and one answer take together; a mail server has ten,
# with EMAIL_TIMEOUT for each.
LEASES = {
    NotificationChannel.Kind.WEBHOOK: timedelta(seconds=60),
    NotificationChannel.Kind.EMAIL: timedelta(seconds=180),
}
FINISH_SECONDS = 5.0
BACK_OFF_MAX = 3600.0
DIGEST_MAX = 5000


class Postman:
    """Of one process; NOTIFICATION_THREADS channels at a time."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._turns: set[Future[None]] = set()
        self._stop = threading.Event()

    def send(self) -> None:
        """Begin with every channel that has something to send, as many as there are threads for;
        returns at once.
        """
        self._turns = {turn for turn in self._turns if not turn.done()}
        free = settings.NOTIFICATION_THREADS - len(self._turns)
        for channel in _lease(free) if free > 0 and _is_any() else ():
            self._turns.add(self._threads().submit(self._turn, channel))

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Begin nothing more, and wait for what is being sent; not for ever."""
        self._stop.set()
        wait(self._turns, seconds)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            threads = settings.NOTIFICATION_THREADS
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="notifications")
        return self._pool

    def _turn(self, leased: NotificationChannel) -> None:
        deadline = time.monotonic() + TURN_SECONDS
        try:
            while time.monotonic() < deadline and not self._stop.is_set() and _step(leased):
                pass
            _release(leased)
        except Exception:  # the database is away; the lease runs out
            logger.exception("notifications of channel %s have to wait", leased.pk)
        finally:
            connections.close_all()


postman = Postman()


def seconds_to_wait(failures: int) -> float:
    """After so many in a row: twice as long each time, up to an hour, and not all at once."""
    return min(BACK_OFF_MAX, 2.0 ** min(failures - 1, 20)) * uniform(0.8, 1.0)


def _is_any() -> bool:
    """Whether anything is to be sent: an embedded database has one writer at a time."""
    return Delivery.objects.waiting().filter(next_try__lte=timezone.now()).exists()


@transaction.atomic
def _lease(most: int) -> list[NotificationChannel]:
    now = timezone.now()
    ready = Delivery.objects.ready(now).filter(channel=OuterRef("pk"))
    due = NotificationChannel.objects.free(now).filter(Exists(ready))
    found = list(due.select_for_update(skip_locked=True, of=("self",), no_key=True)[:most])
    for channel in found:
        channel.leased_until = now + LEASES[channel.kind]
    NotificationChannel.objects.bulk_update(found, ["leased_until"])
    return found


def _release(leased: NotificationChannel) -> None:
    """It comes after the others that wait now."""
    ours = NotificationChannel.objects.filter(pk=leased.pk, leased_until=leased.leased_until)
    ours.update(leased_until=None, next_try=Greatest("next_try", timezone.now()))


def _step(leased: NotificationChannel) -> bool:
    """Send what comes next; whether to go on."""
    usable = NotificationChannel.objects.usable().filter(leased_until=leased.leased_until)
    channel = usable.filter(pk=leased.pk).first()
    if channel is None:  # switched off, changed hands, or another's lease by now
        return False
    deliveries = _next(channel)
    if not deliveries:
        return False
    try:
        answer = _send(channel, deliveries)
    except Failed as failure:
        _note_failed(channel, deliveries, failure)
        return False
    except Exception:
        logger.exception("notification %s was not sent", deliveries[0].pk)
        _note_failed(channel, deliveries, Failed("It could not be sent."))
        return False
    _note_delivered(channel, deliveries, answer)
    return True


def _send(channel: NotificationChannel, deliveries: Sequence[Delivery]) -> str:
    if channel.kind == NotificationChannel.Kind.EMAIL:
        return mail.send(channel.address, deliveries)
    [delivery] = deliveries
    return webhook.post(channel.address, delivery.body.encode(), _headers(channel, delivery))


def _headers(channel: NotificationChannel, delivery: Delivery) -> dict[str, str]:
    now = timezone.now()
    try:
        keys = [signing.unseal(channel.sealed_secret)]
        if channel.former_until and now < channel.former_until:
            keys.append(signing.unseal(channel.sealed_former))
    except signing.Unreadable as error:
        raise Failed("Its secret can be read no more: make it a new one.") from error
    timestamp, message_id = int(now.timestamp()), str(delivery.pk)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature(keys, message_id, timestamp, delivery.body.encode()),
    }


def _next(channel: NotificationChannel) -> list[Delivery]:
    """What is to be sent together now; more than one is a digest."""
    now = timezone.now()
    ready = channel.deliveries.ready(now)
    if channel.kind == NotificationChannel.Kind.WEBHOOK or not channel.digest_seconds:
        return list(ready[:1])
    waiting = list(channel.deliveries.waiting().order_by("created_at", "seq")[:DIGEST_MAX])
    recent = timedelta(seconds=channel.digest_seconds)
    sent = channel.deliveries.filter(delivered_at__gt=now - recent).order_by("-delivered_at")
    last = sent.values_list("delivered_at", flat=True).first()
    if len(waiting) + sent.count() <= settings.NOTIFICATION_DIGEST_AFTER:
        return list(ready[:1])
    if last is None:
        return _unrefused(waiting, now)
    NotificationChannel.objects.filter(pk=channel.pk).update(next_try=last + recent)
    return []


def _unrefused(waiting: Sequence[Delivery], now: datetime) -> list[Delivery]:
    """Those that may be sent now: of an alert none after one that is to be tried later."""
    held: set[UUID | None] = set()
    found = []
    for one in waiting:
        if one.next_try > now:
            held.add(one.alert_id)
        if one.next_try <= now and (one.alert_id is None or one.alert_id not in held):
            found.append(one)
    return found


# Whoever changes a channel has locked it before its deliveries, and so it is done here.
@transaction.atomic
def _note_delivered(
    channel: NotificationChannel, deliveries: Sequence[Delivery], answer: str
) -> None:
    if channel.failures:
        NotificationChannel.objects.filter(pk=channel.pk).update(failures=0, failing_since=None)
    Delivery.objects.filter(pk__in=[one.pk for one in deliveries]).update(
        status=Delivery.Status.DELIVERED,
        delivered_at=timezone.now(),
        attempts=F("attempts") + 1,
        answer=answer[:ANSWER_MAX],
    )


@transaction.atomic
def _note_failed(
    channel: NotificationChannel, deliveries: Sequence[Delivery], failure: Failed
) -> None:
    """The delivery is tried again later, and so is the channel, which has failed as a whole where
    others fail too.
    """
    now = timezone.now()

    def again(failures: int) -> datetime:
        return now + timedelta(seconds=max(seconds_to_wait(failures), failure.after))

    NotificationChannel.objects.filter(pk=channel.pk).update(
        failures=F("failures") + 1,
        failing_since=Coalesce("failing_since", now),
        next_try=again(channel.failures + 1),
    )
    Delivery.objects.filter(pk__in=[one.pk for one in deliveries]).update(
        attempts=F("attempts") + 1,
        answer=str(failure)[:ANSWER_MAX],
        next_try=again(deliveries[0].attempts + 1),
    )
    _give_up(channel, now)


def _give_up(channel: NotificationChannel, now: datetime) -> None:
    """Try no more what has waited for too long."""
    before = now - timedelta(hours=settings.NOTIFICATION_GIVE_UP_HOURS)
    hopeless = channel.deliveries.waiting().filter(queued_at__lt=before)
    count = hopeless.update(status=Delivery.Status.GIVEN_UP)
    if count:
        log.record(
            Kind.NOTIFICATION_GIVEN_UP,
            f"{count} notification(s) of {channel.name} were given up",
            user_id=channel.owner_id,
            severity=Severity.WARNING,
            payload={"channel_id": channel.pk, "count": count},
        )
