"""Instants: what a caller may give, what is sent, and a clock that never gives one twice."""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, Union

# An aware datetime, an epoch in seconds or milliseconds, or ISO 8601.
Time = Union[datetime, int, float, str]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)
RELATIVE = re.compile(r"\s*(now|-\d+[smhdw])\s*")
# A clock set back by more than this was wrong before; its old times are not held on to.
SET_BACK_MS = 1000


class Tick(NamedTuple):
    """A time that was given, and what the clock said then: it may be behind after a burst."""

    given: int
    seen: int


def following(tick: Tick) -> Tick:
    """Now in ms, later than what was given: two readings at one time would be one reading."""
    now = time.time_ns() // 1_000_000
    is_set_back = now < tick.seen - SET_BACK_MS
    return Tick(now if is_set_back else max(now, tick.given + 1), now)


class Clock:
    """UTC in ms, each given once in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tick = Tick(0, 0)

    def now(self) -> int:
        with self._lock:
            self._tick = following(self._tick)
            return self._tick.given


clock = Clock()


def fixed(value: Time) -> int | float | str:
    """An instant as it is sent. ValueError for one that would mean another time when repeated."""
    if isinstance(value, datetime):
        return to_ms(value)
    if isinstance(value, bool):
        raise TypeError("A time is a datetime, an epoch or ISO 8601, not a bool.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("A time must be finite.")
    if isinstance(value, str) and RELATIVE.fullmatch(value):
        raise ValueError(f"{value!r} is another time at every try: give a datetime.")
    return value


def asked(value: Time) -> str:
    """A bound of a range as it is asked for; relative times (`-24h`, `now`) too."""
    return value if isinstance(value, str) else str(fixed(value))


def to_ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError("A datetime needs a zone: datetime.now(timezone.utc), say.")
    return (moment - EPOCH) // MILLISECOND


def parse(text: str) -> datetime:
    """What the server answers: ISO 8601 with milliseconds and Z."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def parse_optional(text: str | None) -> datetime | None:
    return None if text is None else parse(text)
