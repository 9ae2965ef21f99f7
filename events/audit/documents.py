"""Event documents as they are stored, every field of them, and the bytes that a seal covers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from events import sinks
from events.audit.keys import Key
from events.models import EventLog
from events.sinks import Document

PAGE = 5000  # documents read at once
GROWTH = 8  # of a slice of time that has little
MILLISECOND = timedelta(milliseconds=1)
PAGE_SECONDS = 10.0  # that this may take
STRAYS_SECONDS = 300.0  # that a search without an index's order may take
ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
FIELDS = [field.name for field in EventLog._meta.fields]


def fields_of(document: Document) -> Document:
    """What the event log stores of an event that is to be delivered."""
    moments = {name: stored(document[name]) for name in ("time", "expires_at")}
    return {**document, **moments, "id": UUID(document["id"])}


def stored(moment: str | datetime) -> datetime:
    """A time as the event log holds it: MongoDB cuts it to milliseconds."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return at if settings.EVENTS_EMBEDDED else _whole(at)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def digest(fields: Mapping[str, Any], key: Key) -> bytes:
    """The HMAC over every field, by name: other, missing and additional ones change it.

    Of times to the millisecond, so that it is the same in every store that an event may move to.
    """
    return key.sign(_encode(fields).encode())


def same(one: Document, other: Document, key: Key) -> bool:
    return digest(one, key) == digest(other, key)


def _tagged(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"time": _whole(value).isoformat()}
    return {type(value).__name__: str(value)}


# Python's own JSON tells NaN from null and takes whatever somebody may have put into a document.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_tagged).encode


def between(kind: str, start: datetime, end: datetime, page: int = PAGE) -> Iterator[Document]:
    """The documents of a kind from `start` to before `end`, by time and id. Raises StoreAway.

    Read in slices of time that grow and shrink with what is in them, so that the store need not
    sort and no answer is much more than a page.
    """
    width = timedelta(seconds=1)
    while start < end:
        stop = start + min(width, end - start)
        with sinks.guarded(PAGE_SECONDS):
            found = _found(kind, start, stop, page + 1 if width > MILLISECOND else 0)
        if len(found) > page and width > MILLISECOND:
            width = max(width / GROWTH, MILLISECOND)
            continue
        yield from sorted(found, key=place)
        start = stop
        if len(found) < page / GROWTH:
            width = min(width, end - start) * GROWTH or width


def place(document: Document) -> tuple[datetime, str]:
    """Where it comes among others."""
    key = document["id"]
    return document["time"], key.hex if isinstance(key, UUID) else str(key)


def by_ids(ids: Iterable[Any]) -> dict[Any, Document]:
    """Those that are there. Raises StoreAway."""
    keys = [one.hex if isinstance(one, UUID) else one for one in ids]
    with sinks.guarded(PAGE_SECONDS):
        if settings.EVENTS_EMBEDDED:
            found: Iterable[Document] = EventLog.objects.filter(pk__in=keys).values(*FIELDS)
        else:
            found = map(_from_bson, sinks.raw().find({"_id": {"$in": keys}}))
        return {document["id"]: document for document in found}


def strays(kinds: list[str], limit: int = PAGE) -> list[Document]:
    """Documents of a kind that is not among these, and of none. Raises StoreAway."""
    with sinks.guarded(STRAYS_SECONDS):
        if settings.EVENTS_EMBEDDED:
            return list(EventLog.objects.exclude(kind__in=kinds).values(*FIELDS)[:limit])
        found = sinks.raw().find({"kind": {"$nin": kinds}}).limit(limit)
        return [_from_bson(document) for document in found]


def _found(kind: str, start: datetime, end: datetime, limit: int) -> list[Document]:
    """In no order; all of them where `limit` is 0."""
    if settings.EVENTS_EMBEDDED:
        events = EventLog.objects.filter(kind=kind, time__gte=start, time__lt=end).order_by()
        return list(events.values(*FIELDS)[: limit or None])
    about = {"kind": kind, "time": {"$gte": start, "$lt": end}}
    return [_from_bson(one) for one in sinks.raw().find(about, batch_size=PAGE).limit(limit)]


def _from_bson(document: Document) -> Document:
    """With `id`; one that is written otherwise than ours stays what it is."""
    key = document.pop("_id")
    if "id" in document:
        document["field id"] = document.pop("id")
    with suppress(ValueError, AttributeError, TypeError):
        if UUID(key).hex == key:
            key = UUID(key)
    return {**document, "id": key}
