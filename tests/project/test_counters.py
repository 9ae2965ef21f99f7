"""Counting, and sending what was counted, once."""

import threading

import pytest

from iotflow.lib import counters
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import redis


@pytest.fixture(autouse=True)
def counted_from_zero(monkeypatch):
    monkeypatch.setattr(counters, "_counted", {})
    monkeypatch.setattr(counters, "_sent", {})


def minute() -> dict[str, int]:
    return counters.totals()["last_minute"]


def test_what_was_sent_is_not_sent_again():
    counters.count("a")
    counters.count("b", 5)
    assert minute() == {"a": 1, "b": 5}
    assert minute() == {"a": 1, "b": 5}
    counters.count("a")
    assert minute() == {"a": 2, "b": 5}


def test_what_could_not_be_sent_is_sent_later():
    counters.count("a", 3)
    with (
        pytest.raises(StoreAway),
        redis() as client,
        client.pipeline(transaction=False) as pipe,
        counters.sending(pipe),
    ):
        raise StoreAway("Redis")
    assert minute() == {"a": 3}


def test_senders_at_the_same_time_send_everything_once():
    counters.count("a", 100)

    def send() -> None:
        for _ in range(20):
            counters.totals()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert minute() == {"a": 100}
