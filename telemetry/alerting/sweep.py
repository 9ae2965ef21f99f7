"""What nobody watches any more is closed by the worker; safe to run twice, and to be broken off."""

from collections.abc import Iterable, Sequence
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.models import User
from devices.models import Device, DeviceGroup, GroupMembership
from iotflow.lib.batches import batched
from telemetry.alerting import alerts, rules, sieve
from telemetry.alerting.machine import Phase
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert

PART = 500
OPEN_PHASES = (Phase.RAISED, Phase.CLEARING)


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
    list(AlertRule.objects.locked().filter(pk__in=live.values("rule")))
    for rule, device_id in [(one.rule, one.device_id) for one in live.select_related("rule")]:
        if rule is not None:
            AlertState.objects.filter(rule=rule, device_id=device_id).delete()
            transaction.on_commit(partial(sieve.forget, rule.condition(), device_id), robust=True)
    return alerts.resolve_all(live, "no rule watches this any more")
