"""Rules about the mean, the least, the most, … of each hour or day, once that is rolled up.

What comes later, and has the hour rolled up again, changes nothing. A window without a value of the
measurement is not looked at.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from django.db import transaction

from devices.models import Device
from iotflow.lib.timeparse import now_ms, to_ms
from telemetry.aggregates import FROM_SUMMARIES
from telemetry.alerting.machine import number
from telemetry.alerting.models import AlertRule, AlertState, Window
from telemetry.alerting.walk import Walk
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
    begun = to_ms(rule.updated_at) // length * length  # the window under way counts as well
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
    return _compare(rule, devices, ranges) if ranges else 0


def _compare(rule: AlertRule, devices: Sequence[Device], ranges: Ranges) -> int:
    values = {pk: list(_values(rule, pk, *span)) for pk, span in ranges.items()}
    condition = rule.condition()
    with transaction.atomic():
        walk = Walk(AlertRule.objects.locked().filter(pk=rule.pk, enabled=True), devices)
        walk.begin([(rule.pk, pk) for pk in ranges if walk.knows(condition, pk)])
        for pair in walk.pairs:
            walk.take(pair, values[pair[1]])
            walk.reach(pair, ranges[pair[1]][1])
        walk.save()
    return len(ranges)


def _values(rule: AlertRule, device_id: int, start: int, stop: int) -> Iterator[tuple[int, float]]:
    """The ends of windows and the numbers that they are summed up to, oldest first."""
    length = Window(rule.window).length
    aggregate = FROM_SUMMARIES[rule.aggregation]
    condition = rule.condition()
    for found in rollup_store().read(device_id, rule.measurement, length, start, stop):
        value, end = number(aggregate(found)), found.start + length
        is_muted = found.start < condition.muted_until and end > condition.muted_from
        if value is not None and math.isfinite(value) and not is_muted:
            yield end, value
