"""Where a page ended, as an opaque text for the client to send back.

A cursor carries the bounds of its query, so that paging over `-24h` stays over the same day.
"""

from dataclasses import dataclass

from rest_framework.exceptions import ValidationError

from iotflow.lib import ids
from iotflow.lib.cursors import BAD
from iotflow.lib.cursors import decode as _decode
from iotflow.lib.cursors import encode as _encode
from iotflow.lib.timeparse import EARLIEST, LATEST


@dataclass(frozen=True, slots=True)
class HistoryCursor:
    descending: bool
    start: int
    end: int
    after: int

    def encode(self) -> str:
        return _encode([int(self.descending), self.start, self.end, self.after])


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """The last entry given: its time, device and measurement."""

    start: int
    end: int
    time: int
    device_id: int
    name: str

    def encode(self) -> str:
        return _encode([self.start, self.end, self.time, self.device_id, self.name])


def history_cursor(text: str) -> HistoryCursor:
    """Raises ValidationError (400)."""
    match _decode(text):
        case [0 | 1 as descending, int() as start, int() as end, int() as after] if _times(
            start, end, after
        ):
            return HistoryCursor(bool(descending), start, end, after)
    raise ValidationError(BAD)


def feed_cursor(text: str) -> FeedCursor:
    """Raises ValidationError (400)."""
    match _decode(text):
        case [int() as start, int() as end, int() as time, int() as device_id, str() as name] if (
            _times(start, end, time) and 0 <= device_id <= ids.MAX
        ):
            return FeedCursor(start, end, time, device_id, name)
    raise ValidationError(BAD)


def _times(*times: int) -> bool:
    return all(type(time) is int and EARLIEST <= time <= LATEST for time in times)
