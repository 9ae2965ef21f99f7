"""Aggregates of one measurement over windows of time, computed from its values as they stream by.

A number counts as it is and a boolean as 0 or 1; other values count for `count`, `first` and
`last` only. Standard deviation is that of a sample (n - 1), by Welford's method (Technometrics 4,
1962); a percentile lies between the two nearest ranks (type 7 of Hyndman and Fan, The American
Statistician 50, 1996).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from iotflow.lib.json import INT64
from telemetry.readings import Value

# Weeks begin on Mondays: the first one after 1970-01-01, a Thursday.
MONDAY = 4 * 86_400_000
WEEK = 7 * 86_400_000


@dataclass(slots=True)
class Window:
    """The values of one window, so far; `start` in ms."""

    start: int
    count: int = 0
    first: Value | None = None
    last: Value | None = None
    numbers: int = 0
    total: int | float = 0
    least: int | float | None = None
    most: int | float | None = None
    mean: float = 0.0
    squares: float = 0.0  # the sum of squared distances from the mean
    kept: list[int | float] = field(default_factory=list)

    def add(self, value: Value, *, keep: bool) -> None:
        if self.count == 0:
            self.first = value
        self.last = value
        self.count += 1
        if isinstance(value, int | float):
            self._add_number(int(value) if isinstance(value, bool) else value, keep)

    def _add_number(self, number: int | float, keep: bool) -> None:
        self.numbers += 1
        self.total += number
        self.least = number if self.least is None else min(self.least, number)
        self.most = number if self.most is None else max(self.most, number)
        before = number - self.mean
        self.mean += before / self.numbers
        self.squares += before * (number - self.mean)
        if keep:
            self.kept.append(number)

    def percentile(self, share: float) -> float | None:
        if not self.kept:
            return None
        ordered = sorted(self.kept)
        rank = share * (len(ordered) - 1)
        low = math.floor(rank)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


def _mean(window: Window) -> float | None:
    """Of whole numbers exact; the running mean only where the sum is too large for a float."""
    if not window.numbers:
        return None
    mean = window.total / window.numbers
    return mean if math.isfinite(mean) else window.mean


def _stddev(window: Window) -> float | None:
    return math.sqrt(window.squares / (window.numbers - 1)) if window.numbers > 1 else None


AGGREGATIONS: dict[str, Callable[[Window], Any]] = {
    "mean": _mean,
    "sum": lambda window: window.total if window.numbers else None,
    "min": lambda window: window.least,
    "max": lambda window: window.most,
    "count": lambda window: window.count,
    "first": lambda window: window.first,
    "last": lambda window: window.last,
    "stddev": _stddev,
    "p50": lambda window: window.percentile(0.50),
    "p95": lambda window: window.percentile(0.95),
    "p99": lambda window: window.percentile(0.99),
}


def windows(values: Iterable[tuple[int, Value]], length: int, aggregation: str) -> Iterator[Window]:
    """The windows of `length` ms that have values, oldest first, each as soon as it is complete.

    `values` come oldest first. Windows begin at multiples of their length since 1970-01-01T00:00Z,
    those of whole weeks on Mondays.
    """
    keep = aggregation.startswith("p")
    offset = MONDAY if length % WEEK == 0 else 0
    window: Window | None = None
    for time, value in values:
        start = (time - offset) // length * length + offset
        if window is None or window.start != start:
            if window is not None:
                yield window
            window = Window(start)
        window.add(value, keep=keep)
    if window is not None:
        yield window


def result(window: Window, aggregation: str) -> Any:
    """The aggregate as it can be answered: whole numbers within int64, finite floats, or None."""
    value = AGGREGATIONS[aggregation](window)
    if isinstance(value, int) and value not in INT64:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
