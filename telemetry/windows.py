"""Where the windows of an aggregate begin and end. All times are ms since 1970-01-01T00:00Z."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from iotflow.lib.timeparse import EARLIEST, LATEST, to_datetime

HOUR = 3_600_000
DAY = 24 * HOUR
WEEK = 7 * DAY
MONDAY = 4 * DAY  # the first one after 1970-01-01, a Thursday
NAIVE_EPOCH = datetime(1970, 1, 1)
UTC_NAMES = ("UTC", "Etc/UTC")
NO_ZONE = "Must be a time zone's name, such as Europe/Berlin or UTC."
FIRST_DAY, LAST_DAY = EARLIEST // DAY, LATEST // DAY


@dataclass(slots=True)
class Calendar:
    """Windows of `length` ms, weeks from Mondays.

    Without a zone they begin at multiples of their length since 1970-01-01T00:00Z. In a zone those
    of whole days begin at local midnight, whatever the clocks do between; shorter ones, of which a
    whole number makes a day, are counted from each local midnight on.
    """

    length: int
    zone: ZoneInfo | None = None
    _known: tuple[int, int] = field(default=(0, 0), init=False)

    def bounds(self, time: int) -> tuple[int, int]:
        """The start of the window that `time` is in, and the start of the next one."""
        start, end = self._known
        if not start <= time < end:
            self._known = start, end = self._bounds(time)
        return start, end

    def in_hours(self, start: int, stop: int) -> bool:
        """Whether windows between these times are made of hours of UTC, all but a few at least."""
        if self.length % DAY == 0:
            return True
        return self.grain(start, stop) == HOUR

    @property
    def in_days(self) -> bool:
        """Whether windows are made of days of UTC."""
        return self.length % DAY == 0 and (self.zone is None or self.zone.key in UTC_NAMES)

    def grain(self, start: int, stop: int) -> int:
        """A length that windows between these times are made of, and days of UTC too; 0 if none."""
        if self.zone is None and self.length < HOUR and DAY % self.length == 0:
            return self.length
        if self.length % HOUR or any(utc_offset(t, self.zone) % HOUR for t in (start, stop)):
            return 0
        return HOUR

    def _bounds(self, time: int) -> tuple[int, int]:
        offset = MONDAY if self.length % WEEK == 0 else 0
        if self.zone is None:
            start = (time - offset) // self.length * self.length + offset
            return start, start + self.length
        day = (time + utc_offset(time, self.zone)) // DAY
        if self.length % DAY == 0:
            days = self.length // DAY
            first = (day - offset // DAY) // days * days + offset // DAY
            return _midnight(first, self.zone), _midnight(first + days, self.zone)
        midnight, next_midnight = _midnight(day, self.zone), _midnight(day + 1, self.zone)
        start = midnight + (time - midnight) // self.length * self.length
        return start, min(start + self.length, next_midnight)


def _midnight(day: int, zone: ZoneInfo) -> int:
    """When a local day begins, the days numbered from 1970-01-01; those beyond the years 1 to 9999
    as the last ones within.

    A midnight that the clocks skip is the moment they do so, one that they repeat its first time.
    """
    inside = min(max(day, FIRST_DAY + 1), LAST_DAY)
    local = NAIVE_EPOCH + timedelta(days=inside)
    offset = local.replace(tzinfo=zone).utcoffset() or timedelta()
    return day * DAY - offset // timedelta(milliseconds=1)


def utc_offset(time: int, zone: ZoneInfo | None) -> int:
    """How far local time is ahead, in ms; near the ends of the years what it is a day inside."""
    if zone is None:
        return 0
    inside = min(max(time, EARLIEST + DAY), LATEST - DAY)
    offset = to_datetime(inside).astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The names of time zones: of those alone a file may be looked for."""
    return frozenset(available_timezones())
