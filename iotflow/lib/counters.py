"""How often things happened in the last minute, hour and day, in all processes together.

A process counts by itself and adds what has gathered to a pipeline that goes to Redis anyway.
There, each window is a row of hashes of a few seconds or minutes each, which expire.
Embedded Redis is private to a process: then these are its own counts, since it began.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from iotflow.lib.metrics import Figure, Labels
from iotflow.lib.redis import key, redis

ADD = """
for i = 1, #KEYS do
    for j = #KEYS + 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[i], ARGV[j], ARGV[j + 1]) end
    redis.call('EXPIRE', KEYS[i], ARGV[i])
end
"""


@dataclass(frozen=True, slots=True)
class Window:
    """The last `seconds`, counted in steps: up to one step more is in its sums."""

    name: str
    seconds: int
    step: int

    def key(self, now: float, steps_ago: int = 0) -> str:
        return key("counts", self.step, int(now // self.step) - steps_ago)

    def keys(self, now: float) -> Iterator[str]:
        return (self.key(now, ago) for ago in range(self.seconds // self.step + 1))


WINDOWS = (
    Window("last_minute", 60, 5),
    Window("last_hour", 3600, 60),
    Window("last_day", 86_400, 900),
)

# Both only grow. Counting takes no lock: of two threads at the very same moment one may go
# uncounted, which a rate can bear. Sending does, so that nothing is sent twice.
_counted: dict[str, int] = {}
_sent: dict[str, int] = {}
_sending = threading.Lock()


def counted() -> dict[str, int]:
    """What this process has counted since it began, by name."""
    return _counted.copy()


def _times(name: str) -> dict[Labels, float]:
    return {(): counted().get(name, 0)}


def _lookups() -> dict[Labels, float]:
    split = {name.partition("."): times for name, times in counted().items()}
    return {(cache, answer): times for (cache, _, answer), times in split.items() if answer}


for _what in ("messages", "readings", "values"):
    Figure(
        f"iotflow_{_what}_total",
        f"{_what.capitalize()} that were stored.",
        (),
        partial(_times, _what),
        kind="counter",
    )
Figure(
    "iotflow_cache_lookups_total",
    "What was looked up in a cache: `hits` it had, `misses` it had not.",
    ("cache", "answer"),
    _lookups,
    kind="counter",
)


def count(name: str, times: int = 1) -> None:
    """It happened; Redis learns of it with the next pipeline that is `sending`."""
    _counted[name] = _counted.get(name, 0) + times


@contextmanager
def sending(pipe: Any) -> Iterator[None]:
    """Add to a pipeline, as one command, what has gathered; what fails inside sends it later."""
    with _sending:
        taken = {
            name: times - _sent.get(name, 0)
            for name, times in _counted.copy().items()
            if times > _sent.get(name, 0)
        }
        _mark(taken, 1)
    if taken:
        now = time.time()
        keys = [window.key(now) for window in WINDOWS]
        lives = [window.seconds + 2 * window.step for window in WINDOWS]
        pipe.eval(ADD, len(keys), *keys, *lives, *(part for item in taken.items() for part in item))
    try:
        yield
    except BaseException:
        with _sending:
            _mark(taken, -1)
        raise


def _mark(taken: Mapping[str, int], sign: int) -> None:
    for name, times in taken.items():
        _sent[name] = _sent.get(name, 0) + sign * times


Step = tuple[int, dict[str, int]]


def steps() -> dict[str, list[Step]]:
    """By window its steps, oldest first: when each began, in s, and `{name: times}`.

    Raises StoreAway. What other processes have counted and not sent yet is missing; they send when
    they commit.
    """
    now = time.time()
    wanted = [name for window in WINDOWS for name in window.keys(now)]
    with redis() as client, client.pipeline(transaction=False) as pipe, sending(pipe):
        for name in wanted:
            pipe.hgetall(name)
        answers = iter(pipe.execute()[-len(wanted) :])
    found: dict[str, list[Step]] = {}
    for window in WINDOWS:
        current = int(now // window.step)
        newest_first = [
            ((current - ago) * window.step, _named(next(answers)))
            for ago, _ in enumerate(window.keys(now))
        ]
        found[window.name] = newest_first[::-1]
    return found


def _named(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(times) for name, times in fields.items()}


def totals() -> dict[str, dict[str, int]]:
    """`{"last_minute": {name: times}, "last_hour": …, "last_day": …}`. Raises StoreAway."""
    return {window: summed(found) for window, found in steps().items()}


def summed(found: Iterable[Step]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for _, times in found:
        sums.update(times)
    return dict(sums)


def hit_rate(counted: Mapping[str, int], cache: str) -> float | None:
    """Of what was looked up in a cache, the share it had; None where nothing was."""
    hits = counted.get(f"{cache}.hits", 0)
    looked = hits + counted.get(f"{cache}.misses", 0)
    return round(hits / looked, 4) if looked else None
