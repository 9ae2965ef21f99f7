"""Where event documents end up: MongoDB by pymongo, or the embedded database. Idempotent.

Django's bulk_create cannot skip what is there already on MongoDB, so delivery goes through
pymongo: an event delivered twice is one event.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connections
from django.utils.dateparse import parse_datetime
from pymongo import ReplaceOne, timeout
from pymongo.errors import BulkWriteError, PyMongoError

from events.models import Alert, EventLog
from iotflow.lib.breaker import Breaker
from iotflow.lib.errors import StoreAway

Document = dict[str, Any]

DUPLICATE_KEY = 11000
EXPIRY = "event_expiry"
ALERT_TIMES = ("raised_at", "acknowledged_at", "resolved_at")
_lenient: CodecOptions[Document] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
breaker = Breaker("MongoDB", PyMongoError, failures=2, pause=1.0)


class TookTooLong(StoreAway):
    """What was asked for takes longer than it may; the store is there for everything else."""

    def __init__(self) -> None:
        super().__init__(breaker.store)

    def __str__(self) -> str:
        return "This took too long: narrow the range, or filter."


@contextmanager
def guarded(seconds: float | None = None) -> Iterator[None]:
    """Run what the ORM does with documents, in MONGODB_TIMEOUT_MS each.

    StoreAway when MongoDB is, at once where known. What may be slow is given `seconds` for all of
    it, and is TookTooLong where it takes longer while MongoDB is there. A unique constraint's
    IntegrityError passes through.
    """
    with breaker.guard():
        try:
            with _limited(seconds), _driver_errors():
                yield
        except PyMongoError as error:
            if seconds is None or not error.timeout:
                raise
            _database().client.admin.command("ping")  # a server that hangs does not answer it
            raise TookTooLong from error


@contextmanager
def _driver_errors() -> Iterator[None]:
    """What Django's backend wraps is the driver's error again."""
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        if isinstance(error.__cause__, PyMongoError):
            raise error.__cause__ from error
        raise


def deliver(documents: Sequence[Document], seconds: float | None = None) -> None:
    """Store the documents (fields of EventLog, JSON types); those there already are skipped.

    Takes `seconds` at most, or MONGODB_TIMEOUT_MS. Raises StoreAway; then any part of them may be
    stored, and delivering again is right.
    """
    if not documents:
        return
    if settings.EVENTS_EMBEDDED:
        EventLog.objects.bulk_create(
            (EventLog(**document) for document in documents), ignore_conflicts=True
        )
        return
    with breaker.guard(), _limited(seconds):
        try:
            _collection().insert_many([_to_bson(item) for item in documents], ordered=False)
        except BulkWriteError as error:
            _raise_others(error)


def keep_alerts(documents: Sequence[Document], seconds: float | None = None) -> None:
    """Store alerts (fields of Alert, JSON types), each but where one of as many transitions is.

    Takes `seconds` at most, or MONGODB_TIMEOUT_MS. Raises StoreAway; then any part of them may be
    stored, and doing it again is right.
    """
    if not documents:
        return
    if settings.EVENTS_EMBEDDED:
        for document in documents:
            _keep_alert(document)
        return
    with breaker.guard(), _limited(seconds):
        collection = _database()[Alert._meta.db_table]
        bsons = [_to_bson(document, ALERT_TIMES) for document in documents]
        try:
            collection.bulk_write([_replacing(bson, upsert=True) for bson in bsons], ordered=False)
        except BulkWriteError as error:
            _raise_others(error)
            # Some are there: the newer ones, or those that came in between and are older.
            collection.bulk_write([_replacing(bson, upsert=False) for bson in bsons], ordered=False)


def _replacing(bson: Document, *, upsert: bool) -> ReplaceOne:
    return ReplaceOne({"_id": bson["_id"], "seq": {"$lt": bson["seq"]}}, bson, upsert=upsert)


def _keep_alert(document: Document) -> None:
    fields = {name: value for name, value in document.items() if name != "id"}
    older = Alert.objects.filter(pk=document["id"], seq__lt=document["seq"])
    if not older.update(**fields):
        Alert.objects.bulk_create([Alert(**document)], ignore_conflicts=True)
        older.update(**fields)


def _raise_others(error: BulkWriteError) -> None:
    """Raise it, if anything else failed than the insertion of what is there already."""
    failures = error.details.get("writeErrors", [])
    if error.details.get("writeConcernErrors") or any(
        failure.get("code") != DUPLICATE_KEY for failure in failures
    ):
        raise error


def _limited(seconds: float | None) -> AbstractContextManager[None]:
    return nullcontext() if seconds is None else timeout(seconds)


def ping() -> str:
    """The version of the store that holds events; raises StoreAway."""
    if settings.EVENTS_EMBEDDED:
        with connections["events"].cursor() as cursor:
            cursor.execute("SELECT sqlite_version()")
            return f"SQLite {cursor.fetchone()[0]}"
    with breaker.guard():
        client = _database().client
        client.admin.command("ping")
        return _server_name(client.server_info())


def clock() -> int | None:
    """The server's time in ms; None where it is in this process or unknown. Raises StoreAway."""
    if settings.EVENTS_EMBEDDED:
        return None
    with breaker.guard():
        now = _database().client.admin.command("hello").get("localTime")
        return None if now is None else round(now.replace(tzinfo=UTC).timestamp() * 1000)


def lacks_expiry() -> bool:
    """Whether the index by which MongoDB drops what has expired is missing. Raises StoreAway."""
    if settings.EVENTS_EMBEDDED:
        return False
    with breaker.guard():
        return EXPIRY not in _collection().index_information()


def _server_name(build: dict[str, Any]) -> str:
    """`MongoDB 8.0.4`, or what a compatible server says it is."""
    for field in ("secantusVersion", "secantus", "secantusdb"):
        if field in build:
            return f"SecantusDB {build[field]}"
    return f"MongoDB {build['version']}"


def ensure_indexes() -> None:
    """The index by which MongoDB drops what has expired. Safe to run again."""
    if not settings.EVENTS_EMBEDDED:
        with breaker.guard():
            _collection().create_index("expires_at", name=EXPIRY, expireAfterSeconds=0)


def purge_expired(now: datetime) -> int:
    """Drop what has expired where the store does not do so itself; the number dropped."""
    if not settings.EVENTS_EMBEDDED:
        return 0
    return EventLog.objects.filter(expires_at__lt=now).delete()[0]


def purge_alerts(before: datetime) -> int:
    """Drop alerts that were resolved before; how many. Raises StoreAway."""
    with guarded():
        resolved = Alert.objects.filter(status=Alert.Status.RESOLVED, raised_at__lt=before)
        return resolved.filter(resolved_at__lt=before).delete()[0]


def _database() -> Any:
    return connections["events"].database  # type: ignore[attr-defined]  # pymongo's Database


def _collection() -> Any:
    return _database()[EventLog._meta.db_table]


def raw() -> Any:
    """The collection for reading documents as they are, whatever somebody may have put there."""
    return _collection().with_options(codec_options=_lenient)


def _to_bson(document: Document, times: Sequence[str] = ("time", "expires_at")) -> Document:
    bson = {name: value for name, value in document.items() if name != "id"}
    bson["_id"] = document["id"].replace("-", "")
    for field in times:
        if document[field] is None:
            continue
        moment = parse_datetime(document[field])
        assert moment is not None, field
        bson[field] = moment.astimezone(UTC)
    return bson
