"""Readings that are written past the committer, by imports: many of one device at a time."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings

from devices.models import Device
from events import log
from events.kinds import Kind
from events.sinks import Document
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import now_ms
from telemetry import clock, commit
from telemetry.readings import Reading, Value
from telemetry.retention import age_errors
from telemetry.stores import Refused, telemetry_store


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one time; `line`: where they come from, for what is said of them."""

    time: int
    values: Mapping[str, Value]
    line: int = 0
    metadata: Mapping[str, Any] | None = None


PATIENCE_SECONDS, PAUSE_SECONDS = 30.0, 1.0
Refusals = list[Refused | None]
Refusal = tuple[Sample, str]
Written = tuple[Sequence[Sample], list[Refusal]]  # a group, and what was refused of it


class Backfill:
    """Writes one device's samples. Writing them again stores nothing new.

    `stored` counts them, without those refused. Up to `line` all of them are stored or refused.
    """

    def __init__(self, device: Device) -> None:
        self.stored = 0
        self.line = 0
        self._device = device

    def write(self, samples: Sequence[Sample]) -> list[Refusal]:
        """Store the samples durably, at most IMPORT_GROUP; those that are refused, with reasons:
        by the store, or because they are older than they are kept.

        Raises StoreAway; then what `stored` counts is safe, and any of these may be stored too.
        Raises Device.DoesNotExist when the device was deleted meanwhile.
        """
        group = self._group(samples)
        refused = self._counted(group, _store(group.readings))
        self.line = samples[-1].line if samples else self.line
        return refused

    def write_all(self, groups: Iterable[Sequence[Sample]]) -> Generator[Written]:
        """The same for any number of groups; each, in order, when it is stored.

        On Cassandra IMPORT_WRITERS of them are on their way at a time, and it does not matter
        which arrives first: the later in order counts. One that it does not take in time is tried
        again for PATIENCE_SECONDS. The relational store takes one after another.
        """
        if not telemetry_store().is_cassandra:
            for samples in groups:
                yield samples, self.write(samples)
            return
        stop = threading.Event()
        waiting: deque[tuple[_Group, Future[Refusals]]] = deque()
        with ThreadPoolExecutor(settings.IMPORT_WRITERS, "import") as pool:
            try:
                for samples in groups:
                    group = self._group(samples)
                    future = pool.submit(_store_patiently, group.readings, stop)
                    waiting.append((group, future))
                    if len(waiting) > settings.IMPORT_WRITERS:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            finally:  # broken off: what is on its way arrives all the same
                stop.set()
                while waiting and waiting[0][1].exception() is None:
                    self._next(waiting)
                for group, future in waiting:
                    if future.exception() is None:
                        self._counted(group, future.result())

    def _group(self, samples: Sequence[Sample]) -> "_Group":
        self._device.refresh_from_db(fields=["latest_epoch", "device_type"])
        return self._checked(samples)

    def _checked(self, samples: Sequence[Sample]) -> "_Group":
        faults = [self._age_fault(sample) for sample in samples]
        good = [sample for sample, no in zip(samples, faults, strict=True) if not no]
        old = [(sample, no) for sample, no in zip(samples, faults, strict=True) if no]
        return _Group(samples, good, old, [self._reading(sample) for sample in good])

    def _next(self, waiting: deque[tuple["_Group", Future[Refusals]]]) -> Written:
        group, future = waiting[0]
        refused = self._counted(group, future.result())
        waiting.popleft()
        self.line = group.samples[-1].line
        return group.samples, refused

    def _counted(self, group: "_Group", refusals: Refusals) -> list[Refusal]:
        unfit = [
            (sample, str(no))
            for sample, no in zip(group.good, refusals, strict=True)
            if no is not None
        ]
        self.stored += len(group.good) - len(unfit)
        return [*group.old, *unfit]

    def finish(self, source: str, actor: str, details: Mapping[str, Any] | None = None) -> None:
        """What has to follow, once, after the last write or after it broke off."""
        log.record_all([self._imported(source, actor, details)])

    def _imported(
        self, source: str, actor: str, details: Mapping[str, Any] | None = None
    ) -> Document:
        return log.happened(
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
            metadata=sample.metadata,
            latest_epoch=self._device.latest_epoch,
            device_type=self._device.device_type,
        )


def write_together(samples: Mapping[Backfill, Sequence[Sample]]) -> None:
    """Store a few samples of each of many devices that were just read; refusals are not told.

    Raises StoreAway; then any of them may be stored.
    """
    groups = {backfill: backfill._checked(some) for backfill, some in samples.items()}
    refusals = iter(_store_all([one for group in groups.values() for one in group.readings]))
    for backfill, group in groups.items():
        backfill._counted(group, [next(refusals) for _ in group.good])


def finish_all(backfills: Iterable[Backfill], source: str, actor: str) -> None:
    """`finish` for each of them."""
    log.record_all([backfill._imported(source, actor) for backfill in backfills])


class _Group(NamedTuple):
    """What is written together: the samples that are not too old, as readings."""

    samples: Sequence[Sample]
    good: Sequence[Sample]
    old: Sequence[Refusal]
    readings: list[Reading]


def _store(readings: Sequence[Reading]) -> Refusals:
    refusals = commit.store(readings)
    commit.publish([reading for reading, no in zip(readings, refusals, strict=True) if no is None])
    return refusals


def _store_all(readings: Sequence[Reading]) -> Refusals:
    return [no for group in commit.chunks(readings) for no in _store(group)]


def _store_patiently(readings: Sequence[Reading], stop: threading.Event) -> Refusals:
    """A full-speed import can keep a server too busy to answer in time: it is given a moment."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _store(readings)
        except StoreAway:
            if time.monotonic() > until or stop.wait(PAUSE_SECONDS):
                raise
