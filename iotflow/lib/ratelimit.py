"""How much somebody may still do: sliding windows, in Redis, or in this process without it.

A window is kept as what happened in each twentieth of it, so it takes twenty small numbers at most,
however much it lets through. A twentieth is forgotten as a whole, when its beginning is as old as
the window. So whoever keeps to a limit is never refused, and nobody gets more than the limit
within nineteen twentieths of its window.

A flood against that would get its limit in bursts, at the beginning of each window. So what
matters to others is `smooth` instead: the amount may come at once, and is refilled evenly over
the window (a token bucket). Its one number is the time at which it is full again.

Embedded, and while Redis is away, each process counts for itself. The rules are written twice, in
Lua and in Python, and one set of tests holds both.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

from iotflow.lib.errors import StoreAway
from iotflow.lib.rates import Limit, limits
from iotflow.lib.redis import Script, key, redis, shared

PARTS = 20
WINDOWS_MAX = 50_000
SWEEP_MS = 60_000
UNUSED: tuple[float, dict[int, int]] = (0, {})

# For each key four arguments: amount, window in ms, length of a part in ms (0: refilled evenly),
# cost. `take` charges all of a list of keys, or none, and adds to `answer` for each of them what is
# used then, and in ms: how long until the cost fits (0: it does), until all is forgotten, and when
# the part that was charged began. Other scripts begin with this too.
LIMITS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function look_smooth(key, amount, window, cost)
    local full = math.max(now, tonumber(redis.call('GET', key)) or 0)
    local after = full + cost * window / amount
    local wait = math.ceil(math.min(window, math.max(0, after - now - window - 0.1)))
    return {used = math.ceil((full - now) * amount / window - 0.01), wait = wait,
            reset = math.ceil(full - now), full = after}
end

local function look(key, amount, window, cost)
    local fields = redis.call('HGETALL', key)
    local parts, old, used, newest, wait = {}, {}, 0, now - window, 0
    for j = 1, #fields, 2 do
        local start, count = tonumber(fields[j]), tonumber(fields[j + 1])
        if start + window > now then
            used, newest = used + count, math.max(newest, start)
            parts[#parts + 1] = {start, count}
        else
            old[#old + 1] = fields[j]
        end
    end
    local excess = used + cost - amount
    if excess > 0 then
        wait = window
        table.sort(parts, function(a, b) return a[1] < b[1] end)
        for _, part in ipairs(parts) do
            excess = excess - part[2]
            if excess <= 0 then
                wait = part[1] + window - now
                break
            end
        end
    end
    return {used = used, wait = wait, reset = newest + window - now, old = old}
end

local function take(keys, arguments, answer)
    local seen, fits = {}, true
    for i, key in ipairs(keys) do
        local amount, window = tonumber(arguments[4 * i - 3]), tonumber(arguments[4 * i - 2])
        local part, cost = tonumber(arguments[4 * i - 1]), tonumber(arguments[4 * i])
        seen[i] = (part == 0 and look_smooth or look)(key, amount, window, cost)
        fits = fits and seen[i].wait == 0
    end
    for i, key in ipairs(keys) do
        local window, part = tonumber(arguments[4 * i - 2]), tonumber(arguments[4 * i - 1])
        local state, cost, start = seen[i], arguments[4 * i], 0
        if part > 0 then start = now - now % part end
        if fits then
            state.used = state.used + cost
            if part == 0 then
                state.reset = math.ceil(state.full - now)
                local life = math.max(1, state.reset)
                redis.call('SET', key, string.format('%.3f', state.full), 'PX', life)
            else
                state.reset = start + window - now
                if #state.old > 0 then redis.call('HDEL', key, unpack(state.old)) end
                local charged = redis.call('HINCRBY', key, string.format('%.0f', start), cost)
                if charged == tonumber(cost) then redis.call('PEXPIRE', key, window) end  -- new
            end
        end
        answer[#answer + 1] = state.used
        answer[#answer + 1] = state.wait
        answer[#answer + 1] = state.reset
        answer[#answer + 1] = start
    end
    return fits
end
"""
TAKE = Script(
    LIMITS
    + """
local answer = {}
take(KEYS, ARGV, answer)
return answer
"""
)


