"""Instants as clients write them, and as we answer them.

Inside IoTFlow an instant of a reading is an integer: milliseconds since 1970-01-01T00:00Z.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
EARLIEST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MILLISECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MILLISECOND

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
RELATIVE = re.compile(r"-(\d{1,12})([smhdw])", re.ASCII)
NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,9})?", re.ASCII)
TEXT_MAX = 64  # LOST_PLUS takes time by the square of the length
# In a query string "+02:00" arrives as " 02:00" when the client did not escape the plus.
LOST_PLUS = re.compile(r"(T.+) (\d\d(?::?\d\d)?)$")

HINT = (
    "Use ISO 8601 (2026-01-31T12:00:00Z), an epoch (seconds, milliseconds, microseconds or "
    "nanoseconds, told apart by magnitude), or a relative time (-24h, now)."
)


class NotATime(ValueError):
    """The text is no instant in any of the accepted forms."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Milliseconds of an aware datetime, rounded down."""
    return (moment - EPOCH) // MILLISECOND


def to_datetime(ms: int) -> datetime:
    """The aware datetime (UTC) of `ms`, which lies within EARLIEST and LATEST."""
    return EPOCH + timedelta(milliseconds=ms)


def format_ms(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds and Z: `2024-12-04T17:30:00.000Z`."""
    minutes, rest = divmod(ms, 60_000)
    return f"{_minute(minutes)}{rest // 1000:02}.{rest % 1000:03}Z"


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    return (EPOCH + timedelta(minutes=minutes)).isoformat()[: len("2024-12-04T17:30:")]


def format_datetime(moment: datetime | None) -> str | None:
    return None if moment is None else format_ms(to_ms(moment))


def parse_ms(value: Any, now: int) -> int:
    """Milliseconds of an instant written as ISO 8601, an epoch number or relative to `now`.

    An epoch is read by magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17
    microseconds, above nanoseconds. What falls outside the years 1 to 9999 is clipped to them.
    A text has at most TEXT_MAX characters. Raises NotATime.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NotATime(HINT)
    if isinstance(value, int | float):
        return _from_number(value)
    if len(value) > TEXT_MAX:
        raise NotATime(HINT)
    text = value.strip()
    if text == "now":
        return now
    if relative := RELATIVE.fullmatch(text):
        return max(now - int(relative[1]) * UNITS[relative[2]], EARLIEST)
    if NUMBER.fullmatch(text):
        return _from_number(float(text) if "." in text else int(text))
    return _from_iso(LOST_PLUS.sub(r"\1+\2", text))


def _from_number(number: int | float) -> int:
    magnitude = abs(number)
    if not magnitude < 1e20:  # infinities and NaN too
        raise NotATime(HINT)
    if magnitude < 1e11:
        ms = round(number * 1000)
    elif magnitude < 1e14:
        ms = int(number // 1)
    elif magnitude < 1e17:
        ms = int(number // 1_000)
    else:
        ms = int(number // 1_000_000)
    return min(max(ms, EARLIEST), LATEST)


def _from_iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(to_ms(aware), EARLIEST), LATEST)  # an offset may lead out of the years
    except (ValueError, OverflowError) as error:
        raise NotATime(HINT) from error
