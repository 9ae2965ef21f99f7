"""Holds the event log against the chain, and the chain against its heads. Changes nothing.

It streams: links and documents side by side, by kind and time, in pages. What does not fit at once
is looked at again by id, for events arrive and are sealed meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.utils import timezone

from events.audit import documents, integrity, keys
from events.audit.chain import Scope
from events.audit.faults import Fault, Found, of_document, of_link
from events.audit.merge import merged
from events.audit.sealer import MINUTE, Sum, minute_of, on_their_way, sum_of
from events.kinds import MASS, Kind
from events.models import AuditHead, AuditLink, Outbox
from events.sinks import Document
from iotflow.lib.batches import batched, unheard

CHUNK = 2000
AGAIN = 500  # looked at again at once


@dataclass(slots=True)
class Counts:
    links: int = 0
    events: int = 0  # compared with a link of their own
    minutes: int = 0  # compared with their sums
    expired: int = 0  # links of what may be gone by now
    pending: int = 0  # events that are not sealed yet


@dataclass(slots=True)
class Verifier:
    """Of what happened from `since` to before `until`; of everything where there is none."""

    since: datetime | None = None
    until: datetime | None = None
    tick: Callable[[int], object] = unheard
    counts: Counts = field(default_factory=Counts)
    _keys: dict[str, keys.Key] = field(default_factory=keys.known)
    _now: datetime = field(default_factory=timezone.now)
    _named: set[Any] = field(default_factory=set)
    _start: datetime = documents.NEVER  # from when on every event has to be sealed
    _minutes_until: datetime = documents.ALWAYS

    def faults(self) -> Iterator[Found]:
        """Every fault, as it is found. Raises StoreAway."""
        if (head := self._begin()) is None:
            if AuditLink.objects.exists():
                yield Found(Fault.CHAIN, "The head of the chain is gone.")
            return
        yield from integrity.faults(head, self.since, self._link)
        sealed = set(AuditLink.objects.order_by().values_list("kind", flat=True).distinct())
        for kind in sorted(sealed.union(Kind.values) - {""}):
            yield from self._minutes(kind) if kind in MASS else self._events(kind)
        yield from self._again(stray["id"] for stray in documents.strays(Kind.values))

    def of_newest(self, number: int) -> Iterator[Found]:
        """The faults of the newest links, and of the newest minute. Raises StoreAway."""
        if (head := self._begin()) is None:
            return
        links = AuditLink.objects.filter(number__gt=head.number - number)
        for _, found in integrity.checked(links.order_by("number"), None):
            self._link(1)
            yield from found
        ids = links.filter(scope=Scope.EVENT).values_list("event_id", flat=True)
        yield from self._again(ids)
        if minute := links.filter(scope=Scope.MINUTE).order_by("-number").first():
            self.since, self.until = minute.time, minute.time + MINUTE
            yield from self._minutes(minute.kind)

    def _begin(self) -> AuditHead | None:
        head = AuditHead.objects.first()
        if head is not None:
            self._minutes_until = head.minutes_until
            if (start := integrity.started()) is not None:
                self._start = start.time
        return head

    def _link(self, count: int) -> None:
        self.counts.links += count
        self.tick(count)

    # --- Events that have a link of their own -----------------------------------------------------

    def _events(self, kind: str) -> Iterator[Found]:
        links = self._links(kind, Scope.EVENT).order_by("time", "event_id")
        both = merged(links.iterator(CHUNK), self._documents(kind), _place_of_link, documents.place)
        unsure = (one for link, document in both for one in self._unsure(link, document))
        yield from self._again(unsure)

    def _unsure(self, link: AuditLink | None, document: Document | None) -> list[Any]:
        self.tick(1)
        if link is not None and document is not None:
            self.counts.events += 1
            return [] if self._fits(link, document) else [document["id"]]
        if link is not None:
            return [link.event_id]
        assert document is not None
        return [] if self._is_too_old(document["time"]) else [document["id"]]

    def _is_too_old(self, time: Any) -> bool:
        """Whether an event of then need not have a link."""
        return isinstance(time, datetime) and time < self._start

    def _again(self, ids: Iterable[Any]) -> Iterator[Found]:
        for part in batched(ids, AGAIN):
            yield from self._by_id(set(part) - self._named)

    def _by_id(self, ids: set[Any]) -> Iterator[Found]:
        """In this order: events move from the outbox into the chain."""
        own = {one for one in ids if isinstance(one, UUID)}
        rows = {row.event_id: row for row in Outbox.everything.filter(event_id__in=own)}
        links = {link.event_id: link for link in AuditLink.objects.filter(event_id__in=own)}
        there = documents.by_ids(ids)
        for one in ids:
            if found := self._judge(rows.get(one), links.get(one), there.get(one)):
                self._named.add(one)
                yield found

    def _judge(
        self, row: Outbox | None, link: AuditLink | None, document: Document | None
    ) -> Found | None:
        if link is not None and document is None:
            if link.expires_at > self._now:
                return of_link(Fault.REMOVED, link, "is sealed, and is not there.")
            self.counts.expired += 1
        elif link is not None and document is not None:
            if not self._fits(link, document):
                return of_link(Fault.CHANGED, link, "is not as it was sealed.")
        elif document is not None and row is not None:
            self.counts.pending += 1
            if not documents.same(documents.fields_of(row.document), document, keys.current()):
                return of_document(Fault.CHANGED, document, "is not as it was delivered.")
        elif document is not None and not self._is_too_old(document.get("time")):
            return of_document(Fault.INSERTED, document, "was never sealed.")
        return None

    def _fits(self, link: AuditLink, document: Document) -> bool:
        """True too where the key is not known, which the chain's faults say."""
        key = self._keys.get(link.key)
        return key is None or documents.digest(document, key) == bytes(link.digest)

    def _links(self, kind: str, *scopes: Scope) -> Any:
        links = AuditLink.objects.filter(kind=kind, scope__in=scopes)
        if self.since is not None:
            links = links.filter(time__gte=self.since)
        return links if self.until is None else links.filter(time__lt=self.until)

    def _documents(self, kind: str) -> Iterator[Document]:
        """From the first on that may be sealed."""
        first = AuditLink.objects.filter(kind=kind).order_by("time").first()
        start = min(self._start, first.time) if first is not None else self._start
        start = start if self.since is None else max(self.since, start)
        return documents.between(kind, start, self.until or documents.NEVER)

    # --- Events sealed by the minute --------------------------------------------------------------

    def _minutes(self, kind: str) -> Iterator[Found]:
        """`since` and `until` begin minutes."""
        links = self._links(kind, Scope.MINUTE, Scope.LATE).order_by("time", "number")
        both = merged(
            ((minute, list(some)) for minute, some in groupby(links.iterator(CHUNK), _time)),
            groupby(self._documents(kind), lambda document: minute_of(document["time"])),
            lambda group: group[0],
            lambda group: group[0],
        )
        for sealed, there in both:
            minute = sealed[0] if sealed else there[0]  # type: ignore[index]
            yield from self._minute(
                kind, minute, sealed[1] if sealed else [], there[1] if there else ()
            )

    def _minute(
        self, kind: str, minute: datetime, links: list[AuditLink], there: Iterable[Document]
    ) -> Iterator[Found]:
        if minute >= self._minutes_until:
            self.counts.pending += sum(1 for _ in there)
        elif not links:
            if minute >= self._start:
                yield from self._again(document["id"] for document in there)
        elif min(link.expires_at for link in links) <= self._now:
            self.counts.expired += len(links)
        elif (key := self._keys.get(links[0].key)) is not None:
            self.counts.minutes += 1
            found = Sum()
            for document in there:
                self.tick(1)
                found.add(documents.digest(document, key), None)
            if (found.count, found.value) != _sealed(links):
                yield from self._minute_again(kind, minute, key)

    def _minute_again(self, kind: str, minute: datetime, key: keys.Key) -> Iterator[Found]:
        """Without what is on its way into the chain."""
        found, waiting = Sum(), Sum()
        stream = documents.between(kind, minute, minute + MINUTE)
        for part in batched(stream, AGAIN):
            told = on_their_way(part, key)
            for document in part:
                which = waiting if document["id"] in told else found
                which.add(documents.digest(document, key), None)
        count, value = _sealed(AuditLink.objects.filter(kind=kind, time=minute))
        self.counts.pending += waiting.count
        if (found.count, found.value) == (count, value):
            return
        fault = Fault.CHANGED
        if found.count != count:
            fault = Fault.REMOVED if found.count < count else Fault.INSERTED
        text = f"of this minute: {count:,} sealed, {found.count:,} there."
        yield Found(fault, text, "", kind, minute)


def _sealed(links: Iterable[AuditLink]) -> tuple[int, int]:
    some = list(links)
    return sum(link.count for link in some), sum_of(some)


def _time(link: AuditLink) -> datetime:
    return link.time


def _place_of_link(link: AuditLink) -> tuple[datetime, str]:
    return link.time, link.event_id.hex if link.event_id else ""