@dataclass(frozen=True, slots=True)
class Charge:
    """`cost` of the `what` (a plural, for people) that the limits allow `who`."""

    what: str
    who: str
    limits: str
    cost: int = 1
    smooth: bool = False


class State(NamedTuple):
    """How a limit stands after a charge; `reset` and `wait` in seconds."""

    limit: Limit
    what: str
    who: str
    cost: int
    remaining: int
    wait: float  # until the charge fits; 0 where it did
    reset: float  # until all of the limit is there again


class Demand(NamedTuple):
    """A charge to one limit, under the key that counts it."""

    key: str
    limit: Limit
    what: str
    cost: int
    who: str = ""
    smooth: bool = False

    @property
    def window(self) -> int:
        return 1000 * self.limit.seconds

    @property
    def part(self) -> int:
        return 0 if self.smooth else self.window // PARTS


class Outcome(NamedTuple):
    """What a demand met, in ms."""

    used: int
    wait: int
    reset: int
    start: int  # when the part began that was charged; 0 where it is smooth


class Verdict(NamedTuple):
    """What `take` says; what it took, for `give_back`."""

    states: tuple[State, ...]
    taken: tuple[tuple[Demand, int], ...]
    in_redis: bool

    @property
    def refusal(self) -> State | None:
        """The limit that takes longest to let it through; None where it is let through."""
        refusing = [state for state in self.states if state.wait > 0]
        return max(refusing, key=lambda state: state.wait, default=None)


def take(charges: Iterable[Charge]) -> Verdict:
    """Charge all of them, or none where one does not fit: one round trip. Never raises."""
    demands = demands_of(charges)
    if not demands:
        return Verdict((), (), False)
    return verdict(demands, *_take(demands))


def verdict(demands: Sequence[Demand], met: Sequence[Outcome], in_redis: bool) -> Verdict:
    """What the outcomes of the demands mean together."""
    states = tuple(map(_state, demands, met))
    fits = all(outcome.wait == 0 for outcome in met)
    starts = [outcome.start for outcome in met]
    taken = tuple(zip(demands, starts, strict=True)) if fits else ()
    return Verdict(states, taken, in_redis)


def give_back(verdict: Verdict, *whats: str) -> None:
    """Undo its charges of these things. What Redis misses of it counts until it is forgotten."""
    taken = [(demand, start) for demand, start in verdict.taken if demand.what in whats]
    if not verdict.in_redis:
        memory.give_back(taken)
        return
    try:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            for demand, start in taken:
                pipe.hincrby(demand.key, start, -demand.cost)
                pipe.pexpire(demand.key, demand.window)
            pipe.execute()
    except StoreAway:
        pass


def demands_of(charges: Iterable[Charge]) -> list[Demand]:
    return [demand for charge in charges for demand in _demands(charge)]


@lru_cache(maxsize=20_000)
def _demands(charge: Charge) -> tuple[Demand, ...]:
    return tuple(
        Demand(
            key("rate", charge.what.replace(" ", "-"), charge.who, limit.amount, limit.seconds),
            limit,
            charge.what,
            charge.cost,
            charge.who,
            charge.smooth,
        )
        for limit in limits(charge.limits)
    )


def _state(demand: Demand, outcome: Outcome) -> State:
    return State(
        limit=demand.limit,
        what=demand.what,
        who=demand.who,
        cost=demand.cost,
        remaining=max(0, demand.limit.amount - outcome.used),
        wait=outcome.wait / 1000,
        reset=outcome.reset / 1000,
    )


