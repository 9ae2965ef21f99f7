"""Ways in which devices behave: what one sends, and when.

A profile is asked once at each turn of its device and says what is sent then. It counts turns and
draws from the seed, so the same seed does the same at the same turns, whatever the server answers.
Pure: no clock, no network. A new one is a class here, and its row in docs/simulation.md.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from iotflow.lib.batches import batched
from telemetry.simulation import Sensor

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


class Sample(NamedTuple):
    """What was measured: the `number`th of its device, at `time` in ms by the device's own clock.

    None where the server is to give the time. No time comes twice for a device.
    """

    number: int
    time: int | None
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Call:
    """A message: one sample, or a batch of them. `is_keyed`: under an Idempotency-Key.

    `is_again`: the one of this number, which was sent before, once more.
    """

    number: int
    samples: tuple[Sample, ...]
    is_batch: bool = False
    is_keyed: bool = False
    is_again: bool = False


class Profile:
    """A device's way. `number`: its place in the fleet; `place`: among those of its profile."""

    about: ClassVar[str]
    at_once: ClassVar[int] = 1  # calls of a turn that may be under way together

    def __init__(self, seed: int | str, number: int, place: int = 0) -> None:
        self.choice = random.Random(f"{seed}:{number}:{type(self).__name__}")
        self.place = place
        self.turn = 0
        self._sensor = Sensor(seed, number)
        self._time = 0
        self._samples = 0
        self._calls = 0
        self.begin()

    def begin(self) -> None:
        """What is drawn before the first turn."""

    def take_turn(self, now: int) -> Sequence[Call]:
        """The calls of the next turn, at `now` in ms, which never falls."""
        self.turn += 1
        return self.calls(now)

    def calls(self, now: int) -> Sequence[Call]:
        """The calls of this turn."""
        raise NotImplementedError

    def rest(self) -> Sequence[Call]:
        """What the device still holds when the simulation ends."""
        return []

    def measure(self, now: int) -> Sample:
        """A sample of now, or of a millisecond past the last one."""
        self._time = max(self._time + 1, now)
        self._samples += 1
        return Sample(self._samples, self._time, self._sensor.measure(self._time))

    def call(self, *samples: Sample, is_batch: bool = False, is_keyed: bool = False) -> Call:
        self._calls += 1
        return Call(self._calls, samples, is_batch, is_keyed)


class Normal(Profile):
    about = "a reading each turn"

    def calls(self, now: int) -> Sequence[Call]:
        return [self.call(self.measure(now))]


class Outage(Profile):
    """Silence for 10 to 40 turns, then what was kept meanwhile, oldest first, in batches."""

    about = "silent for a while, then what it kept, with its own times, in batches"
    BATCH = 20

    def begin(self) -> None:
        self._kept: list[Sample] = []
        self._silent_from = self.choice.randint(3, 10)
        self._silent_to = self._silent_from + self.choice.randint(10, 40)

    def calls(self, now: int) -> Sequence[Call]:
        if self.turn < self._silent_from:
            return [self.call(self.measure(now))]
        self._kept.append(self.measure(now))
        if self.turn < self._silent_to:
            return []
        self._silent_from = self.turn + self.choice.randint(10, 30)
        self._silent_to = self._silent_from + self.choice.randint(10, 40)
        return self.rest()

    def rest(self) -> Sequence[Call]:
        kept, self._kept = self._kept, []
        return [self.call(*some, is_batch=True) for some in batched(kept, self.BATCH)]


class Drift(Profile):
    """The error of one measurement grows by each turn to 20 to 40 units in 100 to 300 turns; then
    the sensor is replaced, and the next one begins.
    """

    about = "one measurement leaves its usual range slowly"
    NAMES = ("temperature", "humidity")

    def begin(self) -> None:
        self._name = self.choice.choice(self.NAMES)
        self._begun = self.turn
        self._turns = self.choice.randint(100, 300)
        self._error = self.choice.choice((-1, 1)) * self.choice.uniform(20, 40)

    def calls(self, now: int) -> Sequence[Call]:
        if self.turn > self._begun + self._turns:
            self.begin()
        sample = self.measure(now)
        error = self._error * (self.turn - self._begun) / self._turns
        moved = {**sample.values, self._name: round(sample.values[self._name] + error, 2)}
        return [self.call(sample._replace(values=moved))]


