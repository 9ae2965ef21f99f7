"""What IoTFlow asks of a store of telemetry. tests/contracts holds every implementation to it."""

from collections.abc import Sequence
from typing import Protocol

from telemetry.readings import HistoryPage, HistoryQuery, LatestValue, Reading, UserReading


class Refused(Exception):
    """The store refuses this reading itself; trying again would not help."""


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

    def latest(self, device_id: int, epoch: int) -> dict[str, LatestValue]:
        """The newest value, by event time, of every measurement; in the order of their names."""

    def feed(
        self, owner_id: int, start: int, end: int, limit: int, until: tuple[int, int] | None
    ) -> list[UserReading]:
        """Newest readings across an owner's devices: by time falling, then device id rising.

        `until` is a (time, device id) to begin with. Goes back USER_FEED_DAYS at most.
        """

    def delete(self, device_id: int, owner_id: int, start: int, end: int, epoch: int) -> None:
        """Delete `start <= time <= end`; what is left has its latest values in `epoch` + 1.

        The caller moves the device to that epoch.
        """

    def erase(self, device_id: int, owner_id: int, epoch: int) -> None:
        """Delete everything of a device that is gone, future-dated too. Safe to run again."""

    def setup(self) -> None:
        """Create what the store needs. Safe to run again."""

    def purge(self, now: int) -> int:
        """Drop what has expired where the store does not do so itself; how many values."""

    def ping(self) -> str:
        """Name and version of the server, if it answers."""

    def is_away(self) -> bool:
        """Whether the store is known to be away, without asking it."""
