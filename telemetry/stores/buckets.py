"""Which partition of history a time is in: a device's day, or a part of its day.

A layout says how many hours a partition holds. Layouts have versions: the next one holds from a
day on that has not begun, and for the days before it once they have been moved. Partitions are
numbers in the column `day`: of version 0 days since 1970, of any other version its own numbers,
far above those, so that no partition is ever used by two versions.

Pure: no store, no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 24)
# Hours of the years 1 to 9999 fit between two versions, and 20 versions into the column.
SPACE = 100_000_000
MIDDLE = 20_000_000
VERSIONS_MAX = 20


class State(StrEnum):
    """What a layout is to the days before its first; in this order, for those that are moved."""

    KEPT = "kept"  # nothing: they stay as they are
    COPYING = "copying"  # written here as well, read as before
    READING = "reading"  # read here, written as before as well
    DROPPING = "dropping"  # theirs; what was before is being dropped
    DONE = "done"  # theirs


@dataclass(frozen=True, slots=True)
class Layout:
    """`first_day` in days since 1970."""

    version: int
    hours: int
    first_day: int
    state: State = State.DONE

    def partition(self, time: int) -> int:
        """That of a time in ms."""
        if self.version == 0:
            return time // DAY_MS
        return self.version * SPACE + MIDDLE + time // (self.hours * HOUR_MS)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Its first and last millisecond."""
        if self.version:
            partition -= self.version * SPACE + MIDDLE
        width = self.hours * HOUR_MS
        return partition * width, partition * width + width - 1

    def partitions(self, day: int) -> range:
        """Those of a day, rising."""
        return range(
            self.partition(day * DAY_MS), self.partition(day * DAY_MS + DAY_MS - HOUR_MS) + 1
        )


DAYS = Layout(version=0, hours=24, first_day=0)


@dataclass(frozen=True)
class Layouts:
    """All layouts there are besides version 0, by version rising."""

    rows: tuple[Layout, ...] = ()

    def reading(self, day: int) -> Layout:
        """Where a day is read."""
        for layout in reversed(self.rows):
            moved = layout.state in (State.READING, State.DROPPING, State.DONE)
            if moved or day >= layout.first_day:
                return layout
        return DAYS

    def writing(self, day: int) -> list[Layout]:
        """Where a day is written: one place, or two while it is moved."""
        places = [DAYS]
        for layout in self.rows:
            if day >= layout.first_day or layout.state in (State.DROPPING, State.DONE):
                places = [layout]
            elif layout.state in (State.COPYING, State.READING):
                places.append(layout)
        return places

    def to_write(self, time: int) -> list[int]:
        if not self.rows:
            return [time // DAY_MS]
        return [layout.partition(time) for layout in self.writing(time // DAY_MS)]

    def to_read(self, time: int) -> int:
        return self.reading(time // DAY_MS).partition(time)

    def of_day(
        self, day: int, start: int, end: int, *, descending: bool, everywhere: bool = False
    ) -> Iterator[int]:
        """A day's partitions that hold times from `start` to `end`, in order of time.

        `everywhere`: also those that are written and not read.
        """
        for layout in self.writing(day) if everywhere else [self.reading(day)]:
            partitions = layout.partitions(day)
            for partition in reversed(partitions) if descending else partitions:
                first, last = layout.bounds(partition)
                if first <= end and start <= last:
                    yield partition

    def end_of(self, partition: int) -> int:
        """The last millisecond of a partition of any version."""
        layout = self._by_version[max(0, partition // SPACE)]
        return layout.bounds(partition)[1]

    @cached_property
    def _by_version(self) -> dict[int, Layout]:
        return {layout.version: layout for layout in (DAYS, *self.rows)}
