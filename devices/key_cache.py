"""Who a key belongs to, from Redis for an hour at most, and never a revoked one.

For each key digest Redis holds the `record` of its device and a `mark`, a random text. A record
carries the mark it was filled under and counts only while the two agree. Invalidating sets a new
mark: a fill that read the database before the change carries the old one, however late it lands.

Redis may miss an invalidation. So the change and a KeyInvalidation row are one transaction, and
records are trusted only under a `lease` of two seconds that is renewed by applying what waits in
that table: one query in two seconds for all processes together. Whoever could not reach Redis
waits until the lease has ended before answering.

A process remembers the records it has seen with their marks, KNOWN_MAX of them. What it remembers
is as good as what Redis holds once the mark is seen to be the same, in whatever goes to Redis for
the request anyway (devices.admission).

Embedded Redis is private to a process, so nothing is cached there.
"""

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from devices.models import ApiKey, Device, KeyInvalidation
from iotflow.lib import json
from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis, shared

logger = logging.getLogger(__name__)
LEASE_SECONDS = 2.0
EMPTY_MARK_SECONDS = 60
CHUNK = 1000
KNOWN_MAX = 20_000


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What answering a device needs of it: the device's info and its key's, as JSON types."""

    id: int
    name: str
    device_type: str
    status: str
    owner_id: int
    owner_active: bool
    latest_epoch: int
    expected_interval: int | None
    grace: int | None
    key_id: int
    key_prefix: str
    expires_at: float | None  # seconds since 1970

    @property
    def may_write(self) -> bool:
        return self.status != "inactive" and self.owner_active

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now.timestamp()


def record_of(device: Device, api_key: ApiKey | None = None) -> DeviceRecord:
    """What is to be known of a device, whose owner is read with it, and of the key it uses."""
    return DeviceRecord(
        id=device.pk,
        name=device.name,
        device_type=device.device_type,
        status=device.status,
        owner_id=device.owner_id,
        owner_active=device.owner.is_active,
        latest_epoch=device.latest_epoch,
        expected_interval=device.expected_interval,
        grace=device.grace,
        key_id=api_key.pk if api_key else 0,
        key_prefix=api_key.prefix if api_key else "",
        expires_at=api_key.expires_at.timestamp() if api_key and api_key.expires_at else None,
    )


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer of the cache: the record, or the mark under which to fill one in."""

    record: DeviceRecord | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What this process remembers of a key: not to be believed before the mark is compared."""

    record: DeviceRecord
    mark: str
    until: float  # of time.monotonic


class Knowledge:
    """The records of this process by their keys' digests; the longest unused forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, digest: str) -> Known | None:
        with self._lock:
            known = self._known.get(digest)
            if known is not None and known.until < time.monotonic():
                del self._known[digest]
                return None
            if known is not None:
                self._known.move_to_end(digest)
            return known

    def put(self, digest: str, lookup: Lookup) -> None:
        if lookup.record is None or lookup.mark is None:
            return
        until = time.monotonic() + settings.KEY_CACHE_SECONDS
        with self._lock:
            self._known[digest] = Known(lookup.record, lookup.mark, until)
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def forget(self, digest: str) -> None:
        with self._lock:
            self._known.pop(digest, None)


known = Knowledge()


def find(digest: str) -> Lookup:
    """The cached record of a key, in one round trip; empty when there is none to trust."""
    lookup = _find(digest)
    known.put(digest, lookup)
    return lookup


def _find(digest: str) -> Lookup:
    if not shared():
        return Lookup()
    try:
        with redis() as client:
            lease, mark, record = client.mget(lease_key(), mark_key(digest), _record(digest))
            if lease is None:
                if not _renew_lease(client):
                    return Lookup()
                mark, record = client.mget(mark_key(digest), _record(digest))  # as it is now
            if mark is None:
                return Lookup(mark=_new_mark(client, digest))
    except StoreAway:
        return Lookup()
    return _read(record, mark.decode())


