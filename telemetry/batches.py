"""Many readings in one call: a device's batch, or what a gateway brings of many devices.

They are a group already, so they are written where they arrive; nobody else's message waits
behind them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

from django.conf import settings

from devices.key_cache import DeviceRecord, record_of
from devices.models import Device
from events import log
from events.kinds import Kind
from iotflow.lib import counters, json
from iotflow.lib.metrics import SIZES, Histogram
from iotflow.lib.timeparse import format_ms
from telemetry import clock, commit, messages
from telemetry.alerting import book
from telemetry.alerting.evaluation import decide
from telemetry.messages import Entry, Message
from telemetry.readings import Errors, Reading
from telemetry.services import Answer, Times
from telemetry.stores import telemetry_store

Records = Mapping[int, DeviceRecord]
SIZE = Histogram("iotflow_batch_readings", "Readings stored by one call.", bounds=SIZES)


def records(devices: Iterable[Device]) -> dict[int, DeviceRecord]:
    """What writing needs to know of these devices (with their owners), by id; of no key."""
    return {device.pk: record_of(device) for device in devices}


def placed(entries: Sequence[Entry], devices: Records) -> list[Entry]:
    """The entries, those rejected whose device is not among `devices` or may not write."""
    return [_placed(entry, devices.get(entry.device_id)) for entry in entries]


def submit_batch(
    *, devices: Records, entries: Sequence[Entry], actor: str, times: Times | None = None
) -> Answer:
    """Store the good entries of a batch durably; the verdict on each of them.

    `actor` is whoever sent it. `times` are as `times_of` gave them, maybe at an earlier try.
    Raises StoreAway; then any part may be stored, and a retry is safe for readings with times of
    their own.
    """
    batch = _Batch(devices, entries, actor)
    batch.store(times_of(entries, times))
    return batch.answer()


def times_of(entries: Sequence[Entry], known: Times | None = None) -> Times:
    """The time of each entry: the one known already, its own, or one that the server gives.

    None for those that are not good.
    """
    times = [entry.message.time if entry.message else None for entry in entries]
    if known is not None:
        times = [own if old is None else old for old, own in zip(known, times, strict=True)]
    lacking = [entry for entry in entries if entry.message and times[entry.index] is None]
    for entry, given in zip(
        lacking, clock.give([entry.device_id for entry in lacking]), strict=True
    ):
        times[entry.index] = given
    return times


class _Batch:
    """The verdicts on the entries of one call, as they come to be known."""

    def __init__(self, devices: Records, entries: Sequence[Entry], actor: str) -> None:
        self._devices = devices
        self._actor = actor
        self._verdicts: list[Answer] = [_verdict(entry) for entry in entries]
        self._good = [entry for entry in entries if entry.message is not None]
        self._first: dict[int, int] = {}  # of a duplicate, by index: the entry that it repeats

    def store(self, times: Times) -> None:
        accepted = self._accepted(times)
        stored: list[Reading] = []
        deadline = time.monotonic() + settings.BATCH_WAIT_MS / 1000
        refusals = commit.store_all([reading for _, reading in accepted], deadline)
        for (index, reading), refusal in zip(accepted, refusals, strict=True):
            if refusal is None:
                stored.append(reading)
            else:
                self._reject(index, {"data": [str(refusal)]})
        for index, first in self._first.items():
            if self._verdicts[first]["status"] == "rejected":
                self._verdicts[index] = {**self._verdicts[first], "index": index}
        counters.count("messages")
        SIZE.observe(len(stored))
        told: dict[int, list[Reading]] = {}
        for reading in stored:
            told.setdefault(reading.device_id, []).append(reading)
        devices = [self._devices[device_id] for device_id in told]
        due = commit.publish(stored, devices, book.checks(stored, devices))
        if stored:
            log.submitted(
                [self._event(device_id, part) for device_id, part in sorted(told.items())]
            )
        decide(due)

    def answer(self) -> Answer:
        count = {
            status: sum(verdict["status"] == status for verdict in self._verdicts)
            for status in ("stored", "duplicate", "rejected")
        }
        return {
            "results": self._verdicts,
            "stored": count["stored"],
            "duplicates": count["duplicate"],
            "rejected": count["rejected"],
            "stored_in_cassandra": telemetry_store().is_cassandra,
        }

    def _accepted(self, times: Times) -> list[tuple[int, Reading]]:
        """The readings to be stored, with their indexes; verdicts for those that are not."""
        last: dict[tuple[int, int], Entry] = {}
        accepted = []
        for entry in self._good:
            message, at = entry.message, times[entry.index]
            assert message is not None
            assert at is not None
            before = last.get((entry.device_id, at))
            if before and before.message and before.message.content == message.content:
                self._first[entry.index] = before.index
                self._verdicts[entry.index]["status"] = "duplicate"
                continue
            last[entry.device_id, at] = entry
            self._verdicts[entry.index]["timestamp"] = format_ms(at)
            reading = _reading(self._devices[entry.device_id], message, at)
            accepted.append((entry.index, reading))
        return accepted

    def _reject(self, index: int, errors: Errors) -> None:
        self._verdicts[index] = {"index": index, "status": "rejected", **_reasons(errors)}

    def _event(self, device_id: int, readings: Sequence[Reading]) -> Answer:
        """What the event log says of a device's part; the same part again is the same event."""
        names = sorted({name for reading in readings for name in reading.values})
        parts = [[r.time, sorted(r.values.items()), r.metadata] for r in readings]
        device = self._devices[device_id]
        return log.event(
            log.id_of(json.dumps([device_id, parts], sort_keys=True)),
            Kind.TELEMETRY_SUBMITTED,
            f"{device.name} submitted {len(readings)} reading(s)",
            actor=self._actor,
            user_id=device.owner_id,
            device_id=device_id,
            payload={
                "readings": len(readings),
                "first": format_ms(min(reading.time for reading in readings)),
                "last": format_ms(max(reading.time for reading in readings)),
                "measurements": names[: settings.MEASUREMENTS_MAX],
            },
        )


def _placed(entry: Entry, device: DeviceRecord | None) -> Entry:
    if entry.message is None:
        return entry
    if device is not None and device.may_write:
        return messages.kept(entry, device.device_type)
    reason = "There is no such device." if device is None else "This device is inactive."
    return Entry(entry.index, entry.device_id, None, {"device_id": [reason]})


def _verdict(entry: Entry) -> Answer:
    if entry.message is None:
        return {"index": entry.index, "status": "rejected", **_reasons(entry.errors)}
    return {"index": entry.index, "status": "stored"}


def _reasons(errors: Errors) -> Answer:
    """`reason`, a sentence, and `details` by field."""
    name, reasons = next(iter(errors.items()))
    more = f" And {len(errors) - 1} more." if len(errors) > 1 else ""
    return {"reason": f"{name}: {' '.join(reasons)}{more}", "details": dict(errors)}


def _reading(device: DeviceRecord, message: Message, at: int) -> Reading:
    return Reading(
        device_id=device.id,
        owner_id=device.owner_id,
        time=at,
        written=clock.written(),
        values=message.values,
        metadata=message.metadata,
        latest_epoch=device.latest_epoch,
        device_type=device.device_type,
    )
