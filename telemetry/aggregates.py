"""Aggregates of one measurement over windows of time.

A number counts as it is and a boolean as 0 or 1; other values count for `count`, `first` and
`last` only. Standard deviation is that of a sample (n - 1); a percentile lies between the two
nearest ranks (type 7 of Hyndman and Fan, The American Statistician 50, 1996).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from iotflow.lib.json import INT64
from telemetry.readings import Value
from telemetry.summaries import Summary, by_window
from telemetry.windows import Calendar


class Window(NamedTuple):
    """A window that has `size` values, from `start` (ms) on, and their aggregate as it is answered:
    a whole number within int64, a finite float, what was measured, or None.
    """

    start: int
    size: int
    value: Any


def _mean(of: Summary) -> float | None:
    """Of whole numbers exact; the running mean only where the sum is too large for a float."""
    if not of.numbers:
        return None
    mean = (of.total or 0) / of.numbers
    return mean if math.isfinite(mean) else of.mean


def _stddev(of: Summary) -> float | None:
    return math.sqrt(of.squares / (of.numbers - 1)) if of.numbers > 1 else None


FROM_SUMMARIES: dict[str, Callable[[Summary], Any]] = {
    "mean": _mean,
    "sum": lambda of: of.total,
    "min": lambda of: of.least,
    "max": lambda of: of.most,
    "count": lambda of: of.size,
    "first": lambda of: of.first,
    "last": lambda of: of.last,
    "stddev": _stddev,
}
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
AGGREGATIONS = (*FROM_SUMMARIES, *PERCENTILES)


def of_summaries(
    pieces: Iterable[Summary], calendar: Calendar, aggregation: str
) -> Iterator[Window]:
    """The windows that have values, oldest first, each as soon as it is complete.

    The pieces come oldest first, and none crosses the bound of a window.
    """
    aggregate = FROM_SUMMARIES[aggregation]
    for start, found in by_window(pieces, calendar):
        yield Window(start, found.size, _answerable(aggregate(found)))


def of_values(
    values: Iterable[tuple[int, Value]], calendar: Calendar, aggregation: str
) -> Iterator[Window]:
    """The same for a percentile, which takes every value there is; oldest first."""
    share = PERCENTILES[aggregation]
    for start, inside in groupby(values, key=lambda item: calendar.bounds(item[0])[0]):
        held = [value for _, value in inside]
        numbers = sorted(value for value in held if isinstance(value, int | float))
        yield Window(start, len(held), _answerable(_percentile(numbers, share)))


def _percentile(ordered: list[int | float], share: float) -> float | None:
    if not ordered:
        return None
    rank = share * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


def _answerable(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