class Burst(Profile):
    """50 to 300 readings at once every 15 to 40 turns: at times more than a device may send."""

    about = "many readings at once, at times beyond the rate limit"
    at_once = 8

    def begin(self) -> None:
        self._next = self.choice.randint(3, 8)

    def calls(self, now: int) -> Sequence[Call]:
        if self.turn < self._next:
            return [self.call(self.measure(now))]
        self._next = self.turn + self.choice.randint(15, 40)
        size = self.choice.randint(50, 300)
        # Since the turn before, and at its own time each.
        step = max(1, (now - self._time) // size) if self._time else 1
        return [self.call(self.measure(now - step * left)) for left in reversed(range(size))]


class ClockSkew(Profile):
    """A clock that is set wrong at each start, every 5 to 15 turns: some minutes or some hours
    behind, some minutes ahead, or more than the server takes (CLOCK_SKEW_SECONDS).
    """

    about = "clocks minutes to hours off, ahead and behind"
    ERRORS_MS = (
        (MINUTE_MS, 9 * MINUTE_MS),
        (15 * MINUTE_MS, 6 * HOUR_MS),
        (-50 * MINUTE_MS, -MINUTE_MS),
        (-6 * HOUR_MS, -HOUR_MS),
    )

    def begin(self) -> None:
        self._errors = [self.choice.randint(*bounds) for bounds in self.ERRORS_MS]
        self._times = [0] * len(self._errors)
        self._clock = self.choice.randrange(len(self._errors))
        self._until = self.choice.randint(5, 15)

    def calls(self, now: int) -> Sequence[Call]:
        if self.turn > self._until:
            self._clock = (self._clock + self.choice.randint(1, 3)) % len(self._errors)
            self._until = self.turn + self.choice.randint(5, 15)
        sample = self.measure(now)
        return [self.call(sample._replace(time=self._shown(now)))]

    def _shown(self, now: int) -> int:
        """The time by the present clock; each has its own remainder, so that none comes twice."""
        count, clock = len(self._errors), self._clock
        shown = (now + self._errors[clock]) // count * count + clock
        self._times[clock] = max(self._times[clock] + count, shown)
        return self._times[clock]


class Duplicates(Profile):
    """Two of three messages are sent twice: at the same moment, or up to 10 turns later.

    Every other device has no clock: its messages are told apart by an Idempotency-Key.
    """

    about = "the same message again, with its time or its Idempotency-Key"
    at_once = 2

    def begin(self) -> None:
        self._again: list[tuple[int, Call]] = []

    def calls(self, now: int) -> Sequence[Call]:
        sample = self.measure(now)
        is_keyed = self.place % 2 == 1
        call = self.call(sample._replace(time=None) if is_keyed else sample, is_keyed=is_keyed)
        once_more = replace(call, is_again=True)
        due = [again for turn, again in self._again if turn <= self.turn]
        self._again = [waiting for waiting in self._again if waiting[0] > self.turn]
        match self.choice.choice(("once", "at once", "later")):
            case "at once":
                return [*due, call, once_more]
            case "later":
                self._again.append((self.turn + self.choice.randint(1, 10), once_more))
        return [*due, call]

    def rest(self) -> Sequence[Call]:
        return [again for _, again in self._again]


class OutOfOrder(Profile):
    """Each reading is up to 12 turns on its way, and what arrives together is shuffled."""

    about = "readings arrive in another order than they were taken"

    def begin(self) -> None:
        self._held: list[tuple[int, Call]] = []

    def calls(self, now: int) -> Sequence[Call]:
        self._held.append((self.turn + self.choice.randint(0, 12), self.call(self.measure(now))))
        due = [call for turn, call in self._held if turn <= self.turn]
        self._held = [waiting for waiting in self._held if waiting[0] > self.turn]
        self.choice.shuffle(due)
        return due

    def rest(self) -> Sequence[Call]:
        calls = [call for _, call in self._held]
        self.choice.shuffle(calls)
        return calls


PROFILES: dict[str, type[Profile]] = {
    "normal": Normal,
    "outage": Outage,
    "drift": Drift,
    "burst": Burst,
    "clock-skew": ClockSkew,
    "duplicates": Duplicates,
    "out-of-order": OutOfOrder,
}


def within(calls: Sequence[Call], left: int) -> list[Call]:
    """The calls, as far as they bring no more than `left` samples that were not sent before."""
    kept = []
    for call in calls:
        if not call.is_again:
            if left <= 0:
                break
            call = replace(call, samples=call.samples[:left])
            left -= len(call.samples)
        kept.append(call)
    return kept


def fresh(calls: Sequence[Call]) -> int:
    """How many samples the calls bring that were not sent before."""
    return sum(len(call.samples) for call in calls if not call.is_again)
