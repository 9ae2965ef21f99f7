"""Where a listener finds what its channel has no more: a device's history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iotflow.lib.timeparse import EARLIEST, LATEST
from telemetry.latest import latest
from telemetry.live.news import body
from telemetry.readings import HistoryQuery
from telemetry.stores import telemetry_store

PAGE, PAGE_BYTES = 100, 1 << 18


@dataclass(frozen=True, slots=True)
class History:
    """Of one device. Raises StoreAway."""

    device_id: int

    def page(self, after: int) -> tuple[Sequence[tuple[int, bytes]], bool]:
        """Its readings later than `after` (ms), PAGE of them at most; whether there are more.

        Their bodies have PAGE_BYTES together, or one more.
        """
        query = HistoryQuery(self.device_id, after + 1, LATEST, PAGE, descending=False)
        page = telemetry_store().history(query)
        while not page.readings and page.next_after is not None:  # empty, and not the last one
            page = telemetry_store().history(replace(query, after=page.next_after))
        rows: list[tuple[int, bytes]] = []
        size = 0
        for reading in page.readings:
            if size > PAGE_BYTES:
                return rows, True
            rows.append((reading.time, body(self.device_id, reading)))
            size += len(rows[-1][1])
        return rows, page.next_after is not None


def newest(device_id: int, epoch: int) -> int:
    """The time of a device's newest reading; EARLIEST where it has none. Raises StoreAway."""
    return max((value.time for value in latest(device_id, epoch).values()), default=EARLIEST)
