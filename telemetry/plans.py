"""What an aggregate reads: rollups where they are complete, the readings themselves elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iotflow.lib.timeparse import EARLIEST, now_ms
from telemetry import retention
from telemetry.readings import Value
from telemetry.stores import rollup_store, telemetry_store
from telemetry.stores.rollups import MARKS_MAX, Group, Progress
from telemetry.summaries import Summary, by_hour
from telemetry.windows import DAY, HOUR, Calendar

GROUPED = ("count", "sum", "mean", "min", "max")  # what a store can say of readings by itself


@dataclass(frozen=True, slots=True)
class Part:
    """From `start` to before `stop`: rollups of `length` ms, or the readings where it is 0."""

    start: int
    stop: int
    length: int = 0


class Budget:
    """How many values and rollups may be read; `spent` where there were more."""

    def __init__(self, most: int) -> None:
        self._left = most
        self.spent = False

    def spend(self, number: int) -> None:
        self.spent = self.spent or number > self._left
        self._left = max(0, self._left - number)

    def of(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if not self._left:
                self.spent = True
                return
            self._left -= 1
            yield item


@dataclass(slots=True)
class Source:
    """One measurement of a device from `start` to before `stop`."""

    device_id: int
    device_type: str
    name: str
    start: int
    stop: int
    budget: Budget

    def values(self) -> Iterator[tuple[int, Value]]:
        """Every value, oldest first. Raises StoreAway."""
        return self._values(self.start, self.stop)

    def summaries(self, calendar: Calendar, wanted: str) -> Iterator[Summary]:
        """The values as summaries, oldest first, none across the bound of a window.

        They have what the aggregate that is `wanted` takes. Raises StoreAway.
        """
        for part in self._plan(calendar):
            if not part.length:
                yield from self._read(part, calendar, wanted)
            elif calendar.zone is None:
                yield from self._rollups(part)
            else:
                yield from self._within_windows(part, calendar, wanted)
            if self.budget.spent:
                return

    def _within_windows(self, part: Part, calendar: Calendar, wanted: str) -> Iterator[Summary]:
        """Rollups, and readings instead of those that the bound of a window cuts."""
        for rollup in self._rollups(part):
            stop = rollup.start + part.length
            if calendar.bounds(rollup.start)[1] < stop:
                yield from self._read(Part(rollup.start, stop), calendar, wanted)
            else:
                yield rollup

    def _read(self, part: Part, calendar: Calendar, wanted: str) -> Iterator[Summary]:
        """Readings, summed up by the store where it can."""
        grain = calendar.grain(part.start, part.stop)
        if wanted not in GROUPED or not grain:
            yield from by_hour(self._values(part.start, part.stop), calendar)
            return
        groups = rollup_store().groups(
            self.device_id, self.name, part.start, part.stop, grain, wanted
        )
        for group in groups:
            for piece in self._pieces(group, grain, calendar):
                yield piece
                if self.budget.spent:
                    return

    def _pieces(self, group: Group, grain: int, calendar: Calendar) -> Iterator[Summary]:
        if group.pieces is None:
            yield from by_hour(self._values(group.start, group.stop), calendar)
        for piece in group.pieces or ():
            stop = piece.start + grain
            if calendar.bounds(piece.start)[1] < stop:  # the clocks change by half an hour
                span = max(piece.start, group.start), min(stop, group.stop)
                yield from by_hour(self._values(*span), calendar)
            else:
                self.budget.spend(piece.size)
                yield piece

    def _plan(self, calendar: Calendar) -> list[Part]:
        if not calendar.in_hours(self.start, self.stop) or self.stop - self.start < HOUR:
            return [Part(self.start, self.stop)]
        progress = rollup_store().progress([self.device_id])[self.device_id]
        days = retention.rules().rollup_days(self.device_type, self.name)
        kept = now_ms() - days * DAY + DAY if days else EARLIEST
        return plan(progress, self.start, self.stop, in_days=calendar.in_days, kept=kept)

    def _values(self, start: int, stop: int) -> Iterator[tuple[int, Value]]:
        return self.budget.of(telemetry_store().values(self.device_id, self.name, start, stop - 1))

    def _rollups(self, part: Part) -> Iterator[Summary]:
        found = rollup_store().read(self.device_id, self.name, part.length, part.start, part.stop)
        return self.budget.of(found)


def plan(
    progress: Progress, start: int, stop: int, *, in_days: bool, kept: int = EARLIEST
) -> list[Part]:
    """The parts from `start` to before `stop`, in order and without gaps.

    Rollups from before `kept` may have expired.
    """
    parts: list[Part] = []
    at = start
    for first, last in rolled_up(progress, max(start, kept), stop):
        parts += [Part(at, first), *divided(first, last, in_days=in_days)]
        at = last
    parts.append(Part(at, stop))
    return [part for part in parts if part.start < part.stop]


def rolled_up(progress: Progress, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Whole hours of which the rollups are complete, as ranges in order."""
    if progress.until is None or len(progress.marks) > MARKS_MAX:
        return
    at = up(start, HOUR)
    end = min(stop // HOUR * HOUR, progress.until)
    for mark in progress.marks:
        if at < min(mark.start, end):
            yield at, min(mark.start, end)
        at = max(at, mark.stop)
    if at < end:
        yield at, end


def divided(start: int, stop: int, *, in_days: bool) -> list[Part]:
    """Whole hours as rollups of hours, those of whole days as rollups of days."""
    first, last = up(start, DAY), stop // DAY * DAY
    if not in_days or first >= last:
        return [Part(start, stop, HOUR)]
    return [Part(start, first, HOUR), Part(first, last, DAY), Part(last, stop, HOUR)]


def up(time: int, length: int) -> int:
    """The next multiple of a length, or the time itself."""
    return -(-time // length) * length
