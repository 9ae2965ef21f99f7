"""What is sent and what comes back, as values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, Union

from iotflow_client.errors import Unavailable, ValidationFailed
from iotflow_client.times import Time, clock, fixed, parse, parse_optional

# A measurement: a number, a boolean, a string, a JSON object or list.
Value = Union[bool, int, float, str, dict[str, Any], list[Any]]
T = TypeVar("T")

# Of one call; the server takes 1,000 readings and 1 MiB.
BATCH_READINGS = 1000
BATCH_BYTES = 900 * 1024
ACKNOWLEDGED = frozenset({"stored", "duplicate"})
STATUSES = ACKNOWLEDGED | {"rejected"}
# A field of a batch that is at fault: `readings.3.data.temperature`.
NAMED = re.compile(r"readings\.(\d{1,9})\.(.+)", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """Measurements at a time; without one, the client gives its own when it takes the reading."""

    data: Mapping[str, Value]
    timestamp: Time | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Submitted:
    """A stored reading: 201 means that it is durable."""

    device_id: int
    device_name: str
    timestamp: datetime
    stored_in_cassandra: bool


@dataclass(frozen=True)
class Verdict:
    """What became of one reading of a batch: `stored`, `duplicate` or `rejected`."""

    index: int
    status: str
    reason: str | None = None

    @property
    def is_acknowledged(self) -> bool:
        return self.status in ACKNOWLEDGED


@dataclass(frozen=True)
class BatchResult:
    """A verdict for each reading, in the order in which they were given."""

    verdicts: list[Verdict]

    @property
    def stored(self) -> int:
        return sum(verdict.status == "stored" for verdict in self.verdicts)

    @property
    def duplicates(self) -> int:
        return sum(verdict.status == "duplicate" for verdict in self.verdicts)

    @property
    def rejected(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.is_acknowledged]


@dataclass(frozen=True)
class StoredReading:
    """A reading as it comes back."""

    timestamp: datetime
    measurements: dict[str, Any]
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True)
class Latest:
    """The latest value of every measurement, and the time of the newest; else None."""

    values: dict[str, Any]
    timestamp: datetime | None


@dataclass(frozen=True)
class DeviceInfo:
    """A device; `fields` is the whole answer."""

    id: int
    name: str
    device_type: str
    status: str
    is_online: bool
    last_seen: datetime | None
    fields: dict[str, Any] = field(repr=False)


def encode(reading: Reading, time: int | None = None, **more: Any) -> bytes:
    """A reading of a batch as JSON, with a time in any case: `time`, or the clock's.

    ValueError and TypeError for what is no JSON: NaN, halves of surrogate pairs, foreign types.
    """
    if reading.timestamp is not None:
        stamp = fixed(reading.timestamp)
    else:
        stamp = clock.now() if time is None else time
    return dumps({**more, **body(reading.data, reading.metadata), "timestamp": stamp})


def body(data: Mapping[str, Value], metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A reading without its time, as the server takes it."""
    if not data:
        raise ValueError("A reading needs at least one measurement.")
    return {"data": dict(data), **({"metadata": dict(metadata)} if metadata else {})}


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def batch_body(readings: Sequence[bytes]) -> bytes:
    return b'{"readings":[' + b",".join(readings) + b"]}"


def batches(readings: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Encoded readings in lists that one call takes."""
    batch: list[bytes] = []
    size = 0
    for reading in readings:
        if batch and (len(batch) == BATCH_READINGS or size + len(reading) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(reading)
        size += len(reading) + 1
    if batch:
        yield batch


def in_order(verdicts: Iterable[Verdict]) -> BatchResult:
    """The verdicts of several calls, counted on from call to call."""
    counted = enumerate(verdicts)
    return BatchResult([Verdict(index, each.status, each.reason) for index, each in counted])


def verdicts(answer: Mapping[str, Any], count: int) -> list[Verdict]:
    """The answer to a batch of `count`, by index; Unavailable unless each reading has a verdict."""
    try:
        found = {row["index"]: _verdict(row) for row in answer["results"]}
        if sorted(found) == list(range(count)) and len(answer["results"]) == count:
            return [found[index] for index in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable("The answer to the batch cannot be read.") from error
    raise Unavailable("The answer to the batch does not name each reading once.")


def all_refused(error: ValidationFailed, count: int) -> list[Verdict]:
    """The verdicts in a 400, which is the answer where not one reading can be stored.

    Raises the error again unless it names every reading: then it is about something else.
    """
    reasons: dict[int, list[str]] = {}
    for field_, why in error.details.items():
        if named := NAMED.fullmatch(field_):
            reasons.setdefault(int(named[1]), []).append(f"{named[2]}: {' '.join(why)}")
    if sorted(reasons) != list(range(count)):
        raise error
    return [Verdict(index, "rejected", " ".join(reasons[index])) for index in range(count)]


def _verdict(row: Mapping[str, Any]) -> Verdict:
    if row["status"] not in STATUSES:
        raise ValueError(row["status"])
    reason = row.get("reason")
    if reason is not None and not isinstance(reason, str):
        reason = json.dumps(reason, ensure_ascii=False)
    return Verdict(int(row["index"]), row["status"], reason)


def submitted(answer: Mapping[str, Any]) -> Submitted:
    return Submitted(
        int(answer["device_id"]),
        str(answer["device_name"]),
        parse(answer["timestamp"]),
        bool(answer["stored_in_cassandra"]),
    )


def stored_reading(row: Mapping[str, Any]) -> StoredReading:
    return StoredReading(parse(row["timestamp"]), dict(row["measurements"]), row.get("metadata"))


def device_info(row: Mapping[str, Any]) -> DeviceInfo:
    return DeviceInfo(
        int(row["device_id"] if "device_id" in row else row["id"]),
        str(row["name"]),
        str(row["device_type"]),
        str(row["status"]),
        bool(row["is_online"]),
        parse_optional(row["last_seen"]),
        dict(row),
    )


def latest(answer: Mapping[str, Any]) -> Latest:
    return Latest(dict(answer["latest_data"]), parse_optional(answer["timestamp"]))
