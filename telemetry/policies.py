"""Changes of how long telemetry is kept, and what they leave to be done.

What is written expires as it was to when it was written. So every change is noted, and matters
until what was written before it has gone, or was brought to what holds now by `enforce`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from devices.models import Device
from events import log
from events.kinds import Kind
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis
from telemetry import latest, retention
from telemetry.models import RetentionChange, RetentionPolicy, what
from telemetry.retention import Rules, in_days, stored_rules
from telemetry.stores import telemetry_store
from telemetry.stores.base import Holder, Overdue

How = RetentionChange.How
CHUNK = 1000


@transaction.atomic
def set_policy(
    *, device_type: str, measurement: str, days: int, rollup_days: int | None, actor: str
) -> RetentionPolicy:
    """Keep these values so many days from now on. Raises ValidationError (Django's)."""
    wanted = {"days": days, "rollup_days": rollup_days}
    checked(device_type=device_type, measurement=measurement, **wanted)
    place: Any = {"device_type": device_type, "measurement": measurement}
    kept = RetentionPolicy.objects.select_for_update().filter(**place).first()
    if kept is not None and (kept.days, kept.rollup_days) == (days, rollup_days):
        return kept
    before = Rules(stored_rules())
    policy, _ = RetentionPolicy.objects.update_or_create(**place, defaults=wanted)
    _announce(How.SET, policy, before, actor)
    return policy


def checked(**fields: Any) -> RetentionPolicy:
    """The policy, not stored. Raises ValidationError (Django's) where it makes no sense."""
    policy = RetentionPolicy(**fields)
    policy.full_clean(validate_unique=False, validate_constraints=False)
    return policy


@transaction.atomic
def remove_policy(*, policy: RetentionPolicy, actor: str) -> None:
    """Keep its values from now on as the next policy says, or the setting."""
    before = Rules(stored_rules())
    deleted, _ = RetentionPolicy.objects.filter(pk=policy.pk).delete()
    if deleted:
        _announce(How.REMOVED, policy, before, actor)


@transaction.atomic
def note_setting() -> None:
    """Note where TELEMETRY_RETENTION_DAYS is another than when it was last looked at."""
    days = settings.TELEMETRY_RETENTION_DAYS
    last = RetentionChange.objects.filter(how=How.SETTING).first()
    if last is None or last.days != days:
        RetentionChange.objects.create(
            how=How.SETTING,
            days=days,
            previous_days=None if last is None else last.days,
            actor="system",
        )


def holders(device_id: int | None = None) -> Iterator[Holder]:
    """Every device, or this one, as the store needs to know it; by id."""
    devices = Device.objects.order_by("pk")
    if device_id is not None:
        devices = devices.filter(pk=device_id)
    for pk in devices.values_list("pk", flat=True).iterator(chunk_size=CHUNK):
        # As it is now, for a run may take hours; gone if it was deleted meanwhile.
        columns = "pk", "owner_id", "latest_epoch", "device_type"
        for row in Device.objects.filter(pk=pk).values_list(*columns):
            yield Holder(*row)


def enforce(*, holder: Holder, now: int) -> Overdue:
    """Delete what a device has for longer than it is kept now; what that was. Raises StoreAway."""
    keeping = retention.rules().keeping(holder.device_type)
    found = telemetry_store().enforce(holder, keeping, now)
    try:
        with redis() as client:
            latest.forget(client, [(holder.device_id, holder.epoch)])
    except StoreAway:
        pass  # what it knows expires there
    return found


def note_enforced(*, devices: int, days: int, values: int, since: datetime, actor: str) -> None:
    """Every device was brought to what holds since `since`; how many of them had what to delete."""
    with transaction.atomic():
        RetentionChange.objects.filter(changed_at__lt=since).update(applied_at=since)
        log.record(
            Kind.TELEMETRY_PURGED,
            f"Telemetry older than it is kept was deleted from {devices} device(s)",
            actor=actor,
            payload={"devices": devices, "days": days, "values": values},
        )


@dataclass(frozen=True, slots=True)
class Leftover:
    """What was written before a change and expires otherwise than is wanted now, until `until`;
    None for never.
    """

    change: RetentionChange
    days: int
    until: datetime | None

    @property
    def lives_longer(self) -> bool:
        before = self.change.previous_days
        return not before or (bool(self.days) and before > self.days)


def leftovers() -> list[Leftover]:
    """What changes have left, of those that still matter; the newest first."""
    rules, now = Rules(stored_rules()), timezone.now()
    changes = RetentionChange.objects.exclude(previous_days=None)
    found = [_leftover(change, rules) for change in changes]
    return [left for left in found if left is not None and (not left.until or left.until > now)]


def _leftover(change: RetentionChange, rules: Rules) -> Leftover | None:
    assert change.previous_days is not None
    before, days = change.previous_days, rules.days(change.device_type, change.measurement)
    until = change.changed_at + timedelta(days=before) if before else None
    left = Leftover(change, days, until)
    if before == days or _is_done(left):
        return None
    return left


def _is_done(left: Leftover) -> bool:
    """Whether `enforce` has been at it: where the store can set expiries anew, once is enough;
    elsewhere once more when the last of it was old enough to be deleted.
    """
    applied = left.change.applied_at
    if applied is None or not telemetry_store().is_cassandra:
        return applied is not None
    return left.lives_longer and applied >= left.change.changed_at + timedelta(days=left.days)


def _announce(how: How, policy: RetentionPolicy, before: Rules, actor: str) -> None:
    """Note the change and record it, in its transaction; this process knows it at once."""
    place = policy.device_type, policy.measurement
    after = Rules(stored_rules())
    change = RetentionChange.objects.create(
        how=how,
        device_type=policy.device_type,
        measurement=policy.measurement,
        days=after.days(*place),
        previous_days=before.days(*place),
        actor=actor,
    )
    log.record(
        Kind.RETENTION_CHANGED,
        f"Retention of {what(*place)}: {kept_for(change.days)}, {kept_for(change.previous_days)} "
        "before",
        actor=actor,
        payload={
            "device_type": policy.device_type,
            "measurement": policy.measurement,
            "days": change.days,
            "rollup_days": after.rollup_days(*place),
            "previous_days": change.previous_days,
            "removed": how == How.REMOVED,
        },
    )
    transaction.on_commit(retention.rules.reload)


def kept_for(days: int | None) -> str:
    return "for ever" if not days else in_days(days)
