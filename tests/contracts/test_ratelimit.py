"""The rules of tests/lib/test_ratelimit.py, in Lua: on Redis, or on what is embedded for it."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from iotflow.lib import ratelimit
from iotflow.lib.ratelimit import PARTS, Demand, take_in_redis
from iotflow.lib.rates import Limit
from iotflow.lib.redis import redis


@pytest.fixture
def client():
    with redis() as client:
        yield client


def demand(amount: int = 3, seconds: int = 1, cost: int = 1, key: str = "") -> Demand:
    return Demand(f"test:{key or uuid.uuid4()}", Limit(amount, seconds), "things", cost)


def test_the_limit_is_let_through_and_no_more_until_it_says(client):
    wanted = demand()
    outcomes = [take_in_redis(client, [wanted])[0] for _ in range(4)]
    assert [outcome.used for outcome in outcomes] == [1, 2, 3, 3]
    assert [outcome.wait for outcome in outcomes[:3]] == [0, 0, 0]
    assert 900 <= outcomes[3].wait <= 1000
    assert 900 <= outcomes[3].reset <= 1000
    time.sleep(outcomes[3].wait / 1000 - 0.2)
    assert take_in_redis(client, [wanted])[0].wait > 0
    time.sleep(0.25)
    assert take_in_redis(client, [wanted])[0].wait == 0


def test_a_refusal_waits_for_as_much_as_is_needed(client):
    key = str(uuid.uuid4())
    take_in_redis(client, [demand(key=key, cost=2)])
    time.sleep(0.4)
    take_in_redis(client, [demand(key=key)])
    one = take_in_redis(client, [demand(key=key)])[0].wait
    three = take_in_redis(client, [demand(key=key, cost=3)])[0].wait
    assert 350 <= three - one <= 500
    assert take_in_redis(client, [demand(key=key, cost=4)])[0].wait == 1000  # never


def test_a_smooth_one_is_refilled_evenly(client):
    wanted = demand(20, 2)._replace(smooth=True)
    outcomes = [take_in_redis(client, [wanted])[0] for _ in range(20)]
    assert [outcome.wait for outcome in outcomes] == [0] * 20
    assert outcomes[0].used == 1
    assert 0 < client.pttl(wanted.key) <= 2000
    begun, admitted = time.monotonic(), []
    while time.monotonic() < begun + 1:
        [outcome] = take_in_redis(client, [wanted])
        assert outcome.wait <= 100
        assert outcome.reset <= 2000
        if outcome.wait == 0:
            admitted.append(time.monotonic() - begun)
        time.sleep(0.005)
    assert 8 <= len(admitted) <= 12
    assert sum(moment > 0.5 for moment in admitted) >= 4
    never = take_in_redis(client, [wanted._replace(cost=21)])[0].wait
    assert 1000 < never <= 2000  # what was used meanwhile is being refilled


def test_a_smooth_one_and_another_are_charged_both_or_neither(client):
    smooth, other = demand(5)._replace(smooth=True), demand(1)
    assert [o.used for o in take_in_redis(client, [smooth, other])] == [1, 1]
    assert [o.wait > 0 for o in take_in_redis(client, [smooth, other])] == [False, True]
    assert take_in_redis(client, [smooth])[0].used <= 2


def test_all_are_charged_or_none(client):
    small, large = demand(1), demand(10)
    assert [o.wait for o in take_in_redis(client, [small, large])] == [0, 0]
    refused = take_in_redis(client, [small, large])
    assert refused[0].wait > 0
    assert (refused[1].used, refused[1].wait) == (1, 0)
    assert take_in_redis(client, [large])[0].used == 2


def test_a_window_takes_few_numbers_and_expires(client):
    wanted = demand(1000)
    for _ in range(2 * PARTS + 5):
        take_in_redis(client, [wanted])
        time.sleep(1 / PARTS)
    assert client.hlen(wanted.key) <= PARTS
    assert 0 < client.pttl(wanted.key) <= 1000


def test_at_once_no_more_than_the_limit_gets_through(client):
    wanted = demand(10, 60)
    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(lambda _: take_in_redis(client, [wanted])[0], range(100)))
    assert sum(outcome.wait == 0 for outcome in outcomes) == 10


def test_a_charge_is_given_back(settings, client):
    settings.REDIS_EMBEDDED = False  # counted in Redis, whichever
    charge = ratelimit.Charge("things", "somebody", "1/min")
    first = ratelimit.take([charge])
    assert first.refusal is None
    assert first.in_redis
    assert ratelimit.take([charge]).refusal is not None
    ratelimit.give_back(first, "other things")
    assert ratelimit.take([charge]).refusal is not None
    ratelimit.give_back(first, "things")
    assert ratelimit.take([charge]).refusal is None
    assert ratelimit.take([charge]).refusal is not None
    assert 0 < client.ttl(first.taken[0][0].key) <= 60


def test_redis_may_forget_the_script(client):
    wanted = demand(2)
    take_in_redis(client, [wanted])
    client.script_flush()
    assert take_in_redis(client, [wanted])[0].used == 2
