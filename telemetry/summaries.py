"""What is kept of many values of one measurement: all that its aggregates need but percentiles.

Spread is kept as the sum of squared distances from the mean, which two-pass summing and merging by
Chan, Golub and LeVeque (The American Statistician 37, 1983) keep exact where a plain sum of
squares cancels out. Floats are summed exactly and rounded once (math.fsum, after Shewchuk 1997).
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

from telemetry.readings import Value
from telemetry.windows import DAY, HOUR, Calendar

CHUNK = 10_000
Number = int | float


class Summary(NamedTuple):
    """Values from `start` (ms) on, at least one of them.

    Numbers count as they are and booleans as 0 or 1: `whole` is the sum of the whole ones, `real`
    that of the others, None where there is none. Other values are in `size`, `first` and `last`.
    """

    start: int
    size: int
    numbers: int
    whole: int
    real: float | None
    mean: float
    squares: float
    least: Number | None
    most: Number | None
    first: Value
    last: Value

    @property
    def total(self) -> Number | None:
        """The sum: of whole numbers exact, of others rounded once; it may be infinite."""
        if not self.numbers:
            return None
        if self.real is None:
            return self.whole
        if not self.whole or not math.isfinite(self.real):
            return self.real
        try:
            return float(Fraction(self.whole) + Fraction(self.real))
        except OverflowError:
            return math.inf


def summary(start: int, values: Sequence[Value]) -> Summary:
    """The summary of values in the order of their times; there is at least one."""
    numbers = [value for value in values if isinstance(value, int | float)]
    wholes = [int(number) for number in numbers if not isinstance(number, float)]
    reals = [number for number in numbers if isinstance(number, float)]
    found = Summary(
        start=start,
        size=len(values),
        numbers=len(numbers),
        whole=sum(wholes),
        real=_sum(reals) if reals else None,
        mean=0.0,
        squares=0.0,
        least=_plain(min(numbers)) if numbers else None,
        most=_plain(max(numbers)) if numbers else None,
        first=values[0],
        last=values[-1],
    )
    if not numbers:
        return found
    mean = _mean(found.total, len(numbers), ((1, number) for number in numbers))
    apart = [number - mean for number in numbers]
    rest = _sum(apart)  # what rounding has left in the mean
    squares = _sum(x * x for x in apart) - rest * rest / len(apart)
    return found._replace(mean=mean, squares=max(squares, 0.0))


def merge(parts: Sequence[Summary]) -> Summary:
    """One summary of several, which follow each other in time; it starts where the first does."""
    if len(parts) == 1:
        return parts[0]
    numeric = [part for part in parts if part.numbers]
    reals = [part.real for part in numeric if part.real is not None]
    found = Summary(
        start=parts[0].start,
        size=sum(part.size for part in parts),
        numbers=sum(part.numbers for part in numeric),
        whole=sum(part.whole for part in numeric),
        real=_sum(reals) if reals else None,
        mean=0.0,
        squares=0.0,
        least=min((p.least for p in numeric if p.least is not None), default=None),
        most=max((p.most for p in numeric if p.most is not None), default=None),
        first=parts[0].first,
        last=parts[-1].last,
    )
    if not numeric:
        return found
    mean = _mean(found.total, found.numbers, ((part.numbers, part.mean) for part in numeric))
    squares = _sum(p.squares + p.numbers * (p.mean - mean) * (p.mean - mean) for p in numeric)
    return found._replace(mean=mean, squares=squares)


def by_hour(values: Iterable[tuple[int, Value]], calendar: Calendar) -> Iterator[Summary]:
    """A summary of each hour, and of each part of one that a window's bound cuts off.

    `values` come oldest first, and no more than CHUNK of them are held.
    """
    for start, piece in groupby(values, key=_starts(calendar)):
        yield merge(list(_chunks(start, piece)))


def by_window(pieces: Iterable[Summary], calendar: Calendar) -> Iterator[tuple[int, Summary]]:
    """The starts and the summaries of windows, oldest first, each as soon as it is complete.

    Always by way of whole days (UTC), so that the same comes out of hours and of days.
    """
    held: list[Summary] = []
    start = end = 0
    for piece in pieces:
        if held and piece.start >= end:
            yield start, by_days(held)
            held = []
        if not held:
            start, end = calendar.bounds(piece.start)
        held.append(piece)
    if held:
        yield start, by_days(held)


def by_days(parts: Sequence[Summary]) -> Summary:
    if len(parts) == 1:
        return parts[0]
    days = groupby(parts, key=lambda part: part.start // DAY)
    return merge([merge(list(of_day)) for _, of_day in days])


def dumps(summary: Summary) -> str:
    """As a JSON list, all but its start; integers of any size and infinities are kept."""
    return json.dumps(summary[1:], separators=(",", ":"))


def loads(rows: Iterable[tuple[int, str]]) -> Iterator[Summary]:
    """Summaries from their starts and JSON; many at once cost least."""
    rows = list(rows)
    parts = json.loads(f"[{','.join(text for _, text in rows)}]")
    return (Summary(start, *part) for (start, _), part in zip(rows, parts, strict=True))


def _starts(calendar: Calendar) -> Any:
    """The start of the piece that a (time, value) is in; computed once for each piece."""
    start = end = 0

    def start_of(item: tuple[int, Value]) -> int:
        nonlocal start, end
        time = item[0]
        if not start <= time < end:
            window, window_end = calendar.bounds(time)
            hour = time // HOUR * HOUR
            start, end = max(window, hour), min(window_end, hour + HOUR)
        return start

    return start_of


def _chunks(start: int, items: Iterable[tuple[int, Value]]) -> Iterator[Summary]:
    held: list[Value] = []
    for _, value in items:
        held.append(value)
        if len(held) == CHUNK:
            yield summary(start, held)
            held = []
    if held:
        yield summary(start, held)


def _plain(number: Number) -> Number:
    return int(number) if isinstance(number, bool) else number


def _sum(numbers: Iterable[float]) -> float:
    """The exact sum, rounded once; infinite or NaN where it is too large for a float."""
    held = list(numbers)
    try:
        return math.fsum(held)
    except (OverflowError, ValueError):
        return sum(held)


def _mean(total: Number | None, count: int, parts: Iterable[tuple[int, Number]]) -> float:
    """From the sum, or where that is too large for a float from the parts' (count, mean)."""
    mean = (total or 0) / count
    return mean if math.isfinite(mean) else _sum(number * (n / count) for n, number in parts)
