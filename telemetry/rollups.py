"""Rollups of readings by the hour and the day, computed from what is stored, any number of times.

An hour is closed CLOSE_MS after its end. The rollups of a device are complete up to a time that
only roll() moves; whoever changes closed hours marks them first, and until roll() has computed
them again their readings are read instead (telemetry.plans).
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from devices.models import Device
from iotflow.lib.timeparse import EARLIEST, now_ms
from telemetry import clock
from telemetry.readings import HistoryQuery, Reading, StoredReading, Value
from telemetry.stores import rollup_store, telemetry_store
from telemetry.stores.rollups import Mark, Named, Progress
from telemetry.summaries import Summary, by_hour, merge
from telemetry.windows import DAY, HOUR, Calendar

# A writer takes an hour for closed well before roll() does: clocks differ, and writing takes time.
LATE_MS = 5 * 60_000
CLOSE_MS = 10 * 60_000
# What was being written when its mark was set is stored by then, or never promised.
SETTLE_MS = 60_000
# A deletion that is still under way is marked again when it ends.
DELETING_MS = 10 * 60_000
NEAR = DAY  # late hours no further apart share a mark
SLICE_SECONDS = 2.0
DEVICES = 200
PAGE = 2000
HOURLY = Calendar(HOUR)


def note_late(readings: Iterable[Reading]) -> None:
    """Mark the closed hours that these readings, about to be written, belong to.

    Costs nothing where none is late. Raises StoreAway; then nothing should be written.
    """
    now = now_ms()
    closed = floor(now - LATE_MS)
    hours: dict[int, set[int]] = {}
    for reading in readings:
        if reading.time < closed:
            hours.setdefault(reading.device_id, set()).add(floor(reading.time))
    for device_id, late in hours.items():
        marks = [Mark(*run, now + SETTLE_MS, clock.written()) for run in runs(sorted(late))]
        rollup_store().mark(device_id, marks)


def note_deletion(device_id: int, start: int, end: int, *, done: bool) -> None:
    """Mark the hours of a range, both ends included: before anything is deleted, and after."""
    due = now_ms() + (SETTLE_MS if done else DELETING_MS)
    mark = Mark(floor(start), floor(end) + HOUR, due, clock.written(), deleted=True)
    rollup_store().mark(device_id, [mark])


class Roller:
    """Rolls up every device in turn, a slice at a time."""

    def __init__(self) -> None:
        self._after = 0

    def __call__(self) -> bool:
        """A slice; whether there is more to do. Raises StoreAway."""
        deadline = time.monotonic() + SLICE_SECONDS
        while time.monotonic() < deadline:
            devices = Device.objects.filter(pk__gt=self._after).order_by("pk")
            ids = list(devices.values_list("pk", flat=True)[:DEVICES])
            if not ids:
                self._after = 0
                return False
            for device_id, progress in rollup_store().progress(ids).items():
                if time.monotonic() > deadline or Rolling(device_id, progress, deadline).run():
                    return True
                self._after = device_id
        return True


class Rolling:
    """One look at a device: what has closed since, and what is marked and due."""

    def __init__(self, device_id: int, progress: Progress, deadline: float, now: int = 0) -> None:
        self._device_id = device_id
        self._progress = progress
        self._deadline = deadline
        self._now = now or now_ms()
        self._store = rollup_store()
        self._until = progress.until
        self.hours = 0  # computed

    def run(self) -> bool:
        """Whether there is more to do, for the deadline has passed. Raises StoreAway."""
        closed = floor(self._now - CLOSE_MS)
        begun = EARLIEST if self._until is None else self._until
        if begun < closed and not self._advance(begun, closed):
            return True
        reached = closed if begun < closed else begun
        for mark in self._progress.marks:
            if mark.due > self._now:
                continue
            # What the advance has just read is not read twice.
            fresh = begun <= mark.start and mark.stop <= reached and not mark.deleted
            if not fresh and not self._mend(mark, reached):
                return True
            self._store.unmark(self._device_id, [mark])
        return False

    def rebuild(self, start: int, stop: int) -> bool:
        """Compute again what has been rolled up between; False where somebody else does."""
        reached = self._until or EARLIEST
        days = self._days(floor(start), min(floor(stop) + HOUR, reached))
        return all(self._day(*hours, reached, anew=True) for hours in days)

    def waiting_days(self) -> int:
        """How many days have readings in hours that have closed since."""
        begun = EARLIEST if self._until is None else self._until
        return sum(1 for _ in self._days(begun, floor(self._now - CLOSE_MS)))

    def rolled_days(self, start: int, stop: int) -> int:
        """How many days `rebuild` would compute again."""
        stop = min(floor(stop) + HOUR, self._until or EARLIEST)
        return sum(1 for _ in self._days(floor(start), stop))

    @property
    def marks(self) -> int:
        return len(self._progress.marks)

    def _advance(self, start: int, closed: int) -> bool:
        """Roll up what has closed; False where it broke off."""
        for first, stop in self._days(start, closed):
            if not self._day(first, stop, stop):
                return False
            self._store.advance(self._device_id, stop)
            self._until = stop
            if time.monotonic() > self._deadline and stop < closed:
                return False
        return True

    def _mend(self, mark: Mark, reached: int) -> bool:
        """Compute marked hours again; False where it broke off, what is left marked again."""
        start, stop = mark.start, min(mark.stop, reached)
        if start >= stop:
            return True
        if mark.deleted:
            if not self._store.clear(self._device_id, start, stop, clock.written()):
                return False
            for day in {start // DAY * DAY, (stop - 1) // DAY * DAY}:
                if day + DAY <= reached and not self._whole_day(day, anew=False):
                    return False
        for first, last in self._days(start, stop):
            if time.monotonic() > self._deadline and first > start:
                left = Mark(first, mark.stop, mark.due, clock.written(), mark.deleted)
                self._store.mark(self._device_id, [left])
                self._store.unmark(self._device_id, [mark])
                return False
            if not self._day(first, last, reached, anew=True):
                return False
        return True

    def _days(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The hours that have readings, cut at days: each time from the first of them on."""
        while start < stop:
            query = HistoryQuery(self._device_id, start, stop - 1, limit=1, descending=False)
            readings = telemetry_store().history(query).readings
            if not readings:
                return
            first = floor(readings[0].time)
            start = min(first // DAY * DAY + DAY, stop)
            yield first, start

    def _day(self, start: int, stop: int, reached: int, *, anew: bool = False) -> bool:
        """Roll up hours of one day, and the day where it is over; False where it broke off.

        Where they are computed `anew`, hours keep what has expired among their readings.
        """
        computed = clock.written()
        rollups = self._read(start, stop)
        if anew:
            known = self._store.read_all(self._device_id, HOUR, start, stop)
            rollups = fuller(rollups, known)
        if not self._write(HOUR, rollups, computed):
            return False
        self.hours += (stop - start) // HOUR
        day = start // DAY * DAY
        return day + DAY > reached or self._whole_day(day, anew=anew)

    def _whole_day(self, day: int, *, anew: bool) -> bool:
        computed = clock.written()
        hours: dict[str, list[Summary]] = {}
        for name, hour in self._store.read_all(self._device_id, HOUR, day, day + DAY):
            hours.setdefault(name, []).append(hour)
        rollups = [(name, merge(parts)._replace(start=day)) for name, parts in hours.items()]
        if anew:
            known = self._store.read_all(self._device_id, DAY, day, day + DAY)
            rollups = fuller(rollups, known)
        return self._write(DAY, rollups, computed)

    def _read(self, start: int, stop: int) -> list[Named]:
        """The summaries of stored readings, by the hour, of every measurement."""
        values: dict[str, list[tuple[int, Value]]] = {}
        rollups: list[Named] = []
        hour = start
        for reading in stored(self._device_id, start, stop):
            if reading.time >= hour + HOUR:
                rollups += summarized(values)
                values, hour = {}, floor(reading.time)
            for name, value in reading.values.items():
                values.setdefault(name, []).append((reading.time, value))
        return rollups + summarized(values)

    def _write(self, length: int, rollups: list[Named], computed: int) -> bool:
        """False where it broke off, or the device is gone: what is written then would be left."""
        device_type = self._device_type()
        return device_type is not None and self._store.write(
            self._device_id, device_type, length, rollups, computed
        )

    def _device_type(self) -> str | None:
        types = Device.objects.filter(pk=self._device_id).values_list("device_type", flat=True)
        return types.first()


def stored(device_id: int, start: int, stop: int) -> Iterator[StoredReading]:
    """Readings from `start` to before `stop`, oldest first."""
    after = None
    while True:
        query = HistoryQuery(device_id, start, stop - 1, limit=PAGE, descending=False, after=after)
        page = telemetry_store().history(query)
        yield from page.readings
        if page.next_after is None:
            return
        after = page.next_after


def summarized(values: dict[str, list[tuple[int, Value]]]) -> list[Named]:
    return [(name, found) for name in values for found in by_hour(values[name], HOURLY)]


def fuller(rollups: list[Named], known: Sequence[Named]) -> list[Named]:
    """Those that have no fewer values than what is known of the same time.

    Writing never makes values fewer: where there are, readings have outlived their time.
    """
    counts = {(name, found.start): found.size for name, found in known}
    return [(n, found) for n, found in rollups if found.size >= counts.get((n, found.start), 0)]


def runs(hours: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising hours as few ranges, from a start to before a stop."""
    start = last = hours[0]
    for hour in hours[1:]:
        if hour - last > NEAR:
            yield start, last + HOUR
            start = hour
        last = hour
    yield start, last + HOUR


def floor(time: int) -> int:
    """The start of the hour."""
    return time // HOUR * HOUR
