"""How often things happened in the last minute, hour and day, in all processes together.

A process counts by itself and adds what has gathered to a pipeline that goes to Redis anyway.
There, each window is a row of hashes of a few seconds or minutes each, which expire.
Embedded Redis is private to a process: then these are its own counts, since it began.
"""

import time
from collections.abc import Iterator, Mapping
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

# No lock: of two threads at the very same moment one may go uncounted, which a rate can bear.
_pending: dict[str, int] = {}


def count(name: str, times: int = 1) -> None:
    """It happened; Redis learns of it with the next `add_to`."""
    _pending[name] = _pending.get(name, 0) + times


def add_to(pipe: Any) -> Mapping[str, int]:
    """Add to a pipeline, as one command, what has gathered; give it to `forget` when that went."""
    sent = {name: times for name, times in _pending.copy().items() if times}
    if sent:
        now = time.time()
        keys = [window.key(now) for window in WINDOWS]
        lives = [window.seconds + 2 * window.step for window in WINDOWS]
        counts = [part for item in sent.items() for part in item]
        pipe.eval(ADD, len(keys), *keys, *lives, *counts)
    return sent


def forget(sent: Mapping[str, int]) -> None:
    """Redis has these."""
    for name, times in sent.items():
        count(name, -times)


def totals() -> dict[str, dict[str, int]]:
    """`{"last_minute": {name: times}, "last_hour": …, "last_day": …}`. Raises StoreAway.

    What other processes have counted and not sent yet is missing; they send when they commit.
    """
    now = time.time()
    wanted = [(window.name, name) for window in WINDOWS for name in window.keys(now)]
    with redis() as client, client.pipeline(transaction=False) as pipe:
        sent = add_to(pipe)
        for _, name in wanted:
            pipe.hgetall(name)
        answers = pipe.execute()[-len(wanted) :]
    forget(sent)
    sums: dict[str, dict[str, int]] = {window.name: {} for window in WINDOWS}
    for (window_name, _), fields in zip(wanted, answers, strict=True):
        for name, times in fields.items():
            known = sums[window_name]
            known[name.decode()] = known.get(name.decode(), 0) + int(times)
    return sums
