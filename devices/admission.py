"""Whether devices' requests go ahead: their keys are still good, and their limits allow them.

For keys that this process knows (devices.key_cache) this is one round trip to Redis, for any number
of requests together. What cannot be decided so goes the long way: authentication asks Redis and the
database, throttles charge.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from devices import key_cache
from devices.key_cache import Known
from iotflow.lib import json
from iotflow.lib.ratelimit import (
    LIMITS,
    Charge,
    Demand,
    Verdict,
    arguments,
    demands_of,
    outcomes,
    verdict,
)
from iotflow.lib.redis import Script, redis

CLOCK_SECONDS = 3600
# Keys: the lease; of each claim the mark, the clock and the hash ("" for none), then its limits.
# Arguments: how long a clock is kept; and as JSON, for that is one argument instead of a dozen for
# each: of each claim the mark that is expected, the earliest time its clock may give, and what
# `take` is to know of its limits.
# Answers: how many ms the lease still lasts, and nothing else where there is none; of each claim 0
# where the mark is another one, else the time, what its limits say, and the hash. A claim that its
# limits refuse gets neither.
ADMIT = Script(
    LIMITS
    + """
local lease = redis.call('PTTL', KEYS[1])
if lease <= 0 then return {lease} end

local function give(clock, earliest)
    local last = tonumber(redis.call('GET', clock) or '0')
    local time = math.max(earliest, last + 1)
    local given = string.format('%.0f', time + time % 2)  -- even: see telemetry.clock
    redis.call('SET', clock, given, 'EX', ARGV[1])
    return given
end

local answers, k = {lease}, 2
for n, claim in ipairs(cjson.decode(ARGV[2])) do
    local mark, earliest, limits = unpack(claim)
    local last = k + 2 + #limits / 4
    if redis.call('GET', KEYS[k]) == mark then
        local given, states, hash = '', {}, {}
        if take({unpack(KEYS, k + 3, last)}, limits, states) then
            if KEYS[k + 1] ~= '' then given = give(KEYS[k + 1], earliest) end
            if KEYS[k + 2] ~= '' then hash = redis.call('HGETALL', KEYS[k + 2]) end
        end
        answers[n + 1] = {given, states, hash}
    else
        answers[n + 1] = 0
    end
    k = last + 1
end
return answers
"""
)


class Claim(NamedTuple):
    """A request by a key that this process knows, and what it is charged.

    `clock` is where a time is given that is never the same twice, `earliest` in ms; `hash` what is
    read with it.
    """

    digest: str
    known: Known
    demands: Sequence[Demand]
    clock: str = ""
    earliest: int = 0
    hash: str = ""


class Admission(NamedTuple):
    """Whether the limits let a claim through, the time it was given and the hash it asked for."""

    verdict: Verdict
    time: int | None
    hash: dict[bytes, bytes]


def claim(digest: str, known: Known, charges: Iterable[Charge], **wanted: Any) -> Claim:
    return Claim(digest, known, demands_of(charges), **wanted)


def admit(claims: Sequence[Claim]) -> list[Admission | None]:
    """Charge each claim whose key is still good; None for one that has to go the long way.

    Raises StoreAway.
    """
    keys: list[str] = [key_cache.lease_key()]
    for one in claims:
        keys += (key_cache.mark_key(one.digest), one.clock, one.hash)
        keys += [demand.key for demand in one.demands]
    asked = json.dumps([(one.known.mark, one.earliest, arguments(one.demands)) for one in claims])
    with redis() as client:
        lease, *answers = ADMIT(client, keys, [CLOCK_SECONDS, asked])
    key_cache.lease_lasts(lease)
    if not answers:
        return [None] * len(claims)
    return [_admission(one, answer) for one, answer in zip(claims, answers, strict=True)]


def _admission(one: Claim, answer: Any) -> Admission | None:
    if answer == 0:
        key_cache.known.forget(one.digest)
        return None
    time, flat, fields = answer
    return Admission(
        verdict(one.demands, outcomes(flat), in_redis=True),
        int(time) if time else None,
        dict(zip(fields[::2], fields[1::2], strict=True)),
    )
