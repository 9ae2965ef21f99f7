"""What changes telemetry, together with what has to happen with it."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from devices.key_cache import DeviceRecord
from iotflow.lib.errors import Conflict
from iotflow.lib.timeparse import format_ms
from telemetry import clock, ingest
from telemetry.ingest import Submission
from telemetry.messages import Message
from telemetry.models import IdempotencyKey
from telemetry.stores import telemetry_store

Answer = dict[str, Any]
Times = list[int | None]  # of a call's readings, in ms


def submit(*, device: DeviceRecord, message: Message, times: Times | None = None) -> Answer:
    """Store a message durably, at its own time or the one that `times_of` gave; its answer.

    Raises StoreAway or Refused.
    """
    at = message.time if times is None else times[0]
    stored_at = ingest.submit(Submission(device, message.values, message.metadata, at))
    return {
        "message": "Telemetry data stored successfully",
        "device_id": device.id,
        "device_name": device.name,
        "timestamp": format_ms(stored_at),
        "stored_in_cassandra": telemetry_store().is_cassandra,
    }


def times_of(*, device: DeviceRecord, message: Message) -> Times:
    """The message's own time, or one that the server gives; in a list, as `once` keeps it."""
    return [clock.give([device.id])[0] if message.time is None else message.time]


def once(
    *,
    caller: str,
    key: str,
    body: Any,
    times: Callable[[], Times],
    act: Callable[[Times], Answer],
) -> Answer:
    """What `act` answers, under an Idempotency-Key: again with the same body is the first answer.

    The key is kept before anything is stored, with the times of the readings, so that a first try
    that broke off halfway and its retry write the same readings. Conflict for another body.
    """
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    kept = IdempotencyKey.objects.filter(caller=caller, key=key).first()
    if kept is None:
        kept, _ = IdempotencyKey.objects.get_or_create(
            caller=caller, key=key, defaults={"body_digest": digest, "times": times()}
        )
    if kept.body_digest != digest:
        raise Conflict(
            "This Idempotency-Key came with another body before.",
            {"Idempotency-Key": "Was used for another body."},
        )
    if kept.answer is None:
        kept.answer = act(kept.times)
        IdempotencyKey.objects.filter(pk=kept.pk).update(answer=kept.answer)
    answer: Answer = kept.answer
    return answer


def purge() -> None:
    """Drop what has outlived its time in the stores that do not do so themselves."""
    now = timezone.now()
    IdempotencyKey.objects.filter(
        created_at__lt=now - timedelta(hours=settings.IDEMPOTENCY_HOURS)
    ).delete()
    telemetry_store().purge(int(now.timestamp() * 1000))
