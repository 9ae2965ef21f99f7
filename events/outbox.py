"""The transactional outbox: events wait in PostgreSQL until the event log has them.

Never lost: the row is written with the change itself. Never doubled: its id is fixed before the
first attempt. Never blocking: a request tries once, right after its commit; the worker does the
rest. What is delivered stays until the sealer has taken it into the chain (events.audit).
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from events.kinds import MASS
from events.models import Outbox
from events.sinks import Document, deliver
from iotflow.lib.errors import StoreAway

logger = logging.getLogger(__name__)
BATCH = 500
LATE = timedelta(seconds=60)  # less than events.audit.sealer waits for a minute to be whole


def put(documents: Sequence[Document]) -> None:
    """Keep the documents until they are delivered; in the caller's transaction, if there is one."""
    Outbox.objects.bulk_create(
        (Outbox(event_id=document["id"], document=document) for document in documents),
        batch_size=BATCH,
        ignore_conflicts=True,
    )


def put_and_relay(documents: Sequence[Document]) -> None:
    """`put`, and one attempt at delivery as soon as the transaction is committed."""
    put(documents)
    ids = [UUID(document["id"]) for document in documents[:BATCH]]  # more is the worker's
    transaction.on_commit(lambda: _try_relay(ids), robust=True)


def relay(ids: Sequence[UUID] | None = None, limit: int = BATCH) -> int:
    """Deliver up to `limit` waiting events (of `ids`, if given), oldest first; how many went.

    Rows that another process is delivering are skipped. Raises StoreAway.
    """
    waiting = Outbox.objects.order_by("id")
    if ids is not None:
        waiting = waiting.filter(event_id__in=ids)
    elif not waiting.exists():
        return 0
    with transaction.atomic():
        rows = list(waiting.select_for_update(skip_locked=True)[:limit])
        if rows:
            deliver([row.document for row in rows])
            _keep_for_sealing(rows)
    return len(rows)


def is_late(document: Document, now: datetime) -> bool:
    """Whether the minute that the event belongs to may have been sealed by now."""
    return now - datetime.fromisoformat(document["time"]) >= LATE


def _keep_for_sealing(rows: Sequence[Outbox]) -> None:
    """Mark what is delivered; what the sealer will read with its whole minute may go."""
    kept = [
        row.pk
        for row in rows
        if row.document["kind"] not in MASS or is_late(row.document, row.created_at)
    ]
    if len(kept) < len(rows):
        going = {row.pk for row in rows}.difference(kept)
        Outbox.objects.filter(pk__in=going).delete()
    if kept:
        Outbox.objects.filter(pk__in=kept).update(delivered_at=timezone.now())


def relay_all() -> int:
    """Deliver everything that waits; how many went. Raises StoreAway."""
    total = 0
    while sent := relay():
        total += sent
    return total


def age_seconds() -> float:
    """How long the oldest waiting event has waited; 0 where none does."""
    oldest = Outbox.objects.order_by("id").values_list("created_at", flat=True).first()
    return 0.0 if oldest is None else max((timezone.now() - oldest).total_seconds(), 0.0)


def _try_relay(ids: Sequence[UUID]) -> None:
    try:
        relay(ids)
    except StoreAway:
        logger.info("%d event(s) wait in the outbox", len(ids))
