"""How long telemetry is kept, by device type and measurement.

Each process knows the policies as one small table in memory. One that could never read them keeps
everything for ever, for what is kept too long can still be purged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from iotflow.lib.remembered import Remembered
from telemetry.models import RetentionPolicy
from telemetry.readings import Errors, Reading, printable

REMEMBERED = 10_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Days that values, and what is rolled up of them, are kept; 0 is for ever.

    `device_type` is empty for any. `measurement` is a name, the beginning of names with a `*`
    behind, or empty for any. Without `rollup_days` ROLLUP_RETENTION_DAYS counts.
    """

    device_type: str
    measurement: str
    days: int
    rollup_days: int | None = None

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Of the rules that cover a value the highest counts: a name before the longest beginning
        before any, and among those one for its type before one for all.
        """
        is_beginning = self.measurement.endswith("*")
        exactness = 0 if not self.measurement else 1 if is_beginning else 2
        return exactness, len(self.measurement) if is_beginning else 0, bool(self.device_type)

    @property
    def kept_rollup_days(self) -> int:
        return settings.ROLLUP_RETENTION_DAYS if self.rollup_days is None else self.rollup_days

    def covers(self, device_type: str, measurement: str) -> bool:
        """Whether it is about all of these; `measurement` is a name, or written as here."""
        return self.device_type in ("", device_type) and _covers(self.measurement, measurement)


class Rules:
    """A table of rules, and what was looked up in it."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.ranked = sorted(rules, key=lambda rule: rule.rank, reverse=True)
        self._found: dict[tuple[str, str], Rule | None] = {}

    def find(self, device_type: str, measurement: str) -> Rule | None:
        """The rule that counts; None where TELEMETRY_RETENTION_DAYS does."""
        if not self.ranked:
            return None
        place = device_type, measurement
        if place not in self._found:
            if len(self._found) >= REMEMBERED:
                self._found = {}
            found = (rule for rule in self.ranked if rule.covers(*place))
            self._found[place] = rule = next(found, None)
            return rule
        return self._found.get(place)

    def days(self, device_type: str, measurement: str) -> int:
        """How many days a value is kept, counted from its own time; 0 for ever."""
        rule = self.find(device_type, measurement)
        return settings.TELEMETRY_RETENTION_DAYS if rule is None else rule.days

    def rollup_days(self, device_type: str, measurement: str) -> int:
        """The same for what is rolled up of the values."""
        rule = self.find(device_type, measurement)
        return settings.ROLLUP_RETENTION_DAYS if rule is None else rule.kept_rollup_days

    def rollup_expiry(self, device_type: str, measurement: str, stop: int) -> int | None:
        """When a rollup of a window that ends at `stop` expires, in ms; None for never."""
        days = self.rollup_days(device_type, measurement)
        return stop + DAY_MS * days if days else None

    def expiry(self, device_type: str, measurement: str, time: int) -> int | None:
        """When a value of that time expires, in ms; None for never."""
        days = self.days(device_type, measurement)
        return time + DAY_MS * days if days else None

    def expiries(self, reading: Reading) -> dict[str, int | None]:
        """The same for each value of a reading, and under no name for its metadata, which goes
        with the last of them.
        """
        if not self.ranked and not settings.TELEMETRY_RETENTION_DAYS:
            return dict.fromkeys((*reading.values, ""))
        found = {
            name: self.expiry(reading.device_type, name, reading.time) for name in reading.values
        }
        finite = [expires for expires in found.values() if expires is not None]
        is_finite = len(finite) == len(found)
        return {**found, "": max(finite, default=reading.time) if is_finite else None}

    def keeping(self, device_type: str) -> "Keeping":
        """What holds for devices of this type, by measurement as rules write it, best rank first;
        the last is for any.
        """
        days: dict[str, int] = {}
        for rule in self.ranked:
            if rule.device_type in ("", device_type):
                days.setdefault(rule.measurement, rule.days)
        days.setdefault("", settings.TELEMETRY_RETENTION_DAYS)
        return Keeping(days)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Days by measurement, for one type of device."""

    days: dict[str, int]

    def of(self, measurement: str) -> int:
        return next(days for pattern, days in self.days.items() if _covers(pattern, measurement))

    @property
    def longest(self) -> int:
        """Nothing is kept for longer; 0 where something is kept for ever."""
        return 0 if 0 in self.days.values() else max(self.days.values())

    @property
    def shortest(self) -> int:
        """Everything is kept for as long; 0 where that is for ever."""
        return min(filter(None, self.days.values()), default=0)


def stored_rules() -> list[Rule]:
    columns = "device_type", "measurement", "days", "rollup_days"
    return [Rule(*row) for row in RetentionPolicy.objects.values_list(*columns)]


@lru_cache(maxsize=1)
def _table_of(rules: tuple[Rule, ...]) -> Rules:
    """What was looked up stays with a table that is the same."""
    return Rules(rules)


FOR_EVER = Rules([Rule("", "", 0, 0)])
rules = Remembered("retention policies", lambda: _table_of(tuple(stored_rules())), FOR_EVER)


def days(device_type: str, measurement: str) -> int:
    """How many days a value is kept, counted from its own time; 0 for ever. No query."""
    return rules().days(device_type, measurement)


def rollup_days(device_type: str, measurement: str) -> int:
    """How many days what is rolled up of the values is kept; 0 for ever. No query."""
    return rules().rollup_days(device_type, measurement)


def age_errors(device_type: str, values: Any, time: int, now: int) -> Errors:
    """The values that are older than they are kept; the time, where all of them are."""
    known = rules()
    old = {
        name: limit
        for name in values
        if (limit := known.days(device_type, name)) and time <= now - DAY_MS * limit
    }
    if old and len(old) == len(values):
        return {"timestamp": [f"Older than the {in_days(max(old.values()))} that it is kept."]}
    return {
        f"data.{printable(name)}": [f"Older than the {in_days(limit)} that it is kept."]
        for name, limit in old.items()
    }


def in_days(count: int) -> str:
    return f"{count:,} day{'' if count == 1 else 's'}"


def _covers(pattern: str, measurement: str) -> bool:
    if pattern.endswith("*"):
        return measurement.startswith(pattern[:-1])
    return pattern in ("", measurement)
