"""The rules as this process knows them, found by device without a query.

A thread of a moment reads them again every FRESH_SECONDS while they are asked for; the process that
changes a rule does so at once. So another process goes by the rules of FRESH_SECONDS ago at worst:
what it then brings to PostgreSQL is compared with the rule that is there (telemetry.alerting.
evaluation).
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import DatabaseError, connections

from devices.key_cache import DeviceRecord
from devices.models import Device, GroupMembership
from telemetry.alerting.machine import Kind, Rule, number
from telemetry.alerting.models import AlertRule
from telemetry.readings import Reading

logger = logging.getLogger(__name__)
FRESH_SECONDS = 5.0
By = dict[str, list[Rule]]  # rules by measurement
NONE: By = {}


class Check(NamedTuple):
    """A value that a rule is about. `level` is None where it takes the value before to tell."""

    rule: Rule
    reading: Reading
    value: float
    level: int | None


class Book:
    """Rules by device, and by owner and type."""

    def __init__(self) -> None:
        self.devices: dict[int, By] = {}
        self.types: dict[tuple[int, str], By] = {}

    @property
    def is_empty(self) -> bool:
        return not self.devices and not self.types

    def checks(self, readings: Iterable[Reading]) -> list[Check]:
        """What rules have to look at, of these readings."""
        return [
            check
            for reading in readings
            for by in (
                self.devices.get(reading.device_id, NONE),
                self.types.get((reading.owner_id, reading.device_type), NONE),
            )
            if by
            for check in _checks(by, reading)
        ]


def _checks(by: By, reading: Reading) -> Iterable[Check]:
    arrival = reading.written // 1000
    for name in by.keys() & reading.values.keys():
        value = number(reading.values[name])
        if value is None:
            continue
        for rule in by[name]:
            # Who has a rule for a device that is another's by now learns nothing more of it.
            if rule.owner_id == reading.owner_id and rule.takes(reading.time, arrival):
                level = None if rule.kind == Kind.RATE else rule.level(value)
                yield Check(rule, reading, value, level)


class Shelf:
    """The book as this process knows it."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def book(self) -> Book:
        """What is known; only whoever asks first, in all the process's life, waits for a query."""
        if self._book is None:
            with self._lock:
                if self._book is None:
                    self._read()
        elif time.monotonic() > self._until and self._lock.acquire(blocking=False):
            threading.Thread(target=self._renew, name="alert rules", daemon=True).start()
        assert self._book is not None
        return self._book

    def reload(self) -> None:
        """Read it now, for this process has changed it."""
        with self._lock:
            self._read()

    def put(self, book: Book) -> None:
        self._book, self._until = book, time.monotonic() + FRESH_SECONDS

    def _read(self) -> None:
        try:
            self.put(stored())
        except DatabaseError as error:
            logger.info("the rules of alerts cannot be read: %s", error)
            self.put(self._book or Book())

    def _renew(self) -> None:
        try:
            self._read()
        except Exception:  # whatever it is, what is known still holds
            logger.exception("the rules of alerts were not read")
        finally:
            connections.close_all()
            self._lock.release()


shelf = Shelf()
book = shelf.book


def checks(readings: Sequence[Reading], devices: Iterable[DeviceRecord]) -> list[Check]:
    """What rules have to look at, of readings of these devices; nothing of one in maintenance."""
    known = book()
    if known.is_empty:
        return []
    resting = {one.id for one in devices if one.status == Device.Status.MAINTENANCE}
    return known.checks(one for one in readings if one.device_id not in resting)


def stored() -> Book:
    """The book as the database has it: two queries."""
    found = Book()
    rules = AlertRule.objects.filter(enabled=True).exclude(kind=Kind.ABSENCE).order_by("pk")
    grouped: dict[int, list[Rule]] = {}
    for row in rules:
        rule = row.condition()
        if row.device_id is not None:
            _add(found.devices.setdefault(row.device_id, {}), [rule])
        elif row.group_id is not None:
            grouped.setdefault(row.group_id, []).append(rule)
        else:
            _add(found.types.setdefault((row.owner_id, row.device_type), {}), [rule])
    members = GroupMembership.objects.filter(group__in=grouped).order_by()
    for group_id, device_id in members.values_list("group_id", "device_id"):
        _add(found.devices.setdefault(device_id, {}), grouped[group_id])
    return found


def _add(by: By, rules: Sequence[Rule]) -> None:
    for rule in rules:
        by.setdefault(rule.measurement, []).append(rule)
