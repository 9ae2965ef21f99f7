import time

import pytest

from iotflow.lib.breaker import SHAKY_SECONDS, Breaker
from iotflow.lib.errors import StoreAway


def failing_call(breaker: Breaker) -> None:
    with breaker.guard():
        raise OSError("no answer")


def test_it_opens_after_failures_in_a_row_and_then_answers_at_once():
    breaker = Breaker("Store", OSError, failures=2, pause=60)
    for _ in range(2):
        with pytest.raises(StoreAway):
            failing_call(breaker)
    ran = False
    with pytest.raises(StoreAway), breaker.guard():
        ran = True
    assert breaker.is_open
    assert not ran


def test_it_closes_when_a_call_after_the_pause_succeeds():
    breaker = Breaker("Store", OSError, failures=1, pause=0)
    with pytest.raises(StoreAway):
        failing_call(breaker)
    with breaker.guard():
        pass
    assert not breaker.is_open


def test_other_errors_pass_through_and_do_not_count():
    breaker = Breaker("Store", OSError, failures=1)
    with pytest.raises(KeyError), breaker.guard():
        raise KeyError
    assert not breaker.is_open


def test_a_failure_that_leaves_no_doubt_opens_it_at_once():
    breaker = Breaker("Store", OSError, failures=3, pause=60)
    breaker.trip(OSError("dead"))
    assert breaker.is_open
    with pytest.raises(StoreAway):
        breaker.admit()


def test_one_call_finds_out_and_no_other_is_let_through_meanwhile():
    breaker = Breaker("Store", OSError, failures=1, pause=0)
    with pytest.raises(StoreAway):
        failing_call(breaker)
    assert not breaker.is_refusing
    with breaker.guard():
        assert breaker.is_refusing
        with pytest.raises(StoreAway), breaker.guard():
            pass
    assert not breaker.is_open


def test_a_trial_that_says_nothing_of_the_store_leaves_the_next_one_to_find_out():
    breaker = Breaker("Store", OSError, failures=1, pause=0)
    with pytest.raises(StoreAway):
        failing_call(breaker)
    with pytest.raises(KeyError), breaker.guard():
        raise KeyError
    assert breaker.is_open
    assert not breaker.is_refusing


def test_a_store_that_failed_or_is_hardly_back_is_shaky(monkeypatch):
    breaker = Breaker("Store", OSError, failures=2, pause=0)
    assert not breaker.is_shaky
    for _ in range(2):
        with pytest.raises(StoreAway):
            failing_call(breaker)
        assert breaker.is_shaky
    with breaker.guard():
        pass
    assert (breaker.is_open, breaker.is_shaky) == (False, True)
    monkeypatch.setattr(time, "monotonic", lambda clock=time.monotonic: clock() + SHAKY_SECONDS)
    assert not breaker.is_shaky
