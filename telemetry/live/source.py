"""Where a listener finds what its channel has no more: a device's history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iotflow.lib.timeparse import LATEST
from telemetry.latest import latest
from telemetry.live.news import body
from telemetry.readings import HistoryQuery
from telemetry.stores import telemetry_store

PAGE = 500


@dataclass(frozen=True, slots=True)
class History:
    """Of one device. Raises StoreAway."""

    device_id: int

    def page(self, after: int) -> tuple[Sequence[tuple[int, bytes]], bool]:
        """Its readings later than `after` (ms), PAGE of them at most; whether there are more."""
        query = HistoryQuery(self.device_id, after + 1, LATEST, PAGE, descending=False)
        while True:
            page = telemetry_store().history(query)
            rows = [(reading.time, body(self.device_id, reading)) for reading in page.readings]
            # A page may be empty and not the last one.
            if rows or page.next_after is None:
                return rows, page.next_after is not None
            query = replace(query, after=page.next_after)


def newest(device_id: int, epoch: int, otherwise: int) -> int:
    """The time of a device's newest reading, or `otherwise` where it has none. Raises StoreAway."""
    return max((value.time for value in latest(device_id, epoch).values()), default=otherwise)
