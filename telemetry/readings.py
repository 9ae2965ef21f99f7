"""What a device says, as values: no store, no request.

All times are milliseconds since 1970-01-01T00:00Z.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.conf import settings

from iotflow.lib import json

# A number, a boolean, a string, or a JSON object or list.
Value = bool | int | float | str | dict[str, Any] | list[Any]
Errors = dict[str, list[str]]
Place = tuple[int, int]  # where latest values are: device id and epoch

JSON_DEPTH_MAX = 254  # what json.dumps takes
NAME = re.compile(r"[A-Za-z0-9_.\-/:% ]+", re.ASCII)


class Reading(NamedTuple):
    """The measurements of one device at one time.

    `written` (µs since 1970, unique and rising within a process) orders what is written for the
    same time: the last one counts.
    """

    device_id: int
    owner_id: int
    time: int
    written: int
    values: Mapping[str, Value]
    metadata: Mapping[str, Any] | None = None
    latest_epoch: int = 0
    device_type: str = ""


class StoredReading(NamedTuple):
    """A reading as it comes back; `values` in the order of their names."""

    time: int
    values: dict[str, Value]
    metadata: dict[str, Any] | None = None


class LatestValue(NamedTuple):
    """The newest value of one measurement."""

    time: int
    written: int
    value: Value

    @property
    def order(self) -> tuple[int, int]:
        return self.time, self.written


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Readings in the order asked for; `next_after`: the time to go on behind, None at the end."""

    readings: list[StoredReading]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Readings of a device with `start <= time <= end`, at most `limit` of them.

    `after` is where the page before ended. With `fields`, only those measurements, and only the
    readings that have any of them.
    """

    device_id: int
    start: int
    end: int
    limit: int
    descending: bool = True
    after: int | None = None
    fields: frozenset[str] = field(default_factory=frozenset)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and last time still to be read, both included."""
        if self.after is None:
            return self.start, self.end
        if self.descending:
            return self.start, min(self.end, self.after - 1)
        return max(self.start, self.after + 1), self.end


class UserReading(NamedTuple):
    """A reading in the feed of its device's owner."""

    time: int
    device_id: int
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A range of a device's time to be deleted, both ends included.

    Its latest values move from one epoch to the next: deleted in place, they would hide every
    later write with an older event time.
    """

    device_id: int
    owner_id: int
    start: int
    end: int
    epoch: int
    next_epoch: int
    device_type: str = ""

    def __contains__(self, time: int) -> bool:
        return self.start <= time <= self.end


def value_errors(data: Any) -> Errors:
    """Everything wrong with a reading's measurements, by field; empty when it may be stored."""
    if not isinstance(data, dict):
        return {"data": ["Must be an object of measurements, such as {“temperature”: 21.5}."]}
    if not data:
        return {"data": ["Must have at least one measurement."]}
    if len(data) > settings.MEASUREMENTS_MAX:
        return {"data": [f"At most {settings.MEASUREMENTS_MAX} measurements; got {len(data)}."]}
    errors: Errors = {}
    for name, value in data.items():
        reasons = [*_name_errors(name), *_value_errors(value)]
        if reasons:
            errors[f"data.{printable(name)}"] = reasons
    return errors


def metadata_errors(metadata: Any) -> Errors:
    """Everything wrong with the metadata of a reading; None is no metadata."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        return {"metadata": ["Must be an object."]}
    reasons = list(_json_errors(metadata))
    return {"metadata": reasons} if reasons else {}


def time_errors(time: int, now: int) -> Errors:
    """Whether a device's clock is too far ahead."""
    limit = settings.CLOCK_SKEW_SECONDS
    if time > now + 1000 * limit:
        return {"timestamp": [f"At most {limit} seconds ahead of the server's clock."]}
    return {}


def merged(readings: Iterable[Reading]) -> list[Reading]:
    """The readings with one per (device, time): the last written of each measurement counts."""
    by_time: dict[tuple[int, int], Reading] = {}
    for reading in readings:
        key = (reading.device_id, reading.time)
        earlier = by_time.get(key)
        by_time[key] = reading if earlier is None else _merge(earlier, reading)
    return list(by_time.values())


def newest(readings: Sequence[Reading]) -> dict[Place, dict[str, LatestValue]]:
    """By place, the newest value of each measurement among the readings."""
    found: dict[Place, dict[str, LatestValue]] = {}
    for reading in readings:
        values = found.setdefault((reading.device_id, reading.latest_epoch), {})
        for name, value in reading.values.items():
            candidate = LatestValue(reading.time, reading.written, value)
            known = values.get(name)
            if known is None or candidate.order >= known.order:
                values[name] = candidate
    return found


def printable(name: str) -> str:
    """A measurement's name fit for an error answer, and for a database that keeps it."""
    short = name if len(name) <= 80 else name[:80] + "…"
    return short.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _merge(earlier: Reading, later: Reading) -> Reading:
    return Reading(
        device_id=later.device_id,
        owner_id=later.owner_id,
        time=later.time,
        written=later.written,
        values={**earlier.values, **later.values},
        metadata=earlier.metadata if later.metadata is None else later.metadata,
        latest_epoch=later.latest_epoch,
        device_type=later.device_type,
    )


def _name_errors(name: str) -> Iterable[str]:
    if len(name) > settings.MEASUREMENT_NAME_MAX:
        yield f"A name has at most {settings.MEASUREMENT_NAME_MAX} characters."
    if not NAME.fullmatch(name):
        yield "A name has letters, digits, space and _ . - / : % only, and at least one of them."


def _value_errors(value: Any) -> Iterable[str]:
    match value:
        case bool() | int() | float() | str():
            if reason := json.scalar_fault(value):
                yield reason
            elif isinstance(value, str):
                yield from _string_errors(value)
        case dict() | list():
            yield from _json_errors(value)
        case _:
            yield "Must be a number, a boolean, a string, an object or a list; null is not a value."


def _string_errors(text: str) -> Iterable[str]:
    size = len(text.encode())
    if size > settings.STRING_VALUE_BYTES:
        yield f"A string has at most {settings.STRING_VALUE_BYTES} bytes; this has {size}."
    if "\0" in text:
        yield "A string must not contain the NUL character."


def _json_errors(value: Any) -> Iterable[str]:
    try:
        size = len(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        yield "Must be JSON: valid Unicode, integers within 64 bits, not nested too deeply."
        return
    if size > settings.JSON_VALUE_BYTES:
        yield f"At most {settings.JSON_VALUE_BYTES} bytes as JSON; this has {size}."
        return
    yield from dict.fromkeys(reason for _, reason in json.faults(value, depth=JSON_DEPTH_MAX))
