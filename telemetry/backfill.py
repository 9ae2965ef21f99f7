"""Readings that are written past the committer, by imports: many of one device at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.models import Device
from events import log
from events.kinds import Kind
from telemetry import clock, commit
from telemetry.readings import Reading, Value


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
        """Store the samples durably, at most IMPORT_GROUP; those the store refuses, with reasons.

        Raises StoreAway; then what `stored` counts is safe, and any of these may be stored too.
        Raises Device.DoesNotExist when the device was deleted meanwhile.
        """
        self._device.refresh_from_db(fields=["latest_epoch"])
        readings = [self._reading(sample) for sample in samples]
        refusals = commit.store(readings)
        commit.publish(
            [reading for reading, no in zip(readings, refusals, strict=True) if no is None]
        )
        refused = [
            (sample, str(no))
            for sample, no in zip(samples, refusals, strict=True)
            if no is not None
        ]
        self.stored += len(samples) - len(refused)
        return refused

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

    def _reading(self, sample: Sample) -> Reading:
        return Reading(
            device_id=self._device.pk,
            owner_id=self._device.owner_id,
            time=sample.time,
            written=clock.written(),
            values=sample.values,
            latest_epoch=self._device.latest_epoch,
        )