def _take(demands: Sequence[Demand]) -> tuple[list[Outcome], bool]:
    if shared():
        try:
            with redis() as client:
                return take_in_redis(client, demands), True
        except StoreAway:
            pass
    return memory.take(demands, time.monotonic_ns() // 1_000_000), False


def take_in_redis(client: Any, demands: Sequence[Demand]) -> list[Outcome]:
    """One round trip, but for the first after Redis has started."""
    return outcomes(TAKE(client, [demand.key for demand in demands], arguments(demands)))


def arguments(demands: Iterable[Demand]) -> list[int]:
    """What the script's `take` is to know of the demands."""
    flat: list[int] = []
    for demand in demands:
        flat += (demand.limit.amount, demand.window, demand.part, demand.cost)
    return flat


def outcomes(flat: Sequence[int]) -> list[Outcome]:
    """The answer of the script's `take`."""
    return [Outcome(*flat[i : i + 4]) for i in range(0, len(flat), 4)]


class Memory:
    """The same in this process: WINDOWS_MAX of them, the longest unused forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By key: when it is over, and what came in each part. A smooth one has no parts.
        self._windows: OrderedDict[str, tuple[float, dict[int, int]]] = OrderedDict()
        self._next_sweep = 0

    def __len__(self) -> int:
        return len(self._windows)

    def clear(self) -> None:
        with self._lock:
            self._windows.clear()

    def take(self, demands: Sequence[Demand], now: int) -> list[Outcome]:
        """`now` in ms of any clock that only goes forward."""
        with self._lock:
            self._sweep(now)
            outcomes = [self._look(demand, now) for demand in demands]
            if any(outcome.wait for outcome in outcomes):
                return outcomes
            return [
                self._charge(demand, outcome, now)
                for demand, outcome in zip(demands, outcomes, strict=True)
            ]

    def give_back(self, taken: Iterable[tuple[Demand, int]]) -> None:
        with self._lock:
            for demand, start in taken:
                _, counts = self._windows.get(demand.key, UNUSED)
                if start in counts:
                    counts[start] -= demand.cost

    def _look(self, demand: Demand, now: int) -> Outcome:
        return (self._look_smooth if demand.smooth else self._look_at_parts)(demand, now)

    def _look_smooth(self, demand: Demand, now: int) -> Outcome:
        window, amount = demand.window, demand.limit.amount
        full = max(now, self._windows.get(demand.key, UNUSED)[0])
        after = full + demand.cost * window / amount
        wait = ceil(min(window, max(0, after - now - window - 0.1)))  # room for rounding, and below
        return Outcome(ceil((full - now) * amount / window - 0.01), wait, ceil(full - now), 0)

    def _look_at_parts(self, demand: Demand, now: int) -> Outcome:
        window = demand.window
        _, counts = self._windows.get(demand.key, UNUSED)
        for start in [start for start in counts if start + window <= now]:
            del counts[start]
        used = sum(counts.values())
        reset = max(counts, default=now - window) + window - now
        excess = used + demand.cost - demand.limit.amount
        wait = window if excess > 0 else 0
        if excess > 0:
            for start in sorted(counts):
                excess -= counts[start]
                if excess <= 0:
                    wait = start + window - now
                    break
        return Outcome(used, wait, reset, now - now % demand.part)

    def _charge(self, demand: Demand, outcome: Outcome, now: int) -> Outcome:
        end, counts = self._windows.get(demand.key, UNUSED)
        if demand.smooth:
            end = max(now, end) + demand.cost * demand.window / demand.limit.amount
        else:
            end = outcome.start + demand.window
            counts = {**counts, outcome.start: counts.get(outcome.start, 0) + demand.cost}
        self._windows[demand.key] = end, counts
        self._windows.move_to_end(demand.key)
        return outcome._replace(used=outcome.used + demand.cost, reset=ceil(end - now))

    def _sweep(self, now: int) -> None:
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_MS
            over = [name for name, (end, _) in self._windows.items() if end <= now]
            for name in over:
                del self._windows[name]
        while len(self._windows) > WINDOWS_MAX:
            self._windows.popitem(last=False)


memory = Memory()
