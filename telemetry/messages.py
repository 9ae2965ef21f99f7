"""What devices and gateways send, checked: one reading, or many at once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError

from iotflow.lib import ids
from iotflow.lib.timeparse import NotATime, now_ms, parse_ms
from telemetry.readings import Errors, Value, metadata_errors, time_errors, value_errors
from telemetry.retention import age_errors

# How many fields at fault are named: of a reading of a batch, and where all of it is refused.
FAULTS = 10
FIELDS = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A submitted reading, checked; `time` is None where the server is to give one."""

    values: dict[str, Value]
    metadata: dict[str, Any] | None
    time: int | None

    @property
    def content(self) -> str:
        """The same for the same measurements and metadata."""
        return json.dumps([self.values, self.metadata], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A reading of a batch at its place: a message, or everything that is wrong with it."""

    index: int
    device_id: int
    message: Message | None = None
    errors: Errors = field(default_factory=dict)


def parse_message(body: Any, device_type: str, now: int | None = None) -> Message:
    """A message from a request's body; a 400 names everything that is wrong with it at once.

    `now` is when it came, in ms, where that was not just now.
    """
    message, errors = _read(body, now_ms() if now is None else now, device_type)
    if message is None:
        raise ValidationError(errors)
    return message


def parse_batch(body: Any, device_id: int, device_type: str) -> list[Entry]:
    """The readings of one device; a 400 where there are none, too many, or not a good one."""
    now = now_ms()
    return having_good_ones(
        [
            _entry(index, device_id, item, now, device_type)
            for index, item in enumerate(_readings_in(body))
        ]
    )


def parse_bulk(body: Any) -> list[Entry]:
    """The readings of many devices, each with its `device_id`; a 400 for none or too many.

    What is too old for the retention of its device is still among them: `kept` finds it.
    """
    now = now_ms()
    return [_read_addressed(index, item, now) for index, item in enumerate(_readings_in(body))]


def having_good_ones(entries: list[Entry]) -> list[Entry]:
    """The entries; a 400 names every fault where not one of them can be stored."""
    if all(entry.message is None for entry in entries):
        raise ValidationError(dict(islice(_named(entries), FIELDS)))
    return entries


def kept(entry: Entry, device_type: str) -> Entry:
    """The entry, rejected where the retention of its device says that it is too old."""
    message = entry.message
    if message is None or message.time is None:
        return entry
    errors = age_errors(device_type, message.values, message.time, now_ms())
    return Entry(entry.index, entry.device_id, None, _shortened(errors)) if errors else entry


def _read(body: Any, now: int, device_type: str | None = None) -> tuple[Message | None, Errors]:
    """The message, or None and everything that is wrong with it, by field.

    Without a device's type it is not asked whether it is too old.
    """
    if not isinstance(body, dict):
        return None, {"body": ["Must be an object with “data”."]}
    data, metadata, stamp = body.get("data"), body.get("metadata"), body.get("timestamp")
    errors = {"data": ["This field is required."]} if data is None else value_errors(data)
    errors |= metadata_errors(metadata)
    time = None
    if stamp is not None:
        try:
            time = parse_ms(stamp, now)
            errors |= time_errors(time, now)
            if device_type is not None and isinstance(data, dict):
                errors = age_errors(device_type, data, time, now) | errors
        except NotATime as error:
            errors["timestamp"] = [str(error)]
    if errors:
        return None, errors
    assert isinstance(data, dict)
    return Message(data, metadata or None, time), {}


def _read_addressed(index: int, item: Any, now: int) -> Entry:
    device_id = item.get("device_id") if isinstance(item, dict) else None
    if type(device_id) is int and 0 < device_id <= ids.MAX:
        return _entry(index, device_id, item, now)
    fault = {"device_id": ["Must be the number of a device."]}
    return Entry(index, 0, None, fault | _entry(index, 0, item, now).errors)


def _entry(
    index: int, device_id: int, item: Any, now: int, device_type: str | None = None
) -> Entry:
    message, errors = _read(item, now, device_type)
    return Entry(index, device_id, message, _shortened(errors))


def _shortened(errors: Errors) -> Errors:
    """The first FAULTS fields: a thousand readings' faults must not make an answer of megabytes."""
    if len(errors) <= FAULTS:
        return errors
    return dict(islice(errors.items(), FAULTS)) | {"more": [f"{len(errors) - FAULTS} more fields."]}


def _readings_in(body: Any) -> list[Any]:
    readings = body.get("readings") if isinstance(body, dict) else None
    if not isinstance(readings, list):
        raise ValidationError({"readings": ["Must be a list of readings."]})
    if not 1 <= len(readings) <= settings.BATCH_READINGS:
        limit = f"From 1 to {settings.BATCH_READINGS} readings; got {len(readings)}."
        raise ValidationError({"readings": [limit]})
    values = sum(_count_values(item) for item in readings)
    if values > settings.BATCH_VALUES:
        limit = (
            f"At most {settings.BATCH_VALUES} values together; got {values}. Send fewer readings."
        )
        raise ValidationError({"readings": [limit]})
    return readings


def _count_values(item: Any) -> int:
    data = item.get("data") if isinstance(item, dict) else None
    return len(data) if isinstance(data, dict) else 0


def _named(entries: list[Entry]) -> Iterator[tuple[str, list[str]]]:
    for entry in entries:
        for name, reasons in entry.errors.items():
            yield f"readings.{entry.index}.{name}", reasons
