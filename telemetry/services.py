"""What changes telemetry, together with what has to happen with it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from devices import admission
from devices.key_cache import DeviceRecord, Known
from events.context import origin
from iotflow.lib.batches import delete_in_pieces
from iotflow.lib.errors import Conflict
from iotflow.lib.timeparse import format_ms
from telemetry import clock, ingest, policies
from telemetry.ingest import Receipt, Submission
from telemetry.messages import Message
from telemetry.models import IdempotencyKey
from telemetry.stores import rollup_store, telemetry_store
from telemetry.throttles import one_reading

Answer = dict[str, Any]
Times = list[int | None]  # of a call's readings, in ms


def submit(*, device: DeviceRecord, message: Message, times: Times | None = None) -> Answer:
    """Store a message durably, at its own time or the one that `times_of` gave; its answer.

    Raises StoreAway or Refused.
    """
    at = message.time if times is None else times[0]
    receipt = ingest.submit(
        Submission(device, message.values, message.metadata, at, origin=origin())
    )
    return submitted(device, receipt.time)


def submit_known(digest: str, known: Known, *, message: Message) -> Receipt:
    """The same by a key that this process knows; it is checked and charged on the way.

    Raises also NotKnown and TooManyRequests.
    """
    device = known.record
    claim = admission.claim(
        digest,
        known,
        one_reading(device.id),
        clock=clock.clock_key(device.id) if message.time is None else "",
        earliest=clock.earliest(device.id),
    )
    return ingest.submit(
        Submission(device, message.values, message.metadata, message.time, claim, origin())
    )


def submitted(device: DeviceRecord, time: int) -> Answer:
    """What is answered for a message that is stored."""
    return {
        "message": "Telemetry data stored successfully",
        "device_id": device.id,
        "device_name": device.name,
        "timestamp": format_ms(time),
        "stored_in_cassandra": telemetry_store().is_cassandra,
    }


def times_of(*, device: DeviceRecord, message: Message) -> Times:
    """The message's own time, or one that the server gives; in a list, as `once` keeps it."""
    return [clock.give([device.id])[0] if message.time is None else message.time]


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks for, checked: the times of its readings, and the act at these times."""

    times: Callable[[], Times]
    act: Callable[[Times | None], Answer]


def once(*, caller: str, key: str, body: Any, prepare: Callable[[], Call]) -> Answer:
    """What the call answers, under an Idempotency-Key: again with the same body is the first
    answer, and nothing is prepared for it.

    The key is kept before anything is stored, with the times of the readings, so that a first try
    that broke off halfway and its retry write the same readings. Conflict for another body.
    """
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    kept = _checked(IdempotencyKey.objects.filter(caller=caller, key=key).first(), digest)
    if kept is not None and kept.answer is not None:
        return dict(kept.answer)
    call = prepare()
    if kept is None:
        new = {"body_digest": digest, "times": call.times()}
        kept, _ = IdempotencyKey.objects.get_or_create(caller=caller, key=key, defaults=new)
        _checked(kept, digest)
    answer: Answer = kept.answer or call.act(kept.times)
    IdempotencyKey.objects.filter(pk=kept.pk).update(answer=answer)
    return answer


def _checked(kept: IdempotencyKey | None, digest: str) -> IdempotencyKey | None:
    if kept is not None and kept.body_digest != digest:
        raise Conflict(
            "This Idempotency-Key came with another body before.",
            {"Idempotency-Key": "Was used for another body."},
        )
    return kept


def purge() -> None:
    """Drop what has outlived its time in the stores that do not do so themselves."""
    policies.note_setting()
    now = timezone.now()
    before = now - timedelta(hours=settings.IDEMPOTENCY_HOURS)
    delete_in_pieces(IdempotencyKey.objects.filter(created_at__lt=before))
    telemetry_store().purge(int(now.timestamp() * 1000))
    rollup_store().purge(int(now.timestamp() * 1000))
