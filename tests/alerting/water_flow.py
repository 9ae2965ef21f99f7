"""What rules find in samples/water-flow.csv, whose four anomalous stretches are known."""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import fmean, pstdev
from typing import NamedTuple

from iotflow.lib.timeparse import to_ms
from telemetry.alerting.anomaly import WARM_UP_SEASONS, Usual
from telemetry.alerting.machine import Change, Kind, Rule, Seen, Stand, step
from telemetry.windows import HOUR

SAMPLE = Path("samples/water-flow.csv")
# Rows of data, from 1, the first and the last of each: as river's WaterFlow data set has them.
STRETCHES = ((94, 111), (195, 212), (213, 225), (873, 888))
WARM_UP = WARM_UP_SEASONS * 24  # rows that none of the rules is asked about


def flow() -> list[Seen]:
    """Each hour by its end."""
    with SAMPLE.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [Seen(to_ms(datetime.fromisoformat(time)) + HOUR, float(value)) for time, value in rows]


def judged(hours: Iterable[Seen]) -> list[Seen]:
    """With their verdicts, by a model that learns from one after the other."""
    usual = Usual.of(HOUR, None)
    return [one._replace(verdict=usual.judge(one.time // HOUR, one.value)) for one in hours]


def alerts(rule: Rule, hours: Iterable[Seen]) -> list[tuple[int, int | None]]:
    """When the rule raises and clears, after the warm-up."""
    found: list[tuple[int, int | None]] = []
    stand = Stand()
    for one in list(hours)[WARM_UP:]:
        compared = one.verdict.score if one.verdict else one.value
        stand, change = step(rule, stand, one.time, compared)
        if change == Change.RAISED:
            found.append((one.time, None))
        elif change == Change.CLEARED:
            found[-1] = found[-1][0], one.time
    return found


class Line(NamedTuple):
    """Of the table in docs/alerts.md: false alerts are those that were open in no stretch."""

    rule: str
    found: int
    hours_until: int | None  # until the last of those that were found was
    false: int
    ordinary: int  # hours that belong to no stretch

    def __str__(self) -> str:
        late = "–" if self.hours_until is None else self.hours_until
        rate = f"{1000 * self.false / self.ordinary:.1f}"
        return f"| {self.rule} | {self.found} of 4 | {late} | {self.false} | {rate} |"


def line(name: str, rule: Rule, hours: list[Seen]) -> Line:
    spans = [(hours[first - 1].time, hours[last - 1].time) for first, last in STRETCHES]
    raised = alerts(rule, hours)

    def overlaps(alert: tuple[int, int | None], span: tuple[int, int]) -> bool:
        return alert[0] <= span[1] and (alert[1] is None or alert[1] > span[0])

    delays = [
        min(max(0, alert[0] - span[0]) for alert in raised if overlaps(alert, span)) // HOUR
        for span in spans
        if any(overlaps(alert, span) for alert in raised)
    ]
    false = sum(not any(overlaps(alert, span) for span in spans) for alert in raised)
    in_stretches = sum(last - first + 1 for first, last in STRETCHES)
    ordinary = len(hours) - WARM_UP - in_stretches
    return Line(name, len(delays), max(delays, default=None), false, ordinary)


def table() -> Iterator[Line]:
    hours = flow()
    inside = {row for first, last in STRETCHES for row in range(first, last + 1)}
    first = [one.value for one in hours[:WARM_UP]]
    ordinary = [one.value for row, one in enumerate(hours, 1) if row not in inside]
    scored = judged(hours)
    for score in (4, 6, 8):
        of = Rule(1, 0, 1, "flow", Kind.ANOMALY, threshold=score)
        yield line(f"`anomaly`, score above {score}", of, scored)
    mean, spread = fmean(first), pstdev(first)
    bands = (
        (
            "mean ± 3 standard deviations of the first three days",
            mean - 3 * spread,
            mean + 3 * spread,
        ),
        ("all that was ordinary, known in hindsight", min(ordinary), max(ordinary)),
    )
    for name, low, high in bands:
        of = Rule(1, 0, 1, "flow", Kind.OUTSIDE, low=low, high=high)
        yield line(f"`outside` {low:.1f} to {high:.1f}: {name}", of, hours)
