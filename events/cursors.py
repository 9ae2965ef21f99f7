"""Where a page of the event log ended, as an opaque text for the client to send back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from rest_framework.exceptions import ValidationError

from iotflow.lib import cursors
from iotflow.lib.timeparse import EARLIEST, EPOCH, LATEST

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EventCursor:
    """The last event given, and the bounds of its query in ms."""

    start: int
    end: int
    time: datetime
    event_id: UUID

    def encode(self) -> str:
        moment = (self.time - EPOCH) // MICROSECOND
        return cursors.encode([self.start, self.end, moment, self.event_id.hex])


def event_cursor(text: str) -> EventCursor:
    """Raises ValidationError (400)."""
    match cursors.decode(text):
        case [int() as start, int() as end, int() as moment, str() as name]:
            within = (EARLIEST <= part <= LATEST for part in (start, end, moment // 1000))
            if all(within) and len(name) == 32:
                try:
                    time = EPOCH + moment * MICROSECOND
                    return EventCursor(int(start), int(end), time, UUID(hex=name))
                except ValueError:
                    pass
    raise ValidationError(cursors.BAD)
