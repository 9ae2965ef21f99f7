"""What a rule makes of one device's values, one after the other: no store, no clock.

A value is a breach, fine, or in the band between: past the threshold's hysteresis and not past the
threshold itself. All times are those of the readings, in ms since 1970; the time of what is summed
up of a window is its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from django.db.models import TextChoices

from telemetry.alerting.weekly import Weekly
from telemetry.readings import Value

AHEAD_MS = 60_000


class Kind(TextChoices):
    """What a rule looks for."""

    ABOVE = "above"
    BELOW = "below"
    OUTSIDE = "outside"  # of the band from `low` to `high`
    RATE = "rate"  # of change, up or down, per second
    FLAPPING = "flapping"  # too many changes in a while
    ABSENCE = "absence"  # of any reading
    ANOMALY = "anomaly"  # a window unlike those before


# Kinds that take the values before one to tell what it is.
RELATIVE = frozenset({Kind.RATE, Kind.FLAPPING})
CHANGES_MAX = 100  # what a rule about flapping may bear, and what is remembered for it
SCORE_MAX = 1_000_000  # of an anomaly


class Level(IntEnum):
    FINE = 0
    BAND = 1
    BREACH = 2


class Phase(TextChoices):
    NORMAL = "normal"
    PENDING = "pending"
    RAISED = "raised"
    CLEARING = "clearing"


class Change(TextChoices):
    """What a step may end in."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as evaluation knows it; `version` is another when it is not the same condition.

    `threshold` is per second where `kind` is a rate, a number of changes `within` so long where it
    is flapping, and the score of a Verdict where it is an anomaly. Times in ms; muted from
    `muted_from` to before `muted_until`, since 1970, and whenever it is `muted_weekly`.
    """

    id: int
    version: int
    owner_id: int
    measurement: str
    kind: str
    threshold: float = 0.0
    low: float = 0.0
    high: float = 0.0
    hysteresis: float = 0.0
    raise_after: int = 0
    clear_after: int = 0
    within: int = 0
    late: int = 300_000
    muted_from: int = 0
    muted_until: int = 0
    muted_weekly: Weekly | None = None

    def level(self, value: float) -> Level:
        """Of a value, a rate, a number of changes or a score, whichever the rule is about."""
        match self.kind:
            case Kind.BELOW:
                return _level(self.threshold - value, self.hysteresis)
            case Kind.OUTSIDE:
                return _level(max(self.low - value, value - self.high), self.hysteresis)
            case _:
                return _level(value - self.threshold, self.hysteresis)

    def takes(self, time: int, arrival: int) -> bool:
        """Whether a reading of `time` that came at `arrival` is looked at: neither old by then,
        nor ahead of the clock, nor of a time when the rule is muted.
        """
        return arrival - self.late <= time <= arrival + AHEAD_MS and not self.is_muted(time)

    def is_muted(self, start: int, end: int | None = None) -> bool:
        """At a time, or at any from one to before another, a day apart at most."""
        end = start + 1 if end is None else end
        if start < self.muted_until and end > self.muted_from:
            return True
        return self.muted_weekly is not None and self.muted_weekly.meets(start, end)


def _level(excess: float, hysteresis: float) -> Level:
    """By how much the threshold is passed; `excess` of nothing is still fine without a band."""
    if excess > 0:
        return Level.BREACH
    return Level.FINE if excess <= -hysteresis else Level.BAND


class Stand(NamedTuple):
    """How a rule stands with a device. `since` is when it began to be pending or to clear; `time`
    and `value` are of the newest value it has seen. `changes`: when the value became another one,
    the newest CHANGES_MAX + 1 times, where the rule is about flapping. `usual`: what it takes for
    usual (telemetry.alerting.anomaly), where it is about anomalies.
    """

    phase: str = Phase.NORMAL
    since: int | None = None
    time: int | None = None
    value: float | None = None
    changes: Sequence[int] = ()
    usual: Mapping[str, Any] | None = None

    def is_late(self, time: int) -> bool:
        return self.time is not None and time <= self.time


class Verdict(NamedTuple):
    """`score`: from 0 to SCORE_MAX, how many times `spread` a value is off what was `expected`."""

    score: float
    expected: float
    spread: float


class Seen(NamedTuple):
    """A value and its time; with the verdict where it is that which the rule looks at."""

    time: int
    value: float
    verdict: Verdict | None = None


class Silence(NamedTuple):
    """When it began, or ended."""

    time: int
    value: None = None
    verdict: None = None


def number(value: Value) -> float | None:
    """A value as rules compare it: numbers, and booleans as 1 and 0; None for anything else."""
    return float(value) if isinstance(value, bool | int | float) else None


def step(rule: Rule, stand: Stand, time: int, value: float) -> tuple[Stand, Change | None]:
    """How the rule stands after a value, and what that changed. A late value changes nothing."""
    if stand.is_late(time):
        return stand, None
    changes = _changes(rule, stand, time, value)
    level = _seen(rule, stand, changes, time, value)
    phase, since, change = moved(rule, stand, level, time)
    return Stand(phase, since, time, value, changes, stand.usual), change


def _seen(rule: Rule, stand: Stand, changes: Sequence[int], time: int, value: float) -> Level:
    """The level of a value that is newer than what was seen before."""
    if rule.kind == Kind.FLAPPING:
        return rule.level(len(changes))
    if rule.kind != Kind.RATE:
        return rule.level(value)
    if stand.time is None or stand.value is None:
        return Level.FINE
    return rule.level(abs(value - stand.value) * 1000 / (time - stand.time))


def _changes(rule: Rule, stand: Stand, time: int, value: float) -> Sequence[int]:
    """When the value became another one, as far as the rule still looks back at `time`."""
    if rule.kind != Kind.FLAPPING:
        return ()
    changes = [change for change in stand.changes if change > time - rule.within]
    if stand.value is not None and value != stand.value:
        changes.append(time)
    return changes[-CHANGES_MAX - 1 :]


def moved(
    rule: Rule, stand: Stand, level: Level, time: int
) -> tuple[str, int | None, Change | None]:
    """The phase after `level` at `time`, since when, and what that changed."""
    if stand.phase in (Phase.NORMAL, Phase.PENDING):
        if level != Level.BREACH:
            return Phase.NORMAL, None, None
        since = time if stand.since is None else stand.since
        if time >= since + rule.raise_after:
            return Phase.RAISED, None, Change.RAISED
        return Phase.PENDING, since, None
    if level != Level.FINE:
        return Phase.RAISED, None, None
    since = time if stand.since is None else stand.since
    if time >= since + rule.clear_after:
        return Phase.NORMAL, None, Change.CLEARED
    return Phase.CLEARING, since, None
