"""Rules about the mean, the least, the most, … of each hour or day, once that is rolled up.

What comes later, and has the hour rolled up again, changes nothing. A window without a value of the
measurement is not looked at.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from django.db import transaction

from devices.models import Device
from iotflow.lib.timeparse import now_ms, to_ms
from telemetry.aggregates import FROM_SUMMARIES
from telemetry.alerting import anomaly
from telemetry.alerting.machine import Kind, Seen, number
from telemetry.alerting.models import AlertRule, AlertState, Window
from telemetry.alerting.walk import Pair, Walk
from telemetry.rollups import CLOSE_MS
from telemetry.stores import rollup_store

Ranges = Mapping[int, tuple[int, int]]  # of a device's time, from a start to before a stop


def look_at_rollups() -> int:
    """Compare what was rolled up since with rules; of how many devices. Raises StoreAway.

    Safe to run twice, in several workers, and to be broken off.
    """
    rules = AlertRule.objects.filter(enabled=True).exclude(aggregation="").select_related("device")
    return sum(_look(rule, devices) for rule in rules.order_by("pk") for devices in rule.watched())


def _look(rule: AlertRule, devices: Sequence[Device]) -> int:
    length = Window(rule.window).length
    ids = [device.pk for device in devices]
    states = AlertState.objects.filter(rule=rule, device_id__in=ids)
    seen = dict(states.values_list("device_id", "last_ms"))
    begun = to_ms(rule.begun) // length * length  # the window under way counts as well
    starts = {pk: seen.get(pk) or begun for pk in ids}
    closed = (now_ms() - CLOSE_MS) // length * length
    behind = [pk for pk, start in starts.items() if start < closed]
    if not behind:
        return 0
    ranges = {
        pk: (starts[pk], (progress.until or 0) // length * length)
        for pk, progress in rollup_store().progress(behind).items()
    }
    ranges = {pk: (start, stop) for pk, (start, stop) in ranges.items() if start < stop}
    new = ranges.keys() - seen.keys()
    return _compare(rule, devices, ranges, new) if ranges else 0


def _compare(
    rule: AlertRule, devices: Sequence[Device], ranges: Ranges, new: Container[int]
) -> int:
    past = _learned(rule)
    values = {
        pk: list(_values(rule, pk, start - past if pk in new else start, stop))
        for pk, (start, stop) in ranges.items()
    }
    condition = rule.condition()
    with transaction.atomic():
        walk = Walk(AlertRule.objects.locked().filter(pk=rule.pk, enabled=True), devices)
        walk.begin([(rule.pk, pk) for pk in ranges if walk.knows(condition, pk)])
        for pair in walk.pairs:
            start, stop = ranges[pair[1]]
            seen = values[pair[1]]
            if rule.kind == Kind.ANOMALY:
                judged = _judged(walk, pair, Window(rule.window).length, seen)
                seen = [one for one in judged if one.time > start]
            walk.take(pair, seen)
            walk.reach(pair, stop)
        walk.save()
    return len(ranges)


def _learned(rule: AlertRule) -> int:
    """How far back (ms) a rule that is new to a device learns from what it said."""
    if rule.kind != Kind.ANOMALY:
        return 0
    length = Window(rule.window).length
    return anomaly.LEARNED_SEASONS * anomaly.SLOTS[length] * length


def _judged(walk: Walk, pair: Pair, length: int, values: Iterable[Seen]) -> list[Seen]:
    """Those of which there is a verdict; what is newer than what was seen is learned from."""
    stand = walk.stand(pair)
    usual = anomaly.Usual.of(length, stand.usual)
    judged = [
        seen._replace(verdict=usual.judge(seen.time // length, seen.value))
        for seen in values
        if not stand.is_late(seen.time)
    ]
    walk.learn(pair, usual.state)
    return [seen for seen in judged if seen.verdict]


def _values(rule: AlertRule, device_id: int, start: int, stop: int) -> Iterator[Seen]:
    """Whole windows by their ends, with the numbers that they are summed up to, oldest first."""
    length = Window(rule.window).length
    aggregate = FROM_SUMMARIES[rule.aggregation]
    condition = rule.condition()
    for found in rollup_store().read(device_id, rule.measurement, length, start, stop):
        value, end = number(aggregate(found)), found.start + length
        if value is not None and math.isfinite(value) and not condition.is_muted(found.start, end):
            yield Seen(end, value)
