"""Data on its way out: a range of a device's time, or everything of a device that is gone.

What takes long, or has to wait for writes that are under way, is a row in the database and the
worker's to finish; what breaks off is begun again.
"""

import time
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import F
from django.http import Http404
from django.utils import timezone

from devices import configs
from devices.models import Device
from devices.services import invalidate_keys
from events import log
from events.kinds import Kind
from iotflow.lib.batches import delete_in_pieces
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import LATEST, format_ms
from telemetry import latest, rollups
from telemetry.models import Erasure, IdempotencyKey, RangeDeletion
from telemetry.readings import Deletion, LatestValue
from telemetry.stores import rollup_store, telemetry_store

# What was let in before is over by then: it has been written, or answered with a 503.
SETTLE_AFTER = timedelta(seconds=15)
TRIES = 5
# What one run of a job may take, for the others wait behind it.
SLICE = 200
SLICE_SECONDS = 2.0


def delete_range(*, device_id: int, start: int, end: int, actor: str) -> None:
    """Delete a device's readings with `start <= time <= end`, and what derives from them.

    The latest values are those that are left. Safe to repeat after it broke off. Raises
    StoreAway, and Http404 when the device is gone.
    """
    rollups.note_deletion(device_id, start, end, done=False)
    for _ in range(TRIES):
        deletion = _begin(device_id, start, end)
        telemetry_store().delete(deletion)
        if _finish_range(deletion, actor):
            rollups.note_deletion(device_id, start, end, done=True)
            _carry(deletion)  # what was written between these two
            _forget_latest(device_id, deletion.epoch)
            return
    raise StoreAway("The telemetry store")  # others delete from this device at the same time


def settle_ranges() -> bool:
    """Carry over what was still written under old epochs, and find what is far behind.

    A slice of work for each device's oldest range: a later one goes on from where it leads.
    Whether there is more to do. Raises StoreAway.
    """
    due = RangeDeletion.objects.filter(requested_at__lt=timezone.now() - SETTLE_AFTER)
    rows = due.order_by("device_id", "id")[:SLICE]
    oldest = {row.device_id: row for row in reversed(rows)}
    for row in oldest.values():
        _settle(row)
    return due.exists()


def erase_deleted() -> bool:
    """Erase what devices that were deleted have left: as many of them as SLICE_SECONDS allow.

    Everything is counted before it goes, so that the receipt is right though it broke off.
    Whether there is more to do. Raises StoreAway.
    """
    due = Erasure.objects.filter(requested_at__lt=timezone.now() - SETTLE_AFTER).order_by("id")
    deadline = time.monotonic() + SLICE_SECONDS
    failure: Exception | None = None
    for erasure in due[:SLICE]:
        try:
            _erase(erasure)
        except (StoreAway, DatabaseError) as error:
            failure = error  # what ails one must not keep the others
        if time.monotonic() > deadline:
            break
    if failure is not None:
        raise failure
    return due.exists()


def _begin(device_id: int, start: int, end: int) -> Deletion:
    """The deletion under an epoch that no other has, or a try of before that broke off."""
    with transaction.atomic():
        Device.objects.filter(pk=device_id).update(epochs_given=F("epochs_given") + 1)
        device = Device.objects.filter(pk=device_id).first()
    if device is None:
        raise Http404
    return Deletion(
        device_id,
        device.owner_id,
        start,
        end,
        device.latest_epoch,
        device.epochs_given,
        device.device_type,
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


def _settle(row: RangeDeletion) -> None:
    """One slice; the row goes with the last one."""
    deletion = row.deletion()
    store = telemetry_store()
    if row.names is None:
        _carry(deletion)
        old, new = (deletion.device_id, row.epoch), (deletion.device_id, row.next_epoch)
        places = store.latest([old, new])
        row.names, row.until = sorted(set(places[old]) - set(places[new])), LATEST
    if row.names and row.until is not None:
        found, row.until = store.find_latest(deletion, frozenset(row.names), row.until)
        _tell_redis(deletion, found)
        row.names = sorted(set(row.names) - set(found))
    this = RangeDeletion.objects.filter(pk=row.pk)
    if row.names and row.until is not None:
        this.update(names=row.names, until=row.until)
    else:
        store.drop_latest(deletion)
        this.delete()


def _erase(erasure: Erasure) -> None:
    """Telemetry first; then configurations, which another store holds that may be away."""
    device_id = erasure.device_id
    place = device_id, erasure.owner_id, erasure.latest_epoch
    RangeDeletion.objects.filter(device_id=device_id).delete()
    rows: dict[str, int] = erasure.rows or _note(
        erasure, {**telemetry_store().count(*place), **rollup_store().count(device_id)}
    )
    rollup_store().erase(device_id)
    telemetry_store().erase(*place)
    for epoch in range(erasure.latest_epoch + 1):
        _forget_latest(device_id, epoch)
    if "device_configs" not in rows:
        _note(erasure, {**rows, "device_configs": configs.count(device_id)})
    configs.erase(device_id)
    delete_in_pieces(IdempotencyKey.objects.filter(caller=f"device:{device_id}"))
    _finish_erasure(erasure)


def _note(erasure: Erasure, rows: dict[str, int]) -> dict[str, int]:
    erasure.rows = rows
    Erasure.objects.filter(pk=erasure.pk).update(rows=rows)
    return rows


@transaction.atomic
def _finish_erasure(erasure: Erasure) -> None:
    """Strike it off and record what went, unless another worker has."""
    struck, _ = Erasure.objects.filter(pk=erasure.pk).delete()
    if struck:
        log.record(
            Kind.DEVICE_ERASED,
            f"What deleted device {erasure.device_id} left was erased",
            user_id=erasure.owner_id,
            device_id=erasure.device_id,
            payload={"rows": erasure.rows},
        )


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
