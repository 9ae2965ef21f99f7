"""The chain itself: how links are sealed, added, and dropped by the day."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from events.audit.keys import Key
from events.models import AuditDay, AuditHead, AuditLink

LOCK = 7_310_502_026  # the number of the advisory lock that a sealer holds
FIRST = b"\0" * 32  # the seal before the first link
DAY = timedelta(days=1)
DROPPED_AT_ONCE = 10_000
Scope = AuditLink.Scope


class Overtaken(Exception):
    """Somebody else has sealed meanwhile."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a new link covers."""

    scope: Scope
    time: datetime
    expires_at: datetime
    count: int = 1
    digest: bytes = b""
    kind: str = ""
    event_id: UUID | None = None


def begin(time: datetime, key: Key) -> AuditHead:
    """The head of the chain, which begins at `time` where there is none yet."""
    with transaction.atomic():
        head, is_new = AuditHead.objects.get_or_create(
            pk=1, defaults={"seal": FIRST, "minutes_until": time}
        )
        if is_new:
            append(head, [start(time, 1)], key)
    return head


def start(time: datetime, number: int) -> Entry:
    """That the event log is vouched for from `time` on, by links from `number` on."""
    return Entry(Scope.START, time, timezone.now(), count=number)


def append(
    head: AuditHead, entries: Sequence[Entry], key: Key, minutes_until: datetime | None = None
) -> None:
    """Seal the entries in this order, in the caller's transaction; `head` is then the new one.

    Raises Overtaken when `head` is no longer the present one.
    """
    now = AuditHead.objects.select_for_update().get(pk=head.pk)
    if (now.number, now.minutes_until) != (head.number, head.minutes_until):
        raise Overtaken
    today = _today()
    before, first = bytes(now.seal), now.number + 1
    links, seal = [], before
    for number, entry in enumerate(entries, first):
        links.append(_linked(number, entry, today, seal, key))
        seal = bytes(links[-1].seal)
    AuditLink.objects.bulk_create(links, batch_size=500)
    if links:
        _extend(today, before, links)
    head.number, head.seal = now.number + len(links), seal
    head.minutes_until = minutes_until or now.minutes_until
    head.save()


def drop_expired(head: AuditHead, key: Key) -> None:
    """Forget the days of which all has expired a day ago or longer, oldest first, never today."""
    now = timezone.now()
    going = []
    for day in AuditDay.objects.order_by("day"):
        if day.expires_at + DAY > now or day.last == head.number:
            break
        going.append(day)
    if going:
        end = datetime.combine(going[-1].day, datetime.min.time(), UTC) + DAY
        with transaction.atomic():
            append(head, [start(end, going[-1].last + 1)], key)
            AuditDay.objects.filter(day__lte=going[-1].day).delete()
    _drop_links()


def _drop_links() -> None:
    """In parts: a day may have a million."""
    oldest_day = AuditDay.objects.order_by("day").first()
    first = oldest_day.first if oldest_day else 0
    while (number := _lowest()) < first:
        part = AuditLink.objects.filter(number__lt=min(first, number + DROPPED_AT_ONCE))
        part.delete()


def _lowest() -> int:
    found = AuditLink.objects.order_by("number").values_list("number", flat=True).first()
    return 2**63 if found is None else found


def seal_of(link: AuditLink, before: bytes, key: Key) -> bytes:
    """The seal over everything that a link says and the seal before it."""
    said = [
        link.number,
        link.scope,
        link.event_id.hex if link.event_id else None,
        link.kind,
        _exact(link.time),
        link.count,
        bytes(link.digest).hex(),
        _exact(link.expires_at),
        link.day.isoformat(),
        link.key,
    ]
    return key.sign(before, json.dumps(said).encode())


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _linked(number: int, entry: Entry, day: date, before: bytes, key: Key) -> AuditLink:
    link = AuditLink(
        number=number,
        scope=entry.scope,
        event_id=entry.event_id,
        kind=entry.kind,
        time=entry.time,
        count=entry.count,
        digest=entry.digest,
        expires_at=entry.expires_at,
        day=day,
        key=key.id,
    )
    link.seal = seal_of(link, before, key)
    return link


def _today() -> date:
    """UTC's, and never before the newest day of the chain, whatever this machine's clock says."""
    newest = AuditDay.objects.order_by("-day").values_list("day", flat=True).first()
    today = timezone.now().astimezone(UTC).date()
    return today if newest is None else max(today, newest)


def _extend(today: date, before: bytes, links: Sequence[AuditLink]) -> None:
    expires_at = max(link.expires_at for link in links)
    day, is_new = AuditDay.objects.get_or_create(
        day=today,
        defaults={
            "first": links[0].number,
            "before": before,
            "last": links[-1].number,
            "seal": links[-1].seal,
            "expires_at": expires_at,
        },
    )
    if not is_new:
        day.last, day.seal = links[-1].number, links[-1].seal
        day.expires_at = max(day.expires_at, expires_at)
        day.save()
