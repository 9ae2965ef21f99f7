"""What changes devices, keys and groups, together with what has to happen with it.

Each runs in one transaction: the change, the invalidation of cached keys, the event.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import Http404
from django.utils import timezone

from accounts.models import User
from devices import key_cache, keys, presence
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from devices.signals import devices_deleted
from events import log
from events.kinds import Kind
from iotflow.lib.errors import Conflict

NAME_TAKEN = {"name": "You have a device of this name already."}
GROUP_NAME_TAKEN = {"name": "You have a group of this name already."}


def register_device(*, owner: User, fields: Mapping[str, Any], actor: str) -> tuple[Device, str]:
    """A new active device and its key, which is shown now and never again. Conflict on the name."""
    try:
        with transaction.atomic():
            device = Device.objects.create(owner=owner, **fields)
            return device, equip_device(device=device, actor=actor)
    except IntegrityError as error:
        raise Conflict("A device of this name exists.", NAME_TAKEN) from error


def equip_device(*, device: Device, actor: str) -> str:
    """The first key of a device just made, in the transaction that made it."""
    secret = _new_key(device)
    log.record(
        Kind.DEVICE_REGISTERED,
        f"Device {device.name} registered",
        actor=actor,
        user_id=device.owner_id,
        device_id=device.pk,
        payload={"device_type": device.device_type},
    )
    return secret


def change_device(*, device: Device, fields: Mapping[str, Any], actor: str) -> Device:
    """Change the fields given; a change of `status` is its own event. Conflict on the name."""
    before = {name: getattr(device, name) for name in fields}
    changed = {name: value for name, value in fields.items() if before[name] != value}
    if not changed:
        return device
    for name, value in changed.items():
        setattr(device, name, value)
    try:
        with transaction.atomic():
            device.save(update_fields=[*changed, "updated_at"])
            announce_change(device=device, before=before, actor=actor)
    except IntegrityError as error:
        raise Conflict("A device of this name exists.", NAME_TAKEN) from error
    return device


def announce_change(*, device: Device, before: Mapping[str, Any], actor: str) -> None:
    """What follows from a saved change, in its transaction. `before` holds the old values."""
    invalidate_keys([device.pk])
    record_change(device=device, before=before, actor=actor)


def record_change(*, device: Device, before: Mapping[str, Any], actor: str) -> None:
    """The events of a saved change: one of the status, one of everything else."""
    after = {name: getattr(device, name) for name in before}
    changes = {
        name: [str(before[name]), str(after[name])]
        for name in before
        if before[name] != after[name]
    }
    if "status" in changes:
        old, new = changes.pop("status")
        log.record(
            Kind.DEVICE_STATUS_CHANGED,
            f"Device {device.name}: {old} → {new}",
            actor=actor,
            user_id=device.owner_id,
            device_id=device.pk,
            payload={"before": old, "after": new},
        )
    if changes:
        log.record(
            Kind.DEVICE_CHANGED,
            f"Device {device.name} changed: {', '.join(changes)}",
            actor=actor,
            user_id=device.owner_id,
            device_id=device.pk,
            payload={"changes": changes},
        )


@transaction.atomic
def set_status(*, devices: Iterable[Device], status: str, actor: str) -> int:
    """Give all of them the status; how many had another one."""
    changed = [device for device in devices if device.status != status]
    invalidate_keys([device.pk for device in changed])
    for device in changed:
        before = {"status": device.status}
        device.status = status
        device.save(update_fields=["status", "updated_at"])
        record_change(device=device, before=before, actor=actor)
    return len(changed)


@transaction.atomic
def rotate_key(*, device: Device, actor: str) -> str:
    """A new key, shown now and never again; every older one of the device ends at once."""
    _revoke(ApiKey.objects.filter(device=device, revoked_at=None))
    secret = _new_key(device)
    log.record(
        Kind.DEVICE_KEY_ROTATED,
        f"The key of device {device.name} was rotated",
        actor=actor,
        user_id=device.owner_id,
        device_id=device.pk,
        payload={"prefix": keys.shown(secret)},
    )
    return secret


@transaction.atomic
def delete_devices(*, devices: Iterable[Device], actor: str) -> int:
    """Delete them with keys and memberships at once; their telemetry follows in the background."""
    doomed = list(devices)
    ids = [device.pk for device in doomed]
    invalidate_keys(ids)
    devices_deleted.send(sender=Device, device_ids=ids)
    for device in doomed:
        log.record(
            Kind.DEVICE_DELETED,
            f"Device {device.name} deleted",
            actor=actor,
            user_id=device.owner_id,
            device_id=device.pk,
        )
    Device.objects.filter(pk__in=ids).delete()
    transaction.on_commit(lambda: presence.forget(ids))
    return len(doomed)


def invalidate_keys(device_ids: Collection[int]) -> None:
    """Make every process ask the database again about these devices' keys."""
    key_cache.invalidate(
        ApiKey.objects.filter(device__in=device_ids).values_list("digest", flat=True)
    )


