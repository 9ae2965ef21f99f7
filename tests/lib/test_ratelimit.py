"""Sliding windows, as they are counted in the process: time is given, nothing waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib import ratelimit
from iotflow.lib.address import network
from iotflow.lib.ratelimit import PARTS, Demand, Memory
from iotflow.lib.rates import Limit, limits

START = 1_000_000


def demand(amount: int = 3, seconds: int = 2, cost: int = 1, key: str = "a") -> Demand:
    return Demand(key, Limit(amount, seconds), "things", cost)


def fits(memory: Memory, wanted: Demand, now: int) -> bool:
    [outcome] = memory.take([wanted], START + now)
    return outcome.wait == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ", []),
        ("50/s", [(50, 1)]),
        ("100/2s, 10000/min", [(100, 2), (10_000, 60)]),
        ("10/15min", [(10, 900)]),
        ("60 / h", [(60, 3600)]),
        ("1/31d", [(1, 31 * 86_400)]),
    ],
)
def test_limits_are_read_from_text(text, expected):
    assert [(limit.amount, limit.seconds) for limit in limits(text)] == expected


@pytest.mark.parametrize(
    "text", ["50", "s", "0/s", "1/0s", "-1/s", "1/year", "1/32d", "1/s,", ",", "1/s;2/min", "1.5/s"]
)
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(ValueError, match=r"no limit|out of bounds"):
        limits(text)


def test_the_limit_is_let_through_and_no_more_until_it_is_a_window_old():
    memory = Memory()
    assert [fits(memory, demand(), now) for now in (0, 100, 200, 300, 1999)] == [True] * 3 + [
        False
    ] * 2
    assert fits(memory, demand(), 2000)
    assert not fits(memory, demand(), 2099)
    assert fits(memory, demand(), 2100)


def test_a_refusal_says_when_it_fits_and_then_it_does():
    memory = Memory()
    for now in (0, 500, 700):
        memory.take([demand()], START + now)
    [outcome] = memory.take([demand(cost=2)], START + 1000)
    assert outcome.used == 3
    assert outcome.wait == 1500  # the first two are gone, both
    assert not fits(memory, demand(cost=2), 1000 + 1499)
    assert fits(memory, demand(cost=2), 1000 + 1500)


def test_what_never_fits_waits_a_window_for_nothing():
    memory = Memory()
    [outcome] = memory.take([demand(cost=4)], START)
    assert (outcome.used, outcome.wait) == (0, 2000)
    assert not fits(memory, demand(cost=4), 9000)


def test_all_are_charged_or_none():
    memory = Memory()
    small, large = demand(1, key="small"), demand(10, key="large")
    assert [outcome.wait for outcome in memory.take([small, large], START)] == [0, 0]
    refused = memory.take([small, large], START + 1)
    assert refused[0].wait == 1999
    assert refused[1] == (1, 0, 1999, refused[1].start)
    assert memory.take([large], START + 2)[0].used == 2


def test_what_is_given_back_does_not_count():
    memory = Memory()
    [outcome] = memory.take([demand(1)], START)
    assert not fits(memory, demand(1), 1)
    memory.give_back([(demand(1), outcome.start)])
    assert fits(memory, demand(1), 2)
    memory.give_back([(demand(1), 0)])  # of a part that is forgotten
    assert not fits(memory, demand(1), 3)


def test_what_is_over_takes_no_memory(monkeypatch):
    memory = Memory()
    for n in range(100):
        memory.take([demand(key=f"device {n}")], START)
    assert len(memory) == 100
    memory.take([demand(key="another")], START + ratelimit.SWEEP_MS)
    assert len(memory) == 1
    monkeypatch.setattr(ratelimit, "WINDOWS_MAX", 10)
    for n in range(100):
        memory.take([demand(key=f"device {n}")], START + ratelimit.SWEEP_MS)
    assert len(memory) <= 11


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(1, 4)), max_size=80), st.integers(1, 6))
def test_it_is_as_exact_as_a_list_of_all_times(steps, amount):
    """Whoever keeps to the limit gets through; nobody gets more within 19 parts of the window."""
    memory, window, now, let_through = Memory(), 2000, 0, []
    for pause, cost in steps:
        now += pause
        used = sum(c for time, c in let_through if time > now - window)
        used_lately = sum(c for time, c in let_through if time > now - window + window // PARTS)
        admitted = fits(memory, demand(amount, 2, cost), now)
        if used + cost <= amount:
            assert admitted
        if used_lately + cost > amount:
            assert not admitted
        if admitted:
            let_through.append((now, cost))


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_client_is_its_network(address, counted):
    assert network(address) == counted
