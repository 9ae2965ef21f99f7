"""Times that come each week, such as “Mon-Fri 22:00-06:00, Sun 02:00-04:00”, by a zone's clocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from telemetry.windows import DAY, HOUR, MONDAY, WEEK, utc_offset

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE = 60_000
_DAY = "|".join(DAYS)
PART = re.compile(
    rf"\s*(?:({_DAY})(?:-({_DAY}))?\s+)?(\d\d):([0-5]\d)-(\d\d):([0-5]\d)\s*",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Weekly:
    """`parts` are from one to before the other, in ms since Monday's midnight; the end of one that
    goes on into the next week is beyond this one's.
    """

    parts: tuple[tuple[int, int], ...]
    zone: ZoneInfo

    def meets(self, start: int, end: int) -> bool:
        """Whether any part of it is between two times (ms since 1970), a day apart at most."""
        first = (start + utc_offset(start, self.zone) - MONDAY) % WEEK
        last = first + end - start
        return any(
            begins < last + turn and ends > first + turn
            for begins, ends in self.parts
            for turn in (-WEEK, 0, WEEK)
        )


@lru_cache(maxsize=1024)
def parse(text: str, zone: str) -> Weekly | None:
    """What the text names, None where it is empty. Raises ValueError, for whoever wrote it."""
    if not text:
        return None
    parts = tuple(part for one in text.split(",") for part in _parts(one))
    return Weekly(parts, ZoneInfo(zone))


def _parts(text: str) -> Iterator[tuple[int, int]]:
    found = PART.fullmatch(text)
    if found is None:
        raise ValueError(f"“{text.strip()}” is not of the form “Mon-Fri 22:00-06:00”.")
    start, end = (int(found[n]) * HOUR + int(found[n + 1]) * MINUTE for n in (3, 5))
    if start >= DAY or end > DAY or start == end:
        raise ValueError(f"“{text.strip()}” is no time of a day; the whole of it is 00:00-24:00.")
    if end < start:
        end += DAY
    first, last = 0, len(DAYS) - 1
    if found[1]:
        first = DAYS.index(found[1].lower())
        last = DAYS.index((found[2] or found[1]).lower())
    for number in range((last - first) % len(DAYS) + 1):
        midnight = (first + number) % len(DAYS) * DAY
        yield midnight + start, midnight + end
