"""What becomes of commands: made by a user, handed to the device, answered by it, or over.

    queued ──▶ sent ──▶ acknowledged ──▶ succeeded | failed
       └─────────┴────────────┴──▶ cancelled | expired

Each step and its event are one transaction. A step that was made already is made again for free;
one that contradicts it is a Conflict. A device may be sent a command more than once, by several
ways: it has to know it by its id.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef
from django.http import Http404
from django.utils import timezone

from devices import notices
from devices.models import Command, Device
from events import log
from events.kinds import Kind, Severity
from events.sinks import Document
from iotflow.lib.batches import delete_in_pieces
from iotflow.lib.errors import Conflict, StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import News
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import now_ms

Status = Command.Status
PART = 500
DEVICES_MAX = 10_000
HANDED_MAX = 20
# What was sent and not acknowledged is sent again after so long, to whoever waits for commands.
REST = timedelta(seconds=30)
NO_REST = timedelta(0)
ANSWERED = (Status.SUCCEEDED, Status.FAILED)


def subject(device_id: int) -> int:
    """What channels call a device's commands, beside readings (its id) and events (-1, -2)."""
    return -2 - device_id


# --- By users -------------------------------------------------------------------------------------
@transaction.atomic
def create(
    *,
    devices: Collection[Device],
    name: str,
    params: Mapping[str, Any],
    expires_in: timedelta,
    actor: str,
    idempotency_key: str = "",
) -> list[Command]:
    """One for each device, or none at all; under an `idempotency_key`, what was made first.

    Conflict where that was another command, where a device has COMMANDS_OPEN_MAX that wait, or
    where these are more than DEVICES_MAX.
    """
    if len(devices) > DEVICES_MAX:
        raise Conflict(f"One call gives commands to {DEVICES_MAX:,} devices at most.")
    ids = [device.pk for device in devices]
    locked = list(Device.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk"))
    known = _known(ids, idempotency_key, name, params)
    new = [device for device in locked if device.pk not in known]
    now = timezone.now()
    _check_room([device.pk for device in new], now)
    made = Command.objects.bulk_create(
        [
            Command(
                device=device,
                owner_id=device.owner_id,
                name=name,
                params=params,
                created_by=actor,
                idempotency_key=idempotency_key,
                created_at=now,
                expires_at=now + expires_in,
            )
            for device in new
        ],
        batch_size=PART,
    )
    log.record_all([_event(Kind.COMMAND_CREATED, one, actor) for one in made])
    notices.commands_wait([device.pk for device in new])
    transaction.on_commit(partial(_wake, [device.pk for device in new]), robust=True)
    return sorted([*known.values(), *made], key=lambda one: one.device_id)


@transaction.atomic
def cancel(*, command: Command, actor: str) -> Command:
    """Conflict where it is over; the device may have it by now."""
    found = _locked(Command.objects.filter(pk=command.pk))
    if found.status_at(timezone.now()) == Status.CANCELLED:
        return found
    _check_open(found)
    return _moved(found, Status.CANCELLED, actor)


def _known(
    ids: Sequence[int], key: str, name: str, params: Mapping[str, Any]
) -> dict[int, Command]:
    if not key:
        return {}
    found = Command.objects.of_owners().filter(device__in=ids, idempotency_key=key)
    known = {one.device_id: one for one in found}
    if any((one.name, one.params) != (name, params) for one in known.values()):
        reason = "This key was used for another command."
        raise Conflict(reason, {"Idempotency-Key": reason})
    return known


def _check_room(ids: Sequence[int], now: datetime) -> None:
    most = settings.COMMANDS_OPEN_MAX
    waiting = Command.objects.of_owners().open(now).filter(device__in=ids)
    counted = waiting.values("device").annotate(number=Count("pk"))
    full = counted.filter(number__gte=most).order_by("device")
    if device_id := full.values_list("device", flat=True).first():
        raise Conflict(f"Device {device_id} has {most} commands that wait already.")


def _wake(device_ids: Iterable[int]) -> None:
    """Whoever waits for commands of these; without Redis they look by themselves."""
    try:
        with redis() as client:
            channels.tell(client, [News(subject(pk), now_ms(), b"new") for pk in device_ids])
    except StoreAway:
        pass


# --- By devices -----------------------------------------------------------------------------------
def hand_out(device_id: int, rest: timedelta = REST) -> list[Command]:
    """The oldest HANDED_MAX that the device is to be sent now, which are sent by that."""
    now = timezone.now()
    due = Command.objects.due({device_id: now - rest}, now)
    if not due.exists():  # it is asked often, and no lock is taken for nothing
        return []
    with transaction.atomic():
        found = list(due.select_for_update(of=("self",))[:HANDED_MAX])
        return _sent(found)


def waiting(before: Mapping[int, datetime]) -> list[Command]:
    """The same of many devices, by one query; sent by nobody yet. Of each what is new, and what was
    not acknowledged and last sent `before` then.
    """
    return list(Command.objects.due(before, timezone.now()).first_of_each(HANDED_MAX))


@transaction.atomic
def sent(commands: Collection[Command]) -> None:
    """Somebody has taken these for the device."""
    found = Command.objects.filter(pk__in=[one.pk for one in commands])
    waits = found.filter(status__in=[Status.QUEUED, Status.SENT]).order_by("created_at", "id")
    _sent(list(waits.select_for_update(of=("self",))))


def _sent(found: list[Command]) -> list[Command]:
    """Those locked are sent; the first time is an event."""
    new = [one for one in found if one.status == Status.QUEUED]
    for one in found:
        one.status, one.sent_at, one.times_sent = Status.SENT, timezone.now(), one.times_sent + 1
    Command.objects.bulk_update(found, ["status", "sent_at", "times_sent"], batch_size=PART)
    log.record_all([_event(Kind.COMMAND_SENT, one, "system") for one in new])
    return found


@transaction.atomic
def acknowledge(*, device_id: int, command_id: UUID) -> Command:
    """The device has it. Http404, or Conflict where it is cancelled or expired."""
    found = _of_device(device_id, command_id)
    if found.status in (Status.ACKNOWLEDGED, *ANSWERED):
        return found
    _check_open(found)
    return _moved(found, Status.ACKNOWLEDGED, f"device:{device_id}")


@transaction.atomic
def finish(
    *, device_id: int, command_id: UUID, status: str, result: Mapping[str, Any] | None
) -> Command:
    """The device has done it, or could not; acknowledged or not. Http404, or Conflict where it is
    over, unless just so.
    """
    found = _of_device(device_id, command_id)
    if found.status in ANSWERED and (found.status, found.result) == (status, result):
        return found
    _check_open(found)
    found.result = result
    return _moved(found, Status(status), f"device:{device_id}")


def _of_device(device_id: int, command_id: UUID) -> Command:
    return _locked(Command.objects.of_owners().filter(pk=command_id, device_id=device_id))


# --- By time --------------------------------------------------------------------------------------
def expire() -> int:
    """Have those expire whose time is over; how many. Safe to run twice and in several workers."""
    total = 0
    while number := _expire_part():
        total += number
    return total


@transaction.atomic
def _expire_part() -> int:
    overdue = Command.objects.overdue(timezone.now()).order_by("expires_at")
    found = list(overdue.select_for_update(skip_locked=True, of=("self",))[:PART])
    for one in found:
        one.status, one.finished_at = Status.EXPIRED, one.expires_at
    Command.objects.bulk_update(found, ["status", "finished_at"])
    log.record_all([_event(Kind.COMMAND_EXPIRED, one, "system") for one in found])
    return len(found)


def purge(now: datetime) -> None:
    """Drop those that are over for as long as events are kept, and those of devices that went."""
    old = now - timedelta(days=settings.EVENT_RETENTION_DAYS)
    device = Device.objects.filter(pk=OuterRef("device_id"))
    delete_in_pieces(Command.objects.filter(created_at__lt=old, finished_at__lt=old))
    delete_in_pieces(Command.objects.filter(~Exists(device)))


# --- Steps ----------------------------------------------------------------------------------------
def _locked(found: Any) -> Command:
    command: Command | None = found.select_for_update(of=("self",)).first()
    if command is None:
        raise Http404
    return command


def _check_open(command: Command) -> None:
    now = timezone.now()
    if (status := command.status_at(now)) not in (Status.QUEUED, Status.SENT, Status.ACKNOWLEDGED):
        raise Conflict(f"This command is over: {status}.")


def _moved(command: Command, status: Status, actor: str) -> Command:
    command.status = status
    now = timezone.now()
    if status == Status.ACKNOWLEDGED:
        command.acknowledged_at = now
    else:
        command.finished_at = now
    command.save(update_fields=["status", "result", "acknowledged_at", "finished_at"])
    log.record_all([_event(Kind(f"command.{status.value}"), command, actor)])
    return command


def _event(kind: Kind, command: Command, actor: str) -> Document:
    """Parameters and results may be secrets of the device."""
    what = kind.value.removeprefix("command.")
    is_bad = kind in (Kind.COMMAND_FAILED, Kind.COMMAND_EXPIRED)
    return log.happened(
        kind,
        f"Command {command.name} of device {command.device_id} {what}",
        actor=actor,
        user_id=command.owner_id,
        device_id=command.device_id,
        severity=Severity.WARNING if is_bad else Severity.INFO,
        payload={"command_id": str(command.pk), "name": command.name},
    )
