"""What changes devices, keys and groups, together with what has to happen with it.

Each runs in one transaction: the change, the invalidation of cached keys, the event. What is
done to many devices runs in one for each PIECE of them.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone

from accounts.models import User
from devices import key_cache, keys, notices, presence
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from devices.querysets import ApiKeys
from devices.signals import devices_deleted
from events import log
from events.kinds import Kind
from events.sinks import Document
from iotflow.lib.batches import batched
from iotflow.lib.errors import Conflict

PIECE = 500
NAME_TAKEN = {"name": "You have a device of this name already."}
GROUP_NAME_TAKEN = {"name": "You have a group of this name already."}


def register_device(*, owner: User, fields: Mapping[str, Any], actor: str) -> tuple[Device, str]:
    """A new active device and its key, which is shown now and never again.

    Conflict on the name; Http404 when the owner was deleted meanwhile.
    """
    try:
        with transaction.atomic():
            device = Device.objects.create(owner=owner, **fields)
            return device, equip_device(device=device, actor=actor)
    except IntegrityError as error:
        _check_there(owner)
        raise Conflict("A device of this name exists.", NAME_TAKEN) from error


def register_devices(*, owner: User, rows: Iterable[Mapping[str, Any]], actor: str) -> list[Device]:
    """New active devices, which have no key yet; all of them or none. Conflict on a name."""
    try:
        with transaction.atomic():
            devices = Device.objects.bulk_create(Device(owner=owner, **fields) for fields in rows)
            log.record_all([registered(device, actor) for device in devices])
    except IntegrityError as error:
        _check_there(owner)
        raise Conflict("A device of this name exists.", NAME_TAKEN) from error
    return devices


def equip_device(*, device: Device, actor: str) -> str:
    """The first key of a device just made, in the transaction that made it."""
    _, secret = _new_key(device, {})
    log.record_all([registered(device, actor)])
    return secret


def registered(device: Device, actor: str) -> Document:
    """The event of a device just made."""
    return log.happened(
        Kind.DEVICE_REGISTERED,
        f"Device {device.name} registered",
        actor=actor,
        user_id=device.owner_id,
        device_id=device.pk,
        payload={"device_type": device.device_type},
    )


def change_device(*, device: Device, fields: Mapping[str, Any], actor: str) -> Device:
    """Change the fields given; a change of `status` is its own event. Conflict on the name.

    The device is read again first. Http404 when it is gone.
    """
    with transaction.atomic():
        try:
            device.refresh_from_db(from_queryset=Device.objects.select_for_update(no_key=True))
        except Device.DoesNotExist as error:
            raise Http404 from error
        return _change(device, fields, actor)


def report_device(*, device_id: int, fields: Mapping[str, Any]) -> Device:
    """Change what a device says about itself. PermissionDenied when it is switched off by now."""
    with transaction.atomic():
        device = get_object_or_404(Device.objects.select_for_update(no_key=True), pk=device_id)
        if device.status == Device.Status.INACTIVE:
            raise PermissionDenied
        return _change(device, fields, f"device:{device.pk}")


def _change(device: Device, fields: Mapping[str, Any], actor: str) -> Device:
    """Of a device whose row is locked."""
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
    log.record_all(changes(device, before, actor))


def changes(device: Device, before: Mapping[str, Any], actor: str) -> list[Document]:
    """The events of a saved change: one of the status, one of everything else."""
    after = {name: getattr(device, name) for name in before}
    changed = {
        name: [str(before[name]), str(after[name])]
        for name in before
        if before[name] != after[name]
    }
    about: dict[str, Any] = {"actor": actor, "user_id": device.owner_id, "device_id": device.pk}
    events = []
    if "status" in changed:
        old, new = changed.pop("status")
        text = f"Device {device.name}: {old} → {new}"
        payload = {"before": old, "after": new}
        events.append(log.happened(Kind.DEVICE_STATUS_CHANGED, text, payload=payload, **about))
    if changed:
        text = f"Device {device.name} changed: {', '.join(changed)}"
        events.append(
            log.happened(Kind.DEVICE_CHANGED, text, payload={"changes": changed}, **about)
        )
    return events


def set_status(*, devices: Iterable[Device], status: str, actor: str) -> int:
    """Give them the status, PIECE at a time, each all or nothing; how many had another one."""
    return sum(_give_status(some, status, actor) for some in batched(devices, PIECE))


@transaction.atomic
def _give_status(devices: list[Device], status: str, actor: str) -> int:
    others = Device.objects.filter(pk__in=[device.pk for device in devices]).exclude(status=status)
    locked = list(others.select_for_update(no_key=True).order_by("pk"))
    ids, events = [device.pk for device in locked], []
    for device in locked:
        before, device.status = {"status": device.status}, status
        events += changes(device, before, actor)
    Device.objects.filter(pk__in=ids).update(status=status, updated_at=timezone.now())
    log.record_all(events)
    invalidate_keys(ids)
    return len(locked)


@transaction.atomic
def rotate_key(
    *,
    device: Device,
    actor: str,
    grace_seconds: int = 0,
    fields: Mapping[str, Any] | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, shown now and never again; every older one of the device ends.

    They end at once, or `grace_seconds` from now where they would have lived longer. `fields`
    are the new key's `label` and `expires_at`. Conflict when keys in their grace leave no room.
    """
    _lock(device)
    older = ApiKey.objects.filter(device=device).unended(timezone.now())
    if grace_seconds:
        _expire(older, timezone.now() + timedelta(seconds=grace_seconds))
        _check_room(device)
    else:
        _revoke(older)
    notices.keys_ended([device.pk])
    api_key, secret = _new_key(device, fields or {})
    _record_key(
        Kind.DEVICE_KEY_ROTATED, api_key, "was rotated", actor, {"grace_seconds": grace_seconds}
    )
    return api_key, secret


