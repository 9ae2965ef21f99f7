"""The rules as this process knows them (iotflow.lib.remembered), found by device without a query.

Another process than the one that changed a rule goes by what it knew for some seconds more: what it
brings to PostgreSQL by a rule that is another by now is dropped there (telemetry.alerting.
evaluation).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devices.key_cache import DeviceRecord
from devices.models import Device, GroupMembership
from iotflow.lib.remembered import Remembered
from telemetry.alerting.machine import RELATIVE, Kind, Rule, number
from telemetry.alerting.models import AlertRule
from telemetry.readings import Reading

By = dict[str, list[Rule]]  # rules by measurement


class Check(NamedTuple):
    """A value that a rule is about. `level` is None where it takes the value before to tell."""

    rule: Rule
    reading: Reading
    value: float
    level: int | None


class Book:
    """Rules by device, its own and those of each of its groups, and by owner and type."""

    def __init__(self) -> None:
        self.devices: dict[int, list[By]] = {}
        self.types: dict[tuple[int, str], By] = {}

    @property
    def is_empty(self) -> bool:
        return not self.devices and not self.types

    def checks(self, readings: Iterable[Reading]) -> list[Check]:
        """What rules have to look at, of these readings."""
        return [
            check
            for reading in readings
            for by in self._about(reading)
            for check in _checks(by, reading)
        ]

    def _about(self, reading: Reading) -> Iterable[By]:
        yield from self.devices.get(reading.device_id, ())
        if by := self.types.get((reading.owner_id, reading.device_type)):
            yield by


def _checks(by: By, reading: Reading) -> Iterable[Check]:
    arrival = reading.written // 1000
    for name in by.keys() & reading.values.keys():
        value = number(reading.values[name])
        if value is None:
            continue
        for rule in by[name]:
            # Who has a rule for a device that is another's by now learns nothing more of it.
            if rule.owner_id == reading.owner_id and rule.takes(reading.time, arrival):
                level = None if rule.kind in RELATIVE else rule.level(value)
                yield Check(rule, reading, value, level)


def checks(readings: Sequence[Reading], devices: Iterable[DeviceRecord]) -> list[Check]:
    """What rules have to look at, of readings of these devices; nothing of one in maintenance."""
    known = rules()
    if known.is_empty:
        return []
    resting = {one.id for one in devices if one.status == Device.Status.MAINTENANCE}
    return known.checks(one for one in readings if one.device_id not in resting)


def _stored() -> Book:
    """The book as the database has it: two queries."""
    found = Book()
    stored = AlertRule.objects.filter(enabled=True, aggregation="").exclude(kind=Kind.ABSENCE)
    devices: dict[int, By] = {}
    groups: dict[int, By] = {}
    for row in stored.order_by("pk"):
        if row.device_id is not None:
            by = devices.setdefault(row.device_id, {})
        elif row.group_id is not None:
            by = groups.setdefault(row.group_id, {})
        else:
            by = found.types.setdefault((row.owner_id, row.device_type), {})
        by.setdefault(row.measurement, []).append(row.condition())
    found.devices = {device_id: [by] for device_id, by in devices.items()}
    members = GroupMembership.objects.filter(group__in=groups).order_by()
    for group_id, device_id in members.values_list("group_id", "device_id"):
        found.devices.setdefault(device_id, []).append(groups[group_id])
    return found


rules = Remembered("alert rules", _stored, Book())
