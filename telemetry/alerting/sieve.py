"""What needs no PostgreSQL is told apart in Redis, in the pipeline that writes the latest values.

A hash per device: rule and version → `time:phase:undecided`, the newest value that was settled, the
phase after it, and how many checks are on their way to PostgreSQL. While there are any, all that is
newer follows them there. A value not newer than the one settled is late and dropped; what leaves a
phase as it is needs nothing but its time noted. The hash lives up to HASH_SECONDS from its first
entry: what Redis does not know, PostgreSQL does, and what a process that was killed has left
undecided is forgotten by then.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis
from iotflow.lib.timeparse import now_ms
from telemetry.alerting.book import Check
from telemetry.alerting.machine import Phase, Rule
from telemetry.readings import Place

HASH_SECONDS = 3600
# Keys: the devices' hashes. Arguments: seconds to live; and as JSON for each device its checks, in
# the order of their times: the field, the time, the level, -1 where it takes those before to tell.
# Answers: of those that PostgreSQL has to decide the number, counted through all of them from 0,
# and whether a time was known.
SIFT = """
local due, n = {}, -1
for k, checks in ipairs(cjson.decode(ARGV[2])) do
    local key = KEYS[k]
    for _, check in ipairs(checks) do
        local field, time, level = unpack(check)
        local last, phase, undecided = '', '', 0
        n = n + 1
        local entry = redis.call('HGET', key, field)
        if entry then
            last, phase, undecided = string.match(entry, '^(%-?%d*):(%a*):(%d+)$')
            undecided = tonumber(undecided)
        end
        if last == '' or time > tonumber(last) then
            local stays = (phase == 'normal' and level < 2) or (phase == 'raised' and level > 0)
            if undecided == 0 and level >= 0 and stays then
                last = string.format('%.0f', time)
            else
                undecided = undecided + 1
                due[#due + 1] = n
                due[#due + 1] = last == '' and 0 or 1
            end
            redis.call('HSET', key, field, last .. ':' .. phase .. ':' .. undecided)
        end
    end
    if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ARGV[1]) end
end
return due
"""
# Keys: the devices' hashes. Arguments: as JSON for each device what was decided: the field, how
# many checks of it, the time and the phase then, which hold if nothing later is known; the time is
# 0 where nothing came of them.
SETTLE = """
for k, decided in ipairs(cjson.decode(ARGV[1])) do
    for _, one in ipairs(decided) do
        local field, count, time, phase = unpack(one)
        local entry = redis.call('HGET', KEYS[k], field)
        if entry then
            local last, known, undecided = string.match(entry, '^(%-?%d*):(%a*):(%d+)$')
            if time > 0 and (last == '' or time >= tonumber(last)) then
                last, known = string.format('%.0f', time), phase
            end
            undecided = math.max(0, tonumber(undecided) - count)
            redis.call('HSET', KEYS[k], field, last .. ':' .. known .. ':' .. undecided)
        end
    end
end
"""


class Due(NamedTuple):
    """A check that PostgreSQL decides.

    With `is_noted` Redis waits to be told; without `is_known` nobody there knew of a value before,
    and the store is asked whether it has a newer one.
    """

    check: Check
    is_noted: bool
    is_known: bool


@dataclass(slots=True)
class Sieve:
    """The checks of a group of readings, on their way through Redis."""

    checks: Sequence[Check]
    _asked: list[Check] = field(default_factory=list)
    _place: int = -1

    def add(self, pipe: Any) -> None:
        """Add to a pipeline what is to be asked; nothing where there is nothing."""
        by_device: dict[int, list[Check]] = {}
        for check in sorted(self.checks, key=lambda check: check.reading.time):
            by_device.setdefault(check.reading.device_id, []).append(check)
        if by_device:
            self._asked = [check for checks in by_device.values() for check in checks]
            self._place = len(pipe)
            asked = [[_asked(check) for check in checks] for checks in by_device.values()]
            keys = map(hash_key, by_device)
            pipe.eval(SIFT, len(by_device), *keys, _seconds(), json.dumps(asked))

    def due(self, answers: Sequence[Any]) -> list[Due]:
        """What is left for PostgreSQL, by what the pipeline answered."""
        if not self._asked:
            return []
        numbers = answers[self._place]
        return [
            Due(self._asked[number], is_noted=True, is_known=bool(is_known))
            for number, is_known in zip(numbers[::2], numbers[1::2], strict=True)
        ]

    def unsifted(self) -> list[Due]:
        """All of it, for Redis is away."""
        return [Due(check, is_noted=False, is_known=False) for check in self.checks]


class Decided(NamedTuple):
    """How a rule stands with a device after so many checks that Redis waits for."""

    rule: Rule
    device_id: int
    checks: int
    time: int
    phase: str


def settle(client: Any, decided: Iterable[Decided]) -> None:
    """Tell Redis what was decided."""
    by_device: dict[int, list[Decided]] = {}
    for one in decided:
        by_device.setdefault(one.device_id, []).append(one)
    if by_device:
        told = [
            [(entry(one.rule), one.checks, one.time, Phase(one.phase).value) for one in some]
            for some in by_device.values()
        ]
        client.eval(SETTLE, len(by_device), *map(hash_key, by_device), json.dumps(told))


def forget_all(pipe: Any, places: Collection[Place]) -> None:
    """Add to a pipeline: of these devices PostgreSQL may know what Redis does not."""
    if places:
        pipe.delete(*{hash_key(device_id) for device_id, _ in places})


def forget(rule: Rule, device_id: int) -> None:
    """Know nothing of how a rule stands with a device; what Redis misses lasts for HASH_SECONDS."""
    with suppress(StoreAway), redis() as client:
        client.hdel(hash_key(device_id), entry(rule))


def _seconds() -> int:
    """How long a hash lives: not all that began together end together."""
    return HASH_SECONDS // 2 + now_ms() % (HASH_SECONDS // 2)


def _asked(check: Check) -> tuple[str, int, int]:
    return entry(check.rule), check.reading.time, -1 if check.level is None else check.level


def entry(rule: Rule) -> str:
    return f"{rule.id}.{rule.version}"


def hash_key(device_id: int) -> str:
    return key("alerts", device_id)