@transaction.atomic
def create_key(*, device: Device, fields: Mapping[str, Any], actor: str) -> tuple[ApiKey, str]:
    """One more key and its secret, shown now and never again. Conflict when there is no room.

    `fields` are its `label`, `valid_from` and `expires_at`.
    """
    _lock(device)
    _check_room(device)
    api_key, secret = _new_key(device, fields)
    _record_key(Kind.DEVICE_KEY_CREATED, api_key, "was created", actor)
    return api_key, secret


@transaction.atomic
def revoke_key(*, api_key: ApiKey, actor: str) -> None:
    """End the key at once, and for ever."""
    _lock(api_key.device)
    if _revoke(ApiKey.objects.filter(pk=api_key.pk, revoked_at=None)):
        notices.keys_ended([api_key.device_id])
        _record_key(Kind.DEVICE_KEY_REVOKED, api_key, "was revoked", actor)


def delete_devices(*, devices: Iterable[Device], actor: str) -> int:
    """Delete them with keys and memberships, PIECE at a time, each all or nothing; how many.

    Their telemetry follows in the background.
    """
    return sum(_delete(some, actor) for some in batched(devices, PIECE))


@transaction.atomic
def _delete(devices: list[Device], actor: str) -> int:
    named = [device.pk for device in devices]
    doomed = list(Device.objects.select_for_update().filter(pk__in=named).order_by("pk"))
    ids = [device.pk for device in doomed]
    keys_of = _count(ApiKey, ids)
    groups_of = _count(GroupMembership, ids)
    invalidate_keys(ids)
    notices.devices_deleted(ids)
    devices_deleted.send(sender=Device, device_ids=ids)
    log.record_all(
        [
            log.happened(
                Kind.DEVICE_DELETED,
                f"Device {device.name} deleted",
                actor=actor,
                user_id=device.owner_id,
                device_id=device.pk,
                payload={
                    "keys": keys_of.get(device.pk, 0),
                    "memberships": groups_of.get(device.pk, 0),
                },
            )
            for device in doomed
        ]
    )
    Device.objects.filter(pk__in=ids).delete()
    transaction.on_commit(lambda: presence.forget(ids))
    return len(doomed)


def _count(model: type[ApiKey] | type[GroupMembership], device_ids: list[int]) -> dict[int, int]:
    rows = model._default_manager.filter(device__in=device_ids).order_by()
    return dict(rows.values("device_id").annotate(n=Count("pk")).values_list("device_id", "n"))


