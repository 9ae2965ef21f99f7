"""What IoTFlow asks of a store of telemetry. tests/contracts holds every implementation to it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from iotflow.lib.batches import unheard
from iotflow.lib.metrics import Counter
from telemetry.readings import (
    Deletion,
    HistoryPage,
    HistoryQuery,
    LatestValue,
    Place,
    Reading,
    UserReading,
    Value,
)
from telemetry.retention import Keeping

# Here, so that /metrics has the same families whatever the store.
REWRITTEN = Counter(
    "iotflow_rewritten_batches_total",
    "Batches written again, for Cassandra may have lost them when it was killed.",
)


class Refused(Exception):
    """The store refuses this reading itself; trying again would not help."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A device, as far as what is stored of it needs to know it."""

    device_id: int
    owner_id: int
    epoch: int
    device_type: str


@dataclass(slots=True)
class Overdue:
    """What is stored of a device longer than it is to be kept.

    `days` are whole days of it, whose values are not counted; `values` are those besides, from
    `first` to `last` with both, in ms. `misdated`: values that expire at another time than they
    are to, where the store can still change that.
    """

    days: int = 0
    values: int = 0
    misdated: int = 0
    first: int | None = None
    last: int | None = None

    def __bool__(self) -> bool:
        return bool(self.days or self.values or self.misdated)

    def span(self, first: int | None, last: int | None) -> None:
        """Values from `first` to `last` are among it; None for no values."""
        if first is not None and last is not None:
            self.first = first if self.first is None else min(first, self.first)
            self.last = last if self.last is None else max(last, self.last)


class TelemetryStore(Protocol):
    """Readings by device and time. Every method raises StoreAway when the store does not answer.

    A (device, time, measurement) holds one value, the last written, of whatever type.
    """

    name: str
    is_cassandra: bool

    def write(self, readings: Sequence[Reading]) -> None:
        """Store the readings durably; each of them whole or not at all.

        Raises Refused for a reading that is itself at fault; then any of the others may be stored.
        """

    def history(self, query: HistoryQuery) -> HistoryPage:
        """A page of readings. It may hold fewer than asked for and still not be the last."""

    def latest(self, places: Sequence[Place]) -> dict[Place, dict[str, LatestValue]]:
        """By place, the newest value by event time of every measurement, ordered by name.

        One round trip for any number of places; every one of them is in the answer.
        """

    def values(
        self, device_id: int, name: str, start: int, end: int
    ) -> Iterator[tuple[int, Value]]:
        """Time and value of one measurement, oldest first, read as they are asked for."""

    def feed(
        self, owner_id: int, start: int, end: int, limit: int, until: tuple[int, int] | None
    ) -> list[UserReading]:
        """Newest readings across an owner's devices: by time falling, then device id rising.

        `until` is a (time, device id) to begin with. Goes back USER_FEED_DAYS at most.
        """

    def delete(self, deletion: Deletion) -> None:
        """Delete the range, and write the latest values that are left into the next epoch.

        Values that are far behind may be missing there; `find_latest` finds them.
        """

    def carry_latest(self, deletion: Deletion) -> dict[str, LatestValue]:
        """Carry over what was written under the old epoch meanwhile; what it carried over."""

    def find_latest(
        self, deletion: Deletion, names: frozenset[str], until: int
    ) -> tuple[dict[str, LatestValue], int | None]:
        """Look back from `until` for the newest values of these measurements, for a while.

        Those found, written into the next epoch; and from where to look on, None at the end.
        """

    def drop_latest(self, deletion: Deletion) -> None:
        """Drop the latest values of the old epoch, which nobody reads any more."""

    def count(self, device_id: int, owner_id: int, epoch: int) -> dict[str, int]:
        """How many rows of a device there are, by table."""

    def erase(self, device_id: int, owner_id: int, epoch: int) -> None:
        """Delete everything of a device that is gone, future-dated too, in every epoch to `epoch`.

        Safe to break off and to run again.
        """

    def setup(self) -> None:
        """Create what the store needs. Safe to run again."""

    def is_empty(self) -> bool:
        """Whether it has no reading of any device."""

    def empty(self) -> None:
        """Delete everything of every device, rollups too; no process may be writing."""

    def purge(self, now: int, advance: Callable[[int], object] = unheard) -> int:
        """Drop what has expired where the store does not do so itself; how many values.

        `advance` is told of every piece how many there were.
        """

    def expired(self, now: int) -> int:
        """How many values `purge` would drop."""

    def overdue(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        """What `enforce` would do, with nothing changed."""

    def enforce(self, holder: Holder, keeping: Keeping, now: int) -> Overdue:
        """Delete what a device has stored for longer than `keeping` says; what that was.

        What is written has its expiry from then, whatever the policies say now; where the store
        can change that, it does. Safe to break off and to run again.
        """

    def faults(self) -> list[str]:
        """What is wrong with the store's tables, each in a sentence."""

    def drift(self) -> list[str]:
        """What of its tables is other than wanted though it works, each in a sentence."""

    def largest_partitions(self) -> dict[str, int]:
        """Bytes of the largest partition by table, where the store has such."""

    def clock(self) -> int | None:
        """The server's time in ms; None where it is the database's."""

    def ping(self) -> str:
        """Name and version of the server, if it answers."""

    def is_away(self) -> bool:
        """Whether the store is known to be away, without asking it."""

    def is_refusing(self) -> bool:
        """Whether it would raise StoreAway at a write now without trying it."""

    def is_shaky(self) -> bool:
        """Whether it failed at the last write, or was away a moment ago."""
