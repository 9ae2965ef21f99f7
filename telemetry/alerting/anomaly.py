"""How unusual the value of a window is, by what was usual in its slot of the season before.

A season is a day of hours, or a week of days. What is expected of a window is the level plus what
its slot adds to it; the score is the distance from that in spreads, which are the standard
deviation of the distances, were they normal. All three are exponentially weighted means, and learn
from every window, but never from one as if it were further off than CLIP spreads: so what is
anomalous is not usual the next time, and what stays is in the end. Such bounds to exponential
smoothing are those of Gelper, Fried and Croux, Robust forecasting with exponential and Holt-Winters
smoothing, Journal of Forecasting 29 (2010).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from river.stats import EWMean

from telemetry.alerting.machine import SCORE_MAX, Verdict
from telemetry.windows import DAY, HOUR

SLOTS = {HOUR: 24, DAY: 7}  # in a season, by the length of a window in ms
WARM_UP_SEASONS = 3  # before anything is judged
LEARNED_SEASONS = 14  # of the past, by a rule that is new; what is older weighs next to nothing
LEVEL_FADING, SLOT_FADING, DISTANCE_FADING = 0.05, 0.2, 0.05
CLIP = 3.0
SPREAD_OF_DISTANCE = math.sqrt(math.pi / 2)  # the standard deviation, by the mean of distances
LEAST_SPREAD = 1e-3  # of the level: what hardly moves at all is no anomaly when it does a little
TINY, VALUE_MAX = 1e-9, 1e300


@dataclass(slots=True)
class Usual:
    """What is usual of one measurement of one device, as JSON can hold it.

    `slots` are as many as the season has windows, and None while there was none.
    """

    slots: list[float | None]
    seen: int = 0
    level: float | None = None
    distance: float | None = None

    @classmethod
    def of(cls, length: int, state: Mapping[str, Any] | None) -> Self:
        """Of windows of `length` ms; as `state` says that another was, or knowing nothing."""
        return cls(**state) if state else cls([None] * SLOTS[length])

    @property
    def state(self) -> dict[str, Any]:
        return asdict(self)

    def judge(self, number: int, value: float) -> Verdict | None:
        """The window of this number since 1970, which is then learned from; None in the warm-up.

        Windows come in the order of their times; one that is missing changes nothing.
        """
        value = min(max(value, -VALUE_MAX), VALUE_MAX)  # far enough from overflow
        slot, season = number % len(self.slots), len(self.slots)
        verdict = self._verdict(slot, value)
        if self.seen >= season:
            far = CLIP * verdict.spread
            learned = min(max(value, verdict.expected - far), verdict.expected + far)
        else:
            learned = value
        self._learn(slot, learned)
        return verdict if self.seen > WARM_UP_SEASONS * season else None

    def _verdict(self, slot: int, value: float) -> Verdict:
        level = self.level or 0.0
        expected = level + (self.slots[slot] or 0.0)
        spread = max(SPREAD_OF_DISTANCE * (self.distance or 0.0), LEAST_SPREAD * abs(level), TINY)
        return Verdict(min(abs(value - expected) / spread, SCORE_MAX), expected, spread)

    def _learn(self, slot: int, value: float) -> None:
        added, level = self.slots[slot] or 0.0, self.level
        if level is not None:
            self.distance = _faded(DISTANCE_FADING, self.distance, abs(value - level - added))
            self.slots[slot] = _faded(SLOT_FADING, self.slots[slot], value - level)
        self.level = _faded(LEVEL_FADING, level, value - added)
        self.seen += 1


def _faded(fading: float, mean: float | None, value: float) -> float:
    """The mean after one more value."""
    faded = EWMean(fading)
    for each in (value,) if mean is None else (mean, value):
        faded.update(each)
    return float(faded.get())
