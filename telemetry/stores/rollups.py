"""What IoTFlow asks of a store of rollups. tests/contracts holds every implementation to it.

A rollup is the summary of one measurement's values in an hour or a day (UTC) that is over. Those
of a device are complete up to its `until`, but for the hours that its marks name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetry.summaries import Summary

Named = tuple[str, Summary]  # a measurement, and the summary of some of its values
MARKS_MAX = 2000


@dataclass(frozen=True, slots=True)
class Mark:
    """Hours from `start` to before `stop` whose rollups cannot be relied on.

    To be computed again, not before `due`, when whatever was being written is. Where readings
    were `deleted`, rollups are too. `version` (µs) tells a mark from one set again.
    """

    start: int
    stop: int
    due: int
    version: int
    deleted: bool = False

    @property
    def key(self) -> tuple[int, int, bool]:
        return self.start, self.stop, self.deleted


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the rollups of a device are, and at most MARKS_MAX + 1 of its marks, by start."""

    until: int | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """What a store sums up by itself of the readings from `start` to before `stop`.

    `pieces` have what was wanted of them only; None where the readings have to be read.
    """

    start: int
    stop: int
    pieces: list[Summary] | None


class RollupStore(Protocol):
    """Rollups by device. Every method raises StoreAway when the store does not answer.

    `length` is HOUR or DAY; `start` is included and `stop` is not. `computed` (µs) is from before
    the readings were read: what was computed from an earlier look never replaces a later one.
    """

    def progress(self, device_ids: Sequence[int]) -> dict[int, Progress]:
        """Of each of these devices; one round trip for any number."""

    def mark(self, device_id: int, marks: Iterable[Mark]) -> None:
        """Durable when it returns. A mark set again has the new `due`."""

    def unmark(self, device_id: int, marks: Iterable[Mark]) -> None:
        """Take these marks away, but not those set again since."""

    def advance(self, device_id: int, until: int) -> None:
        """The rollups of the device are complete up to `until`."""

    def read(
        self, device_id: int, name: str, length: int, start: int, stop: int
    ) -> Iterator[Summary]:
        """Those of one measurement, oldest first."""

    def read_all(self, device_id: int, length: int, start: int, stop: int) -> list[Named]:
        """Those of every measurement, by name, then oldest first; within one month or one year."""

    def everything(self, device_id: int, length: int) -> Iterator[Named]:
        """Those of every measurement and time, in no order that counts."""

    def groups(
        self, device_id: int, name: str, start: int, stop: int, grain: int, wanted: str
    ) -> Iterator[Group]:
        """Readings, not rollups: of one measurement, oldest first, in pieces of `grain` ms, of
        which a whole number makes a day. `wanted` is count, sum, mean, min or max.
        """

    def write(
        self,
        device_id: int,
        device_type: str,
        length: int,
        rollups: Sequence[Named],
        computed: int,
    ) -> bool:
        """Write those that retention keeps.

        False where somebody else has computed for this device since; then nothing is written, or
        what is written never shows.
        """

    def clear(self, device_id: int, start: int, stop: int, computed: int) -> bool:
        """Drop hours, and the days that they are in; False as for `write`."""

    def count(self, device_id: int) -> dict[str, int]:
        """How many rows of a device there are, by table."""

    def erase(self, device_id: int) -> None:
        """Delete everything of a device that is gone. Safe to break off and to run again."""

    def purge(self, now: int) -> None:
        """Drop what has expired where the store does not do so itself."""
