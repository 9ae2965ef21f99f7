"""The sealer: takes what was delivered to the event log into the chain. A job of the worker.

Events of the outbox are sealed from their rows, so that what is done to them in the event log, from
the moment they are there, shows. Those of MASS go past it: a minute of them is read from the event
log once it is whole, and what arrives after that goes by the outbox.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from time import monotonic
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from events import outbox
from events.audit import chain, documents, keys
from events.audit.chain import Entry, Scope
from events.kinds import MASS
from events.models import AuditHead, AuditLink, Outbox
from events.sinks import Document
from iotflow.lib.alone import alone
from iotflow.lib.batches import batched

MINUTE = timedelta(minutes=1)
WHOLE_AFTER = timedelta(minutes=2)  # a minute's end, before it is sealed; more than outbox.LATE
AT_ONCE = 1000  # documents looked up in the outbox
ROWS = 1000  # of the outbox, sealed at once
SLICE_SECONDS = 5.0
SUMS = 1 << 256


@dataclass(slots=True)
class Sum:
    """What is said of many events: how many, and the sum of their digests.

    Sums can be added, and no order is needed. Without the key nobody can find other events of the
    same sum.
    """

    count: int = 0
    value: int = 0
    expires_at: datetime = field(default=documents.NEVER)  # of the first

    def add(self, digest: bytes, expires_at: object) -> None:
        self.count += 1
        self.value = (self.value + int.from_bytes(digest)) % SUMS
        if isinstance(expires_at, datetime):
            self.expires_at = min(self.expires_at, expires_at)

    def entry(self, scope: Scope, kind: str, minute: datetime) -> Entry:
        digest = self.value.to_bytes(32)
        return Entry(scope, minute, self.expires_at, self.count, digest, kind)


def minute_of(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def seal() -> bool:
    """One slice of what there is to do; whether there is more. Raises StoreAway."""
    key = keys.current()
    with alone(chain.LOCK) as is_alone:
        if not is_alone:
            return False
        try:
            head = chain.begin(minute_of(timezone.now()) + MINUTE, key)
            more = _seal_delivered(head, key)
            more = _seal_minutes(head, key) or more
            chain.drop_expired(head, key)
        except chain.Overtaken:
            return False
    return more


def _seal_delivered(head: AuditHead, key: keys.Key) -> bool:
    rows = list(Outbox.delivered.order_by("id")[:ROWS])
    if not rows:
        return False
    entries = [_of_event(row.document, key) for row in rows if row.document["kind"] not in MASS]
    entries += _late([row.document for row in rows if row.document["kind"] in MASS], head, key)
    with transaction.atomic():
        chain.append(head, entries, key)
        Outbox.delivered.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows) == ROWS


def _of_event(document: Document, key: keys.Key) -> Entry:
    fields = documents.fields_of(document)
    return Entry(
        Scope.EVENT,
        fields["time"],
        fields["expires_at"],
        digest=documents.digest(fields, key),
        kind=fields["kind"],
        event_id=fields["id"],
    )


def _late(late: Iterable[Document], head: AuditHead, key: keys.Key) -> list[Entry]:
    """What came to minutes that are sealed; others will be read whole."""
    fields = [documents.fields_of(document) for document in late]
    fields.sort(key=_kind_and_minute)
    entries = []
    for (kind, minute), group in groupby(fields, _kind_and_minute):
        if minute < head.minutes_until:
            entries += _late_to(kind, minute, list(group), key)
    return entries


def _kind_and_minute(fields: Document) -> tuple[str, datetime]:
    return fields["kind"], minute_of(fields["time"])


def _late_to(kind: str, minute: datetime, told: Sequence[Document], key: keys.Key) -> list[Entry]:
    """Those of `told` that the minute's seals do not cover yet, as one entry, or none.

    They may be covered: a delivery that was taken for failed had been done. And one may be there
    with another time, where a device has repeated it.
    """
    links = list(AuditLink.objects.filter(kind=kind, time=minute))
    if links:  # sums of one minute have to be of one key
        key = keys.known().get(links[0].key, key)
    digests = {fields["id"]: documents.digest(fields, key) for fields in told}
    sealed = (sum(link.count for link in links), sum_of(links))
    now, missing = Sum(), Sum()
    for document in documents.between(kind, minute, minute + MINUTE):
        digest = documents.digest(document, key)
        now.add(digest, document.get("expires_at"))
        if digests.get(document["id"]) == digest:
            missing.add(digest, document["expires_at"])
    if (now.count, now.value) == sealed or not missing.count:
        return []
    return [missing.entry(Scope.LATE, kind, minute)]


def sum_of(links: Iterable[AuditLink]) -> int:
    return sum(int.from_bytes(bytes(link.digest)) for link in links) % SUMS


def _seal_minutes(head: AuditHead, key: keys.Key) -> bool:
    """The minutes that are whole, for some seconds; whether there are more."""
    until, deadline = whole_until(), monotonic() + SLICE_SECONDS
    while head.minutes_until < until:
        if monotonic() > deadline:
            return True
        minute = head.minutes_until
        entries = [
            found.entry(Scope.MINUTE, kind, minute)
            for kind in sorted(MASS)
            if (found := read(kind, minute, key)).count
        ]
        after = minute + MINUTE if entries else _next_busy(minute + MINUTE, until)
        with transaction.atomic():
            chain.append(head, entries, key, after)
    return False


def whole_until() -> datetime:
    """Up to where nothing can come any more but what is_late: the outbox holds nothing older."""
    until = timezone.now() - WHOLE_AFTER
    oldest = Outbox.objects.order_by("id").values_list("created_at", flat=True).first()
    if oldest is not None:
        until = min(until, oldest - outbox.LATE)
    return minute_of(until)


def read(kind: str, minute: datetime, key: keys.Key) -> Sum:
    """The sum of the minute's documents, without what the outbox will tell. Raises StoreAway."""
    found = Sum()
    for part in batched(documents.between(kind, minute, minute + MINUTE), AT_ONCE):
        told = on_their_way(part, key)
        for document in part:
            if document["id"] not in told:
                found.add(documents.digest(document, key), document.get("expires_at"))
    return found


def on_their_way(part: Sequence[Document], key: keys.Key) -> set[UUID]:
    """The ids of those that the outbox holds, as they are."""
    if not Outbox.everything.exists():
        return set()
    there = {document["id"]: document for document in part if isinstance(document["id"], UUID)}
    rows = Outbox.everything.filter(event_id__in=there)
    told = {row.event_id: documents.fields_of(row.document) for row in rows}
    return {one for one in told if documents.same(told[one], there[one], key)}


def _next_busy(start: datetime, until: datetime) -> datetime:
    """The next minute that has a document of MASS, `until` at the latest."""
    firsts = (next(documents.between(kind, start, until), None) for kind in MASS)
    return min((minute_of(first["time"]) for first in firsts if first), default=until)