def invalidate_keys(device_ids: Collection[int]) -> None:
    """Make every process ask the database again about these devices' keys."""
    key_cache.invalidate(ApiKey.objects.filter(device__in=device_ids).locked_digests())


def create_group(*, owner: User, fields: Mapping[str, Any], actor: str) -> DeviceGroup:
    """A new empty group. Conflict on the name; Http404 when the owner was deleted meanwhile."""
    try:
        with transaction.atomic():
            group = DeviceGroup.objects.create(owner=owner, **fields)
            record_group(Kind.GROUP_CREATED, group, "created", actor)
    except IntegrityError as error:
        _check_there(owner)
        raise Conflict("A group of this name exists.", GROUP_NAME_TAKEN) from error
    return group


def change_group(*, group: DeviceGroup, fields: Mapping[str, Any], actor: str) -> DeviceGroup:
    """Change the fields given. Conflict on the name."""
    changes = {name: [str(getattr(group, name)), str(value)] for name, value in fields.items()}
    for name, value in fields.items():
        setattr(group, name, value)
    try:
        with transaction.atomic():
            group.save(update_fields=[*fields, "updated_at"])
            record_group(Kind.GROUP_CHANGED, group, "changed", actor, changes=changes)
    except IntegrityError as error:
        raise Conflict("A group of this name exists.", GROUP_NAME_TAKEN) from error
    return group


@transaction.atomic
def delete_group(*, group: DeviceGroup, actor: str) -> None:
    """Delete the group; its devices stay. Http404 when it is gone."""
    _lock_group(group)
    record_group(Kind.GROUP_DELETED, group, "deleted", actor)
    group.delete()


def add_to_group(*, group: DeviceGroup, device: Device, actor: str) -> GroupMembership:
    """Put the device in the group. Conflict when it is in it."""
    try:
        with transaction.atomic():
            _lock_group(group)
            membership = GroupMembership(group=group, device=device)
            membership.clean()
            membership.save()
            record_memberships(Kind.GROUP_DEVICE_ADDED, [membership], actor)
    except IntegrityError as error:
        if not GroupMembership.objects.filter(group=group.pk, device=device.pk).exists():
            raise Http404 from error  # the device was deleted meanwhile
        raise Conflict(
            "The device is in this group already.", {"device_id": "It is in this group already."}
        ) from error
    return membership


def add_all_to_group(*, group: DeviceGroup, devices: Collection[Device], actor: str) -> int:
    """Put the devices in the group, but those that are in it already; how many joined.

    Http404 when the group is gone, ValidationError naming the devices that are. They are not
    locked: the constraint holds off their deletion, and nothing else, while it is checked.
    """
    try:
        with transaction.atomic():
            _lock_group(group)
            return _add_all(group, devices, actor)
    except IntegrityError as error:
        wanted = {device.pk for device in devices}
        there = Device.objects.filter(pk__in=wanted).values_list("pk", flat=True)
        raise no_such_devices(wanted.difference(there)) from error


def no_such_devices(ids: Iterable[int]) -> ValidationError:
    """The refusal of a list that names what is not there."""
    named = ", ".join(map(str, sorted(ids)[:10]))
    return ValidationError({"device_ids": [f"There is no device {named}."]})


def _add_all(group: DeviceGroup, devices: Collection[Device], actor: str) -> int:
    """To a group whose row is locked."""
    inside = set(group.memberships.values_list("device_id", flat=True))
    joining = [
        GroupMembership(group=group, device=device)
        for device in sorted(devices, key=attrgetter("pk"))
        if device.pk not in inside
    ]
    for membership in joining:
        membership.clean()
    GroupMembership.objects.bulk_create(joining, ignore_conflicts=True)
    record_memberships(Kind.GROUP_DEVICE_ADDED, joining, actor)
    return len(joining)


