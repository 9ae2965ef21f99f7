"""Rules about absence: the worker looks for devices of which nothing was heard for too long."""

from collections.abc import Iterator, Mapping, Sequence

from django.db import transaction

from devices.models import Device
from iotflow.lib.batches import batched
from iotflow.lib.timeparse import now_ms, to_ms
from telemetry import latest
from telemetry.alerting.machine import Change, Kind, Phase
from telemetry.alerting.models import AlertRule, AlertState
from telemetry.alerting.walk import Pair, Walk

AT_ONCE = 500
Watched = tuple[AlertRule, Device]
Turns = Mapping[Pair, tuple[Change, int]]  # what becomes of an alert, and when it did


def find_silence() -> int:
    """Raise and clear the alerts of rules about absence; how many changed. Raises StoreAway.

    Safe to run twice, in several workers, and to be broken off.
    """
    now = now_ms()
    return sum(_look(some, now) for some in batched(_watched(now), AT_ONCE))


def _watched(now: int) -> Iterator[Watched]:
    rules = AlertRule.objects.filter(enabled=True, kind=Kind.ABSENCE).select_related("device")
    for rule in rules.order_by("pk"):
        if not rule.condition().is_muted(now):
            for devices in rule.watched():
                yield from ((rule, device) for device in devices)


def _look(watched: Sequence[Watched], now: int) -> int:
    """How many of them fell silent, or speak again."""
    heard = latest.latest_of(sorted({_place(device) for _, device in watched}))
    found = {}
    for rule, device in watched:
        values = heard[_place(device)].items()
        times = [value.time for name, value in values if rule.measurement in ("", name)]
        last, limit = max(times, default=0), 1000 * rule.silence_seconds
        # A device that is new or was in maintenance, and a new rule, are given time.
        due = max(last, to_ms(device.updated_at), to_ms(rule.begun)) + limit
        if now - last <= limit:
            found[rule.pk, device.pk] = Change.CLEARED, last
        elif due < now:
            found[rule.pk, device.pk] = Change.RAISED, due
    raised = _raised(found)
    turns = {pair: turn for pair, turn in found.items() if _is_turn(turn[0], pair in raised)}
    return _turn(watched, turns) if turns else 0


def _raised(pairs: Mapping[Pair, object]) -> set[Pair]:
    """Those whose alert was raised."""
    rule_ids, device_ids = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    states = AlertState.objects.filter(rule__in=rule_ids, device_id__in=device_ids)
    return set(states.filter(phase=Phase.RAISED).values_list("rule_id", "device_id"))


@transaction.atomic
def _turn(watched: Sequence[Watched], turns: Turns) -> int:
    rules = AlertRule.objects.locked().filter(pk__in={pair[0] for pair in turns}, enabled=True)
    walk = Walk(rules, [device for _, device in watched])
    known = {rule.pk: rule.condition() for rule, _ in watched}
    walk.begin([pair for pair in turns if walk.knows(known[pair[0]], pair[1])])
    changed = 0
    for pair in walk.pairs:
        change, time = turns[pair]
        if _is_turn(change, walk.stand(pair).phase == Phase.RAISED):  # another worker may have
            walk.turn(pair, change, time)
            changed += 1
    walk.save()
    return changed


def _is_turn(change: Change, is_raised: bool) -> bool:
    return (change == Change.RAISED) != is_raised


def _place(device: Device) -> tuple[int, int]:
    return device.pk, device.latest_epoch