def fill(digest: str, lookup: Lookup, record: DeviceRecord) -> None:
    """Remember what the database said, under the mark that was there before it was asked."""
    if lookup.mark is None:
        return
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.set(
                _record(digest),
                json.dumps({"mark": lookup.mark, **asdict(record)}),
                ex=settings.KEY_CACHE_SECONDS,
            )
            pipe.expire(mark_key(digest), _mark_seconds())
            pipe.execute()
        known.put(digest, Lookup(record, lookup.mark))
    except StoreAway:
        logger.info("a key was not cached: Redis is away")


def invalidate(digests: Iterable[str]) -> None:
    """Distrust the records of these keys from the commit of the current transaction on."""
    if not shared():
        return
    rows = KeyInvalidation.objects.bulk_create(
        [KeyInvalidation(digest=digest) for digest in digests], batch_size=CHUNK
    )
    if rows:
        transaction.on_commit(lambda: _apply_or_wait(rows))


_is_due = threading.Event()
_renewing = threading.Lock()


def lease_lasts(ms: int) -> None:
    """Note how long the lease still lasts: before it ends, somebody should renew it."""
    if ms < 500 * LEASE_SECONDS:
        _is_due.set()


def renew_if_due() -> None:
    """Renew a lease that is about to end; one thread of a process does, and waits for it."""
    if _is_due.is_set() and _renewing.acquire(blocking=False):
        try:
            _is_due.clear()
            with suppress(StoreAway), redis() as client:
                _renew_lease(client)
        finally:
            _renewing.release()


def apply_pending(client: Any | None = None) -> int:
    """Tell Redis of every invalidation it has missed; how many. Raises StoreAway."""
    rows = list(KeyInvalidation.objects.all()[:CHUNK])
    if rows:
        if client is None:
            with redis() as client:
                _apply(client, rows)
        else:
            _apply(client, rows)
    return len(rows)


def _apply_or_wait(rows: list[KeyInvalidation]) -> None:
    try:
        with redis() as client:
            _apply(client, rows)
    except StoreAway:
        logger.warning("Redis missed %d key invalidation(s); they wait", len(rows))
        # And as long again as a renewal that is under way may take to arrive.
        time.sleep(LEASE_SECONDS + settings.REDIS_TIMEOUT_MS / 1000)


def _apply(client: Any, rows: list[KeyInvalidation]) -> None:
    for chunk in batched(rows, CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for row in chunk:
                pipe.set(mark_key(row.digest), secrets.token_hex(8), ex=_mark_seconds())
            pipe.delete(*[_record(row.digest) for row in chunk])
            pipe.execute()
        KeyInvalidation.objects.filter(pk__in=[row.pk for row in chunk]).delete()


def _renew_lease(client: Any) -> bool:
    """Apply what waits, then trust the cache for a while; False when it may not be trusted yet."""
    started = time.monotonic()
    try:
        while apply_pending(client):
            pass
    except (OperationalError, InterfaceError):
        # Nobody can change a device while its database is away, so what is cached still holds.
        logger.info("the database is away: cached keys are trusted")
    left = LEASE_SECONDS - (time.monotonic() - started)
    if left < LEASE_SECONDS / 2:
        return False
    client.set(lease_key(), b"1", px=int(left * 1000))
    return True


def _new_mark(client: Any, digest: str) -> str:
    """A mark to fill under: short-lived until it is, or any nonsense would stay for hours."""
    mark = secrets.token_hex(8)
    if client.set(mark_key(digest), mark, ex=EMPTY_MARK_SECONDS, nx=True):
        return mark
    return str((client.get(mark_key(digest)) or b"").decode())


def _read(record: bytes | None, mark: str) -> Lookup:
    if record is None:
        return Lookup(mark=mark)
    fields = json.loads(record)
    if fields.pop("mark") != mark:
        return Lookup(mark=mark)
    try:
        return Lookup(record=DeviceRecord(**fields), mark=mark)
    except TypeError:  # of another version of this program
        return Lookup(mark=mark)


def _mark_seconds() -> int:
    return 2 * settings.KEY_CACHE_SECONDS


def lease_key() -> str:
    """What is there while marks may be believed."""
    return key("apikeys", "lease")


def mark_key(digest: str) -> str:
    """Where Redis holds the mark of a key."""
    return key("apikey", digest, "mark")


def _record(digest: str) -> str:
    return key("apikey", digest)
