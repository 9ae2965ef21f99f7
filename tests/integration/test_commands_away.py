"""Stores are killed while a device waits for its commands: it is late, and misses none."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections

from tests.api import Answer, Something
from tests.services import eventually, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@contextmanager
def waiting(thing: Something, seconds: int) -> Iterator[list[Answer]]:
    """A device that waits for commands; what it was answered, once it was."""
    answers: list[Answer] = []

    def wait() -> None:
        answers.append(thing.api.get("/devices/commands", wait=seconds))
        connections.close_all()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(1)  # it waits by then
    yield answers
    thread.join(timeout=seconds + 30)
    assert not thread.is_alive()


def give(who: Something, thing: Something) -> Answer:
    return who.api.post(f"/devices/{thing.id}/commands", {"name": "reboot"})


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [one["name"] for one in answer.json["commands"]]


def test_without_redis_it_looks_by_itself(alice, sensor):
    with waiting(sensor, 40) as answers, killed("redis"):
        time.sleep(2)  # that it is away has been noticed
        assert give(alice, sensor).status == 201
        eventually(lambda: bool(answers))
    assert names(answers[0]) == ["reboot"]


def test_without_postgresql_nothing_is_taken_and_it_goes_on_waiting(alice, sensor):
    with waiting(sensor, 40) as answers:
        with killed("postgres"):
            answer = give(alice, sensor)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(3)  # it has looked meanwhile
            assert answers == []
        connections.close_all()  # the test's own, which died with the server
        eventually(lambda: give(alice, sensor).status == 201)
        eventually(lambda: bool(answers))
    assert names(answers[0]) == ["reboot"]
