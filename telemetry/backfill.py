"""Readings that are written past the committer, by imports: many of one device at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.models import Device
from events import log
from events.kinds import Kind
from iotflow.lib.timeparse import now_ms
from telemetry import clock, commit
from telemetry.readings import Reading, Value
from telemetry.retention import age_errors


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one time; `line`: where they come from, for what is said of them."""

    time: int
    values: Mapping[str, Value]
    line: int = 0


class Backfill:
    """Writes one device's samples. Writing them again stores nothing new."""

    def __init__(self, device: Device) -> None:
        self.stored = 0
        self._device = device

    def write(self, samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
        """Store the samples durably, at most IMPORT_GROUP; those that are refused, with reasons:
        by the store, or because they are older than they are kept.

        Raises StoreAway; then what `stored` counts is safe, and any of these may be stored too.
        Raises Device.DoesNotExist when the device was deleted meanwhile.
        """
        self._device.refresh_from_db(fields=["latest_epoch", "device_type"])
        faults = [self._age_fault(sample) for sample in samples]
        refused = [(sample, no) for sample, no in zip(samples, faults, strict=True) if no]
        samples = [sample for sample, no in zip(samples, faults, strict=True) if not no]
        readings = [self._reading(sample) for sample in samples]
        refusals = commit.store(readings)
        commit.publish(
            [reading for reading, no in zip(readings, refusals, strict=True) if no is None]
        )
        unfit = [
            (sample, str(no))
            for sample, no in zip(samples, refusals, strict=True)
            if no is not None
        ]
        self.stored += len(samples) - len(unfit)
        return [*refused, *unfit]

    def finish(self, source: str, actor: str, details: Mapping[str, Any] | None = None) -> None:
        """What has to follow, once, after the last write or after it broke off."""
        log.record(
            Kind.TELEMETRY_IMPORTED,
            f"{self.stored} reading(s) of {self._device.name} imported from {source}",
            actor=actor,
            user_id=self._device.owner_id,
            device_id=self._device.pk,
            payload={"readings": self.stored, "source": source, **(details or {})},
        )

    def _age_fault(self, sample: Sample) -> str:
        """Why a sample is too old for the device's retention; empty where it is not."""
        errors = age_errors(self._device.device_type, sample.values, sample.time, now_ms())
        return "; ".join(f"{name}: {' '.join(reasons)}" for name, reasons in errors.items())

    def _reading(self, sample: Sample) -> Reading:
        return Reading(
            device_id=self._device.pk,
            owner_id=self._device.owner_id,
            time=sample.time,
            written=clock.written(),
            values=sample.values,
            latest_epoch=self._device.latest_epoch,
            device_type=self._device.device_type,
        )
