"""Series for charts: few enough points, and gaps that show as gaps."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from telemetry.aggregates import Window
from telemetry.windows import DAY, HOUR, Calendar

# What `window=auto` chooses from: several windows for each point, that peaks may be found among.
MINUTE = 60_000
AUTO = {
    "1m": MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "1h": HOUR,
    "3h": 3 * HOUR,
    "6h": 6 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "7d": 7 * DAY,
    "30d": 30 * DAY,
}
WINDOWS_PER_POINT = 4
BY_MINUTES = 3 * DAY  # longer ranges are read from rollups, which are of hours


def auto_window(span: int, points: int) -> str:
    """The shortest window that gives no more than a few for each point, in a range of `span` ms."""
    least = MINUTE if span <= BY_MINUTES else HOUR
    most = WINDOWS_PER_POINT * points
    fitting = (text for text, length in AUTO.items() if least <= length and span <= most * length)
    return next(fitting, "30d")


def filled(
    windows: Sequence[Window], calendar: Calendar, start: int, stop: int
) -> Iterator[Window]:
    """The windows, and empty ones between them, from `start` to before `stop`."""
    at = calendar.bounds(start)[0]
    for window in windows:
        yield from empty(calendar, at, window.start)
        yield window
        at = calendar.bounds(window.start)[1]
    yield from empty(calendar, at, stop)


def empty(calendar: Calendar, start: int, stop: int) -> Iterator[Window]:
    while start < stop:
        yield Window(start, 0, None)
        start = calendar.bounds(start)[1]


def thinned(
    windows: Sequence[Window], calendar: Calendar, points: int, *, gaps: bool
) -> list[Window]:
    """At most so many of the windows whose value is a number, those that keep the line's shape.

    With `gaps` half of the points are for one empty window wherever some are missing.
    """
    drawn = [window for window in windows if isinstance(window.value, int | float)]
    chosen = largest_triangles(
        [(float(window.start), float(window.value)) for window in drawn],
        points // 2 if gaps else points,
    )
    if not gaps:
        return [drawn[index] for index in chosen]
    found = [drawn[index] for index in chosen[:1]]
    for earlier, later in pairwise(chosen):
        for index in range(earlier, later):
            end = calendar.bounds(drawn[index].start)[1]
            if end < drawn[index + 1].start:
                found.append(Window(end, 0, None))
                break
        found.append(drawn[later])
    return found


def largest_triangles(points: Sequence[tuple[float, float]], most: int) -> list[int]:
    """The indexes of at most so many points that look most like all of them, the ends among them.

    Largest-Triangle-Three-Buckets (Steinarsson, Downsampling Time Series for Visual
    Representation, University of Iceland 2013): of each bucket the point that makes the largest
    triangle with the one chosen before and the middle of the bucket behind.
    """
    if len(points) <= most:
        return list(range(len(points)))
    if most < 3:
        return [0, len(points) - 1][:most]
    size = (len(points) - 2) / (most - 2)
    edges = [1 + int(number * size) for number in range(most - 1)] + [len(points)]
    chosen = [0]
    for first, last, end in zip(edges, edges[1:], edges[2:], strict=False):
        behind = points[last:end]
        middle = (
            sum(x for x, _ in behind) / len(behind),
            sum(y / len(behind) for _, y in behind),
        )
        before = points[chosen[-1]]
        areas = [area(before, points[index], middle) for index in range(first, last)]
        chosen.append(first + areas.index(max(areas)))
    return [*chosen, len(points) - 1]


def area(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Of a triangle, twice."""
    return abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]))
