"""Event documents as they are stored, every field of them, and the bytes that a seal covers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from events import sinks
from events.audit.keys import Key
from events.models import EventLog
from events.sinks import Document

PAGE = 5000  # documents read at once
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
    if settings.EVENTS_EMBEDDED:
        return at
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def digest(fields: Mapping[str, Any], key: Key) -> bytes:
    """The HMAC over every field, by name: other, missing and additional ones change it."""
    return key.sign(_encode(fields).encode())


def same(one: Document, other: Document, key: Key) -> bool:
    return digest(one, key) == digest(other, key)


def _tagged(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    return {type(value).__name__: str(value)}


# Python's own JSON tells NaN from null and takes whatever somebody may have put into a document.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_tagged).encode


def between(kind: str, start: datetime, end: datetime, page: int = PAGE) -> Iterator[Document]:
    """The documents of a kind from `start` to before `end`, by time and id, read in pages.

    Raises StoreAway.
    """
    seen: set[Any] = set()  # ids of those at `start`
    while True:
        limit = page + len(seen)
        with sinks.guarded(PAGE_SECONDS):
            found = _found({"kind": kind}, start, end, limit)
        yield from (document for document in found if document["id"] not in seen)
        if len(found) < limit:
            return
        last = found[-1]["time"]
        at_last = {document["id"] for document in found if document["time"] == last}
        seen = seen | at_last if last == start else at_last
        start = last


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


def _found(about: dict[str, str], start: datetime, end: datetime, limit: int) -> list[Document]:
    if settings.EVENTS_EMBEDDED:
        events = EventLog.objects.filter(**about, time__gte=start, time__lt=end)
        return list(events.order_by("time", "id").values(*FIELDS)[:limit])
    found = sinks.raw().find({**about, "time": {"$gte": start, "$lt": end}}, batch_size=limit)
    return [_from_bson(document) for document in found.sort([("time", 1), ("_id", 1)]).limit(limit)]


def _from_bson(document: Document) -> Document:
    """With `id`; one that is written otherwise than ours stays what it is."""
    key = document.pop("_id")
    if "id" in document:
        document["field id"] = document.pop("id")
    with suppress(ValueError, AttributeError, TypeError):
        if UUID(key).hex == key:
            key = UUID(key)
    return {**document, "id": key}
