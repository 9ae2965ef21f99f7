"""The public face of the event log: `record` what happened, `submitted` for telemetry."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.utils import timezone

from events import context, outbox, sinks
from events.kinds import Kind, Severity
from events.redaction import redacted
from events.sinks import Document
from iotflow.lib.errors import StoreAway
from iotflow.lib.metrics import Counter

MESSAGE_MAX = 500
# A submission has a second and a half for everything; the outbox is there at once.
PROMPT_SECONDS = 0.3
RECORDED = Counter("iotflow_events_total", "Events that were recorded.", ("kind",))


def record(kind: Kind, message: str, **fields: Any) -> None:
    """Record that something happened, in the transaction that makes it happen.

    `fields` are those of `happened`. It reaches the event log right after the commit, or later
    when that is away; exactly once. Never put a secret into `message` or `payload`: of the latter
    only what events/redaction.py allows is kept.
    """
    record_all([happened(kind, message, **fields)])


def record_all(documents: Sequence[Document]) -> None:
    """The same for many at once, each made by `happened`."""
    outbox.put_and_relay(documents)
    _count(documents)


def happened(
    kind: Kind,
    message: str,
    *,
    actor: str = "system",
    user_id: int | None = None,
    device_id: int | None = None,
    severity: Severity = Severity.INFO,
    payload: Mapping[str, Any] | None = None,
) -> Document:
    """An event of now, for `record_all`."""
    return event(
        uuid.uuid4(),
        kind,
        message,
        actor=actor,
        user_id=user_id,
        device_id=device_id,
        severity=severity,
        payload=payload,
    )


def submitted(documents: Sequence[Document]) -> None:
    """Record telemetry events: straight into the event log, into the outbox when that is away.

    Raises StoreAway when neither takes them.
    """
    try:
        sinks.deliver(documents, PROMPT_SECONDS)
    except StoreAway:
        outbox.put(documents)
    else:
        if documents and outbox.is_late(documents[0], timezone.now()):
            outbox.put(documents)  # their minute is sealed: they are told to the sealer, one by one
    _count(documents)


def _count(documents: Sequence[Document]) -> None:
    for document in documents:
        RECORDED.add(document["kind"])


def id_of(content: bytes) -> str:
    """The same id for the same content: a UUID of version 8 (RFC 9562, section 5.8)."""
    digest = sha256(content).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def event(
    event_id: uuid.UUID | str,
    kind: Kind,
    message: str,
    *,
    actor: str,
    user_id: int | None = None,
    device_id: int | None = None,
    severity: Severity = Severity.INFO,
    payload: Mapping[str, Any] | None = None,
    time: datetime | None = None,
    origin: context.Origin | None = None,
) -> Document:
    """An event as a document of JSON types, ready for the outbox or a sink."""
    moment = time or timezone.now()
    origin = origin or context.origin()
    return {
        "id": str(event_id),
        "time": moment.isoformat(),
        "kind": Kind(kind).value,
        "severity": Severity(severity).value,
        "message": message[:MESSAGE_MAX],
        "actor": actor,
        "user_id": user_id,
        "device_id": device_id,
        "address": origin.address,
        "request_id": origin.request_id,
        "payload": redacted(Kind(kind), payload) if payload else {},
        "expires_at": (moment + timedelta(days=settings.EVENT_RETENTION_DAYS)).isoformat(),
    }