def create_group(*, owner: User, fields: Mapping[str, Any], actor: str) -> DeviceGroup:
    """A new empty group. Conflict on the name."""
    try:
        with transaction.atomic():
            group = DeviceGroup.objects.create(owner=owner, **fields)
            record_group(Kind.GROUP_CREATED, group, "created", actor)
    except IntegrityError as error:
        raise Conflict("A group of this name exists.", GROUP_NAME_TAKEN) from error
    return group


def change_group(*, group: DeviceGroup, fields: Mapping[str, Any], actor: str) -> DeviceGroup:
    """Change the fields given. Conflict on the name."""
    for name, value in fields.items():
        setattr(group, name, value)
    try:
        with transaction.atomic():
            group.save(update_fields=[*fields, "updated_at"])
            record_group(Kind.GROUP_CHANGED, group, "changed", actor)
    except IntegrityError as error:
        raise Conflict("A group of this name exists.", GROUP_NAME_TAKEN) from error
    return group


@transaction.atomic
def delete_group(*, group: DeviceGroup, actor: str) -> None:
    """Delete the group; its devices stay."""
    record_group(Kind.GROUP_DELETED, group, "deleted", actor)
    group.delete()


def add_to_group(*, group: DeviceGroup, device: Device, actor: str) -> GroupMembership:
    """Put the device in the group. Conflict when it is in it."""
    try:
        with transaction.atomic():
            membership = GroupMembership(group=group, device=device)
            membership.clean()
            membership.save()
            record_membership(Kind.GROUP_DEVICE_ADDED, membership, actor)
    except IntegrityError as error:
        if not GroupMembership.objects.filter(group=group.pk, device=device.pk).exists():
            raise Http404 from error  # one of them was deleted meanwhile
        raise Conflict(
            "The device is in this group already.", {"device_id": "It is in this group already."}
        ) from error
    return membership


@transaction.atomic
def add_all_to_group(*, group: DeviceGroup, devices: Iterable[Device], actor: str) -> int:
    """Put the devices in the group, but those that are in it already; how many joined."""
    inside = set(group.memberships.values_list("device_id", flat=True))
    joining = [
        GroupMembership(group=group, device=device) for device in devices if device.pk not in inside
    ]
    for membership in joining:
        membership.clean()
    GroupMembership.objects.bulk_create(joining, ignore_conflicts=True)
    for membership in joining:
        record_membership(Kind.GROUP_DEVICE_ADDED, membership, actor)
    return len(joining)


@transaction.atomic
def remove_from_group(*, membership: GroupMembership, actor: str) -> None:
    record_membership(Kind.GROUP_DEVICE_REMOVED, membership, actor)
    membership.delete()


def record_membership(kind: Kind, membership: GroupMembership, actor: str) -> None:
    """Record that a device joined or left a group."""
    what = "has" if kind == Kind.GROUP_DEVICE_ADDED else "no longer has"
    device = membership.device
    record_group(kind, membership.group, f"{what} {device.name}", actor, device.pk)


def record_group(
    kind: Kind, group: DeviceGroup, what: str, actor: str, device_id: int | None = None
) -> None:
    log.record(
        kind,
        f"Group {group.name} {what}",
        actor=actor,
        user_id=group.owner_id,
        device_id=device_id,
        payload={"group_id": group.pk},
    )


def _new_key(device: Device) -> str:
    secret = keys.make()
    ApiKey.objects.create(
        device=device,
        digest=keys.digest(secret, settings.API_KEY_PEPPER),
        prefix=keys.shown(secret),
    )
    return secret


def _revoke(api_keys: Any) -> None:
    digests = list(api_keys.values_list("digest", flat=True))
    api_keys.update(revoked_at=timezone.now())
    key_cache.invalidate(digests)
