"""What changes telemetry, together with what has to happen with it."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from devices.key_cache import DeviceRecord
from events import log
from events.kinds import Kind
from iotflow.lib import json
from iotflow.lib.errors import Conflict, StoreAway
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import format_ms
from telemetry import clock, ingest, latest
from telemetry.ingest import Submission
from telemetry.models import Erasure, IdempotencyKey
from telemetry.serializers import Message
from telemetry.stores import telemetry_store

# A submission that was let in before its device was deleted is over by then.
ERASE_AFTER = timedelta(seconds=10)


def submit(*, device: DeviceRecord, message: Message) -> dict[str, Any]:
    """Store a message durably; its answer. Raises StoreAway or Refused."""
    time = ingest.submit(Submission(device, message.values, message.metadata, message.time))
    return {
        "message": "Telemetry data stored successfully",
        "device_id": device.id,
        "device_name": device.name,
        "timestamp": format_ms(time),
        "stored_in_cassandra": telemetry_store().is_cassandra,
    }


def submit_once(*, device: DeviceRecord, message: Message, key: str) -> dict[str, Any]:
    """The same under an Idempotency-Key: again with the same body is the first answer again.

    The key is kept before anything is stored, with the time of the reading, so that a first try
    that broke off halfway and its retry write the same reading. Conflict for another body.
    """
    digest = _digest(message)
    kept, _ = IdempotencyKey.objects.get_or_create(
        device_id=device.id,
        key=key,
        defaults={
            "body_digest": digest,
            "time": clock.give([device.id])[0] if message.time is None else message.time,
        },
    )
    if kept.body_digest != digest:
        raise Conflict(
            "This Idempotency-Key came with another body before.",
            {"Idempotency-Key": "Was used for another body."},
        )
    if kept.answer is None:
        timed = Message(message.values, message.metadata, kept.time)
        kept.answer = submit(device=device, message=timed)
        IdempotencyKey.objects.filter(pk=kept.pk).update(answer=kept.answer)
    answer: dict[str, Any] = kept.answer
    return answer


@dataclass(frozen=True, slots=True)
class Purged:
    values: int
    idempotency_keys: int


def purge() -> Purged:
    """Drop what has outlived its time in the stores that do not do so themselves."""
    now = timezone.now()
    keys, _ = IdempotencyKey.objects.filter(
        created_at__lt=now - timedelta(hours=settings.IDEMPOTENCY_HOURS)
    ).delete()
    return Purged(telemetry_store().purge(int(now.timestamp() * 1000)), keys)


def erase_deleted() -> int:
    """Erase the telemetry of devices that were deleted; how many. Raises StoreAway.

    A device's row goes last, so that what breaks off is begun again.
    """
    erased = 0
    due = Erasure.objects.filter(requested_at__lt=timezone.now() - ERASE_AFTER).order_by("id")
    for erasure in due:
        telemetry_store().erase(erasure.device_id, erasure.owner_id, erasure.latest_epoch)
        _forget_latest(erasure.device_id, erasure.latest_epoch)
        IdempotencyKey.objects.filter(device_id=erasure.device_id).delete()
        erased += _finish(erasure)
    return erased


@transaction.atomic
def _finish(erasure: Erasure) -> int:
    """Strike it off and record it; 0 where another worker has."""
    struck, _ = Erasure.objects.filter(pk=erasure.pk).delete()
    if struck:
        log.record(
            Kind.DEVICE_ERASED,
            f"The telemetry of deleted device {erasure.device_id} was erased",
            user_id=erasure.owner_id,
            device_id=erasure.device_id,
        )
    return struck


def _forget_latest(device_id: int, epoch: int) -> None:
    try:
        with redis() as client:
            latest.forget(client, [(device_id, epoch)])
    except StoreAway:
        pass  # it expires, and nobody can ask for a device that is gone


def _digest(message: Message) -> str:
    body = [sorted(message.values.items()), message.metadata, message.stamp]
    return hashlib.sha256(json.dumps(body)).hexdigest()
