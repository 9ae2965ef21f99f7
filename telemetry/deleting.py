"""Data on its way out: a range of a device's time, or everything of a device that is gone.

What takes long, or has to wait for writes that are under way, is a row in the database and the
worker's to finish; what breaks off is begun again.
"""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.http import Http404
from django.utils import timezone

from devices import configs
from devices.models import Device
from devices.services import invalidate_keys
from events import log
from events.kinds import Kind
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import LATEST, format_ms
from telemetry import latest
from telemetry.models import Erasure, IdempotencyKey, RangeDeletion
from telemetry.readings import Deletion, LatestValue
from telemetry.stores import telemetry_store

# What was let in before is over by then: it has been written, or answered with a 503.
SETTLE_AFTER = timedelta(seconds=15)
TRIES = 5


def delete_range(*, device_id: int, start: int, end: int, actor: str) -> None:
    """Delete a device's readings with `start <= time <= end`, and what derives from them.

    The latest values are those that are left. Safe to repeat after it broke off. Raises
    StoreAway, and Http404 when the device is gone.
    """
    for _ in range(TRIES):
        deletion = _begin(device_id, start, end)
        telemetry_store().delete(deletion)
        if _finish_range(deletion, actor):
            _carry(deletion)  # what was written between these two
            _forget_latest(device_id, deletion.epoch)
            return
    raise StoreAway("The telemetry store")  # others delete from this device at the same time


def settle_ranges() -> int:
    """Carry over what was still written under old epochs, and find what is far behind.

    A slice of work for each range; how many are done with. Raises StoreAway.
    """
    due = RangeDeletion.objects.filter(requested_at__lt=timezone.now() - SETTLE_AFTER)
    return sum(_settle(row) for row in due.order_by("id"))


def erase_deleted() -> int:
    """Erase what devices that were deleted have left; how many devices. Raises StoreAway.

    Everything is counted before anything goes, so that the receipt is right though it broke off.
    """
    due = Erasure.objects.filter(requested_at__lt=timezone.now() - SETTLE_AFTER)
    return sum(_erase(erasure) for erasure in due.order_by("id"))


def _begin(device_id: int, start: int, end: int) -> Deletion:
    """The deletion under an epoch that no other has, or a try of before that broke off."""
    with transaction.atomic():
        Device.objects.filter(pk=device_id).update(epochs_given=F("epochs_given") + 1)
        device = Device.objects.filter(pk=device_id).first()
    if device is None:
        raise Http404
    return Deletion(
        device_id, device.owner_id, start, end, device.latest_epoch, device.epochs_given
    )


@transaction.atomic
def _finish_range(deletion: Deletion, actor: str) -> bool:
    """Move the device to the next epoch; False where another deletion moved it meanwhile."""
    moved = Device.objects.filter(pk=deletion.device_id, latest_epoch=deletion.epoch).update(
        latest_epoch=deletion.next_epoch
    )
    if not moved:
        return False
    invalidate_keys([deletion.device_id])
    RangeDeletion.of(deletion).save()
    log.record(
        Kind.TELEMETRY_DELETED,
        f"Telemetry of device {deletion.device_id} deleted",
        actor=actor,
        user_id=deletion.owner_id,
        device_id=deletion.device_id,
        payload={"start_time": format_ms(deletion.start), "stop_time": format_ms(deletion.end)},
    )
    return True


def _carry(deletion: Deletion) -> None:
    _tell_redis(deletion, telemetry_store().carry_latest(deletion))


def _settle(row: RangeDeletion) -> bool:
    """One slice; whether it was the last one."""
    deletion = row.deletion()
    if row.names is None:
        _carry(deletion)
        old, new = (deletion.device_id, row.epoch), (deletion.device_id, row.next_epoch)
        places = telemetry_store().latest([old, new])
        row.names, row.until = sorted(set(places[old]) - set(places[new])), LATEST
    if row.names and row.until is not None:
        found, row.until = telemetry_store().find_latest(deletion, frozenset(row.names), row.until)
        _tell_redis(deletion, found)
        row.names = sorted(set(row.names) - set(found))
    if row.names and row.until is not None:
        row.save()
        return False
    row.delete()
    return True


def _erase(erasure: Erasure) -> int:
    place = erasure.device_id, erasure.owner_id, erasure.latest_epoch
    RangeDeletion.objects.filter(device_id=erasure.device_id).delete()
    if erasure.rows is None:
        erasure.rows = {
            **telemetry_store().count(*place),
            "device_configs": configs.count(erasure.device_id),
        }
        erasure.save(update_fields=["rows"])
    configs.erase(erasure.device_id)
    telemetry_store().erase(*place)
    for epoch in range(erasure.latest_epoch + 1):
        _forget_latest(erasure.device_id, epoch)
    return _finish_erasure(erasure)


@transaction.atomic
def _finish_erasure(erasure: Erasure) -> int:
    """Strike it off and record what went; 0 where another worker has."""
    struck, _ = Erasure.objects.filter(pk=erasure.pk).delete()
    if struck:
        IdempotencyKey.objects.filter(caller=f"device:{erasure.device_id}").delete()
        log.record(
            Kind.DEVICE_ERASED,
            f"What deleted device {erasure.device_id} left was erased",
            user_id=erasure.owner_id,
            device_id=erasure.device_id,
            payload={"rows": erasure.rows},
        )
    return struck


def _tell_redis(deletion: Deletion, values: dict[str, LatestValue]) -> None:
    _with_redis(
        lambda client: latest.add_newest(
            client, {(deletion.device_id, deletion.next_epoch): values} if values else {}
        )
    )


def _forget_latest(device_id: int, epoch: int) -> None:
    _with_redis(lambda client: latest.forget(client, [(device_id, epoch)]))


def _with_redis(tell: Any) -> None:
    try:
        with redis() as client:
            tell(client)
    except StoreAway:
        pass  # what it does not know of expires there
