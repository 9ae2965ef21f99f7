"""How often things happened in the last minute, hour and day, in all processes together.

A process counts by itself and adds what has gathered to a pipeline that goes to Redis anyway.
There, each window is a row of hashes of a few seconds or minutes each, which expire.
Embedded Redis is private to a process: then these are its own counts, since it began.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


def totals() -> dict[str, dict[str, int]]:
    """`{"last_minute": {name: times}, "last_hour": …, "last_day": …}`. Raises StoreAway.

    What other processes have counted and not sent yet is missing; they send when they commit.
    """
    now = time.time()
    wanted = [(window.name, name) for window in WINDOWS for name in window.keys(now)]
    with redis() as client, client.pipeline(transaction=False) as pipe, sending(pipe):
        for _, name in wanted:
            pipe.hgetall(name)
        answers = pipe.execute()[-len(wanted) :]
    sums: dict[str, dict[str, int]] = {window.name: {} for window in WINDOWS}
    for (window_name, _), fields in zip(wanted, answers, strict=True):
        for name, times in fields.items():
            known = sums[window_name]
            known[name.decode()] = known.get(name.decode(), 0) + int(times)
    return sums
