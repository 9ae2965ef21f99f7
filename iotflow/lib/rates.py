"""Limits as settings say them: `100/2s,10000/min`."""

import re
from dataclasses import dataclass
from functools import lru_cache

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
LIMIT = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{0,4})\s*(s|min|h|d)\s*", re.ASCII)
SECONDS_MAX = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` in any `seconds`."""

    amount: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.amount};w={self.seconds}"


@lru_cache(maxsize=256)
def limits(text: str) -> tuple[Limit, ...]:
    """The limits in a setting's text, none in an empty one. Raises ValueError for any other."""
    return tuple(map(_limit, text.split(","))) if text.strip() else ()


def _limit(text: str) -> Limit:
    parts = LIMIT.fullmatch(text)
    if parts is None:
        raise ValueError(f"“{text.strip()}” is no limit")
    amount, seconds = int(parts[1]), int(parts[2] or 1) * UNITS[parts[3]]
    if amount < 1 or not 1 <= seconds <= SECONDS_MAX:
        raise ValueError(f"“{text.strip()}” is out of bounds")
    return Limit(amount, seconds)
