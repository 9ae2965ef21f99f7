"""What the worker does for alerts: silence is found, and what nobody watches any more is closed.

Both are safe to run twice, in several workers, and to be broken off.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts.models import User
from devices.models import Device, DeviceGroup, GroupMembership
from iotflow.lib.batches import batched
from iotflow.lib.timeparse import now_ms, to_ms
from telemetry import latest
from telemetry.alerting import alerts, rules, sieve
from telemetry.alerting.machine import Kind, Phase
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert

PART = 500
OPEN_PHASES = (Phase.RAISED, Phase.CLEARING)


def find_silence() -> int:
    """Raise and clear the alerts of rules about absence; how many changed. Raises StoreAway."""
    found = AlertRule.objects.filter(enabled=True, kind=Kind.ABSENCE).order_by("pk")
    unmuted = found.filter(Q(muted_until=None) | Q(muted_until__lte=timezone.now()))
    return sum(
        _look(rule, devices)
        for rule in unmuted
        for devices in batched(_covered(rule).iterator(chunk_size=PART), PART)
    )


def _covered(rule: AlertRule) -> QuerySet[Device]:
    """The devices that a rule is about and that are meant to say something."""
    devices = Device.objects.filter(owner_id=rule.owner_id, status=Device.Status.ACTIVE)
    if rule.device_id is not None:
        return devices.filter(pk=rule.device_id)
    if rule.group_id is not None:
        return devices.filter(memberships__group_id=rule.group_id)
    return devices.filter(device_type=rule.device_type)


def _look(rule: AlertRule, devices: Sequence[Device]) -> int:
    """How many of these devices fell silent, or speak again."""
    limit = 1000 * (rule.expected_seconds or 0) * (rule.missed or 0)
    places = [(device.pk, device.latest_epoch) for device in devices]
    heard, now = latest.latest_of(places), now_ms()
    silent: dict[int, int] = {}  # when it was to be heard of at the latest, by device
    speaking: dict[int, int] = {}  # when it was heard of
    for device, place in zip(devices, places, strict=True):
        times = [
            value.time for name, value in heard[place].items() if rule.measurement in ("", name)
        ]
        last = max(times, default=None)
        if last is not None and now - last <= limit:
            speaking[device.pk] = last
            continue
        # Neither a new device nor a new rule is held to what was before it.
        due = max(last or 0, to_ms(device.created_at), to_ms(rule.updated_at)) + limit
        if due < now:
            silent[device.pk] = due
    raised = AlertState.objects.filter(rule=rule, phase=Phase.RAISED)
    known = set(
        raised.filter(device_id__in=[*silent, *speaking]).values_list("device_id", flat=True)
    )
    changed = {pk: due for pk, due in silent.items() if pk not in known}
    changed |= {pk: time for pk, time in speaking.items() if pk in known}
    if not changed:
        return 0
    return _change(rule, [one for one in devices if one.pk in changed], silent, speaking)


@transaction.atomic
def _change(
    rule: AlertRule, devices: Sequence[Device], silent: dict[int, int], speaking: dict[int, int]
) -> int:
    current = AlertRule.objects.filter(pk=rule.pk, version=rule.version, enabled=True)
    if not current.exists():
        return 0
    ids = [device.pk for device in devices]
    AlertState.objects.bulk_create(
        [AlertState(rule=rule, device_id=pk) for pk in ids], ignore_conflicts=True
    )
    states = AlertState.objects.select_for_update().filter(rule=rule, device_id__in=ids)
    by_device = {state.device_id: state for state in states.order_by("device_id")}
    changes = alerts.Changes(LiveAlert.objects.filter(rule=rule, device_id__in=ids))
    changed = []
    for device in devices:
        state = by_device[device.pk]
        if device.pk in silent and state.phase != Phase.RAISED:
            changes.raise_(rule, device, silent[device.pk], None)
            state.phase = Phase.RAISED
        elif device.pk in speaking and state.phase == Phase.RAISED:
            changes.clear((rule.pk, device.pk), speaking[device.pk], None)
            state.phase = Phase.NORMAL
        else:
            continue
        changed.append(state)
    AlertState.objects.bulk_update(changed, ["phase"])
    changes.save()
    return len(changed)


def close_unwatched() -> int:
    """Resolve alerts that no rule watches any more, and drop rules and states of what is gone.

    A device that left a group, has another type or another owner is not told of to anybody here,
    and neither is what the version before deletes.
    """
    for rule in _orphans():
        with transaction.atomic():
            rules.forget(rule, alerts.SYSTEM)
            rule.delete()
    closed = sum(
        _close(ids) for ids in batched(list(_unwatched().values_list("pk", flat=True)), PART)
    )
    gone = ~Exists(Device.objects.filter(pk=OuterRef("device_id")))
    AlertState.objects.filter(gone).delete()
    return closed


def _orphans() -> Iterable[AlertRule]:
    """Rules whose owner, device or group is gone."""
    owner = Exists(User.objects.filter(pk=OuterRef("owner_id")))
    device = Exists(Device.objects.filter(pk=OuterRef("device_id")))
    group = Exists(DeviceGroup.objects.filter(pk=OuterRef("group_id")))
    gone = Q(~owner) | Q(device__isnull=False) & Q(~device) | Q(group__isnull=False) & Q(~group)
    return list(AlertRule.objects.filter(gone))


def _unwatched() -> QuerySet[LiveAlert]:
    """Open alerts that the rule has not raised as it stands now, or of devices it is not about."""
    state = AlertState.objects.filter(
        rule_id=OuterRef("rule_id"), device_id=OuterRef("device_id"), phase__in=OPEN_PHASES
    )
    device = Device.objects.filter(pk=OuterRef("device_id"), owner_id=OuterRef("rule__owner_id"))
    of_type = device.filter(device_type=OuterRef("rule__device_type"))
    member = GroupMembership.objects.filter(
        group_id=OuterRef("rule__group_id"), device_id=OuterRef("device_id")
    )
    covered = (
        Q(rule__device_id=F("device_id"))
        | Q(rule__group__isnull=False) & Q(Exists(member))
        | ~Q(rule__device_type="") & Q(Exists(of_type))
    )
    watched = Q(rule__isnull=False) & Q(Exists(state)) & Q(Exists(device)) & covered
    return LiveAlert.objects.filter(is_open=True).exclude(watched)


@transaction.atomic
def _close(ids: Sequence[UUID]) -> int:
    live = LiveAlert.objects.filter(pk__in=ids)
    for rule, device_id in [(one.rule, one.device_id) for one in live.select_related("rule")]:
        if rule is not None:
            AlertState.objects.filter(rule=rule, device_id=device_id).delete()
            transaction.on_commit(partial(sieve.forget, rule.condition(), device_id), robust=True)
    return alerts.resolve_all(live, "no rule watches this any more")
