"""What simulated sensors measure: a day's course, noise with a memory, a battery that runs down.

Pure, and the same again for the same seed: no clock, no network.
"""

import math
import random

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
WARMEST_HOUR = 15
BATTERY_DAYS = 60
NOISE_HOURS = 2.0


class Noise:
    """AR(1) noise over uneven steps: as wide as `deviation`, forgotten over NOISE_HOURS."""

    def __init__(self, source: random.Random, deviation: float) -> None:
        self._source = source
        self._deviation = deviation
        self._value = source.gauss(0, deviation)

    def after(self, hours: float) -> float:
        kept = math.exp(-hours / NOISE_HOURS)
        fresh = self._deviation * math.sqrt(1 - kept * kept)
        self._value = kept * self._value + self._source.gauss(0, fresh)
        return self._value


class Sensor:
    """A sensor of temperature (°C), humidity (%) and its battery (%), `number` of its fleet.

    Its noise begins anew with each day (UTC), so that what it measures on a day does not depend
    on the day the simulation began.
    """

    def __init__(self, seed: int | str, number: int) -> None:
        self._seed = f"{seed}:{number}"
        own = random.Random(self._seed)
        self._mean = 20 + own.uniform(-4, 4)
        self._swing = own.uniform(2, 5)
        self._charged = own.randrange(BATTERY_DAYS * DAY_MS)
        self._day: int | None = None
        self._last = 0

    def measure(self, ms: int) -> dict[str, float]:
        """The measurements at `ms`, which must not be before the last one asked for."""
        day, since_midnight = divmod(ms, DAY_MS)
        if day != self._day:
            self._begin(day)
        hours = (ms - self._last) / HOUR_MS
        self._last = ms
        course = self._swing * math.cos(math.tau * (since_midnight / HOUR_MS - WARMEST_HOUR) / 24)
        temperature = self._mean + course + self._warmth.after(hours)
        humidity = 55 - 2.2 * (temperature - 20) + self._damp.after(hours)
        charge = 100 - 80 * ((ms + self._charged) % (BATTERY_DAYS * DAY_MS)) / (
            BATTERY_DAYS * DAY_MS
        )
        return {
            "temperature": round(temperature, 2),
            "humidity": round(min(max(humidity, 5), 100), 1),
            "battery": round(charge, 1),
        }

    def _begin(self, day: int) -> None:
        source = random.Random(f"{self._seed}:{day}")
        self._warmth = Noise(source, 0.6)
        self._damp = Noise(source, 1.5)
        self._day = day
        self._last = day * DAY_MS


def grid(end_ms: int, days: int, interval_seconds: int) -> range:
    """The times of a history, rising: `days` whole days (UTC) up to the midnight before `end_ms`.

    The same for every `end_ms` of a day.
    """
    midnight = end_ms // DAY_MS * DAY_MS
    return range(midnight - days * DAY_MS, midnight, 1000 * interval_seconds)
