"""Readings that are written past the committer, by imports: many of one device at a time."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from devices.models import Device
from events import log
from events.kinds import Kind
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis
from telemetry import latest
from telemetry.readings import Reading, Value, newest
from telemetry.stores import Refused, telemetry_store


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
        self._written = 0

    def write(self, samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
        """Store the samples durably, at most IMPORT_GROUP; those the store refuses, with reasons.

        Raises StoreAway; then what `stored` counts is safe, and any of these may be stored too.
        """
        readings = [self._reading(sample) for sample in samples]
        try:
            telemetry_store().write(readings)
        except Refused as error:
            if len(samples) == 1:
                return [(samples[0], str(error))]
            return [refused for sample in samples for refused in self.write([sample])]
        self.stored += len(samples)
        # What Redis misses of this is gone from it after LATEST_CACHE_SECONDS.
        with suppress(StoreAway), redis() as client:
            latest.add_newest(client, newest(readings))
        return []

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
        self._written = max(self._written + 1, time.time_ns() // 1000)
        return Reading(
            device_id=self._device.pk,
            owner_id=self._device.owner_id,
            time=sample.time,
            written=self._written,
            values=sample.values,
            latest_epoch=self._device.latest_epoch,
        )