@transaction.atomic
def remove_from_group(*, membership: GroupMembership, actor: str) -> None:
    """Take a device out of a group. Http404 when it is out already."""
    removed, _ = GroupMembership.objects.filter(pk=membership.pk).delete()
    if not removed:
        raise Http404
    record_memberships(Kind.GROUP_DEVICE_REMOVED, [membership], actor)


@transaction.atomic
def remove_all_from_group(*, group: DeviceGroup, device_ids: Collection[int], actor: str) -> int:
    """Take the devices out of the group, as many as are in it; how many left."""
    leaving = list(
        group.memberships.select_for_update(of=("self",))
        .select_related("group", "device")
        .filter(device__in=device_ids)
    )
    record_memberships(Kind.GROUP_DEVICE_REMOVED, leaving, actor)
    GroupMembership.objects.filter(pk__in=[membership.pk for membership in leaving]).delete()
    return len(leaving)


def record_memberships(kind: Kind, memberships: Iterable[GroupMembership], actor: str) -> None:
    """Record that devices joined or left groups."""
    what = "has" if kind == Kind.GROUP_DEVICE_ADDED else "no longer has"
    log.record_all(
        [
            _group_event(kind, item.group, f"{what} {item.device.name}", actor, item.device_id)
            for item in memberships
        ]
    )


def record_group(kind: Kind, group: DeviceGroup, what: str, actor: str, **details: Any) -> None:
    """Record that something happened to the group; `details` go into the payload."""
    log.record_all([_group_event(kind, group, what, actor, **details)])


def _group_event(
    kind: Kind,
    group: DeviceGroup,
    what: str,
    actor: str,
    device_id: int | None = None,
    **details: Any,
) -> Document:
    return log.happened(
        kind,
        f"Group {group.name} {what}",
        actor=actor,
        user_id=group.owner_id,
        device_id=device_id,
        payload={"group_id": group.pk, **details},
    )


def _lock(device: Device) -> None:
    """Whoever changes the keys of a device does so one after another. Http404 when it is gone."""
    if not Device.objects.select_for_update().filter(pk=device.pk).exists():
        raise Http404


def _lock_group(group: DeviceGroup) -> None:
    """Whoever fills or deletes a group does so one after another. Http404 when it is gone."""
    if not DeviceGroup.objects.select_for_update().filter(pk=group.pk).exists():
        raise Http404


def _check_there(owner: User) -> None:
    if not User.objects.filter(pk=owner.pk).exists():
        raise Http404


def _check_room(device: Device) -> None:
    unended = ApiKey.objects.filter(device=device).unended(timezone.now()).count()
    if unended >= settings.KEYS_PER_DEVICE:
        raise Conflict(f"The device has {unended} keys that have not ended. Revoke one first.")


def _new_key(device: Device, fields: Mapping[str, Any]) -> tuple[ApiKey, str]:
    secret = keys.make()
    api_key = ApiKey.objects.create(
        device=device,
        digest=keys.digest(secret, settings.API_KEY_PEPPER),
        pepper=keys.fingerprint(settings.API_KEY_PEPPER),
        prefix=keys.shown(secret),
        **fields,
    )
    return api_key, secret


def _revoke(api_keys: ApiKeys) -> int:
    """End them at once; how many. Whether a key is revoked does not depend on anybody's clock."""
    digests = api_keys.locked_digests()
    api_keys.update(revoked_at=timezone.now())
    key_cache.invalidate(digests)
    return len(digests)


def _expire(api_keys: ApiKeys, end: datetime) -> None:
    """Let them end at `end`, but for those that end before."""
    later = api_keys.filter(Q(expires_at=None) | Q(expires_at__gt=end))
    digests = later.locked_digests()
    later.update(expires_at=end)
    key_cache.invalidate(digests)


def _record_key(
    kind: Kind, api_key: ApiKey, what: str, actor: str, facts: Mapping[str, Any] | None = None
) -> None:
    device = api_key.device
    log.record(
        kind,
        f"Key {api_key} of device {device.name} {what}",
        actor=actor,
        user_id=device.owner_id,
        device_id=device.pk,
        payload={
            "key_id": api_key.pk,
            "prefix": api_key.prefix,
            "label": api_key.label,
            **(facts or {}),
        },
    )
