"""The group committer: many submissions, few writes, and each its own answer."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from devices.authentication import find_device
from iotflow.lib.errors import StoreAway
from telemetry import ingest
from telemetry.ingest import Submission
from telemetry.readings import HistoryQuery
from telemetry.stores import Refused, telemetry_store

NOON = 1_733_313_600_000


@pytest.fixture
def submission(sensor) -> Callable[..., Submission]:
    record = find_device(sensor.key)

    def make(time: int | None, **values) -> Submission:
        return Submission(record, values, time=time)

    return make


@pytest.fixture
def slow(monkeypatch, settings) -> list[int]:
    """The real store, a fifth of a second slower; the sizes of the groups it was given."""
    settings.INGEST_WAIT_MS = 10_000
    store = telemetry_store()
    write = store.write
    groups: list[int] = []

    def slowly(readings):
        groups.append(len(readings))
        time.sleep(0.2)
        write(readings)

    monkeypatch.setattr(store, "write", slowly)
    return groups


def stored(sensor) -> list[dict]:
    query = HistoryQuery(sensor.id, 0, 2**42, 10_000, descending=False)
    return [reading.values for reading in telemetry_store().history(query).readings]


def attempt(submission: Submission) -> int | type[Exception]:
    try:
        return ingest.submit(submission).time
    except (Refused, StoreAway) as error:
        return type(error)


def test_what_gathers_while_a_group_is_written_is_the_next_group(sensor, submission, slow):
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(attempt, [submission(NOON + n, a=n) for n in range(32)]))
    assert answers == [NOON + n for n in range(32)]
    assert stored(sensor) == [{"a": n} for n in range(32)]
    assert len(slow) <= 12


def test_wide_messages_are_cut_into_more_groups(submission, slow, settings):
    settings.INGEST_GROUP_VALUES = 10
    wide = {f"m{n}": n for n in range(6)}
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(attempt, [submission(NOON + n, **wide) for n in range(6)]))
    assert answers == [NOON + n for n in range(6)]
    assert set(slow) == {1}


def test_a_fault_while_repairing_does_not_end_the_thread(submission, monkeypatch):
    committer = ingest.Committer()

    def fails(readings):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(ingest.commit, "publish", fails)
        committer._repair()
    assert committer.is_alive
    committer.stop()


def test_one_that_is_refused_fails_alone(sensor, submission, slow):
    group = [submission(NOON + n, a=2**70 if n == 3 else n) for n in range(6)]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(attempt, group))
    assert answers == [Refused if n == 3 else NOON + n for n in range(6)]
    assert stored(sensor) == [{"a": n} for n in range(6) if n != 3]


def test_nobody_waits_longer_than_the_limit(submission, slow, settings):
    settings.INGEST_WAIT_MS = 100
    started = time.monotonic()
    assert attempt(submission(NOON, a=1)) is StoreAway
    assert time.monotonic() - started < 1
    time.sleep(0.3)


def test_a_full_queue_refuses_at_once(submission, slow, settings):
    settings.INGEST_QUEUE = 2
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(attempt, [submission(NOON + n, a=n) for n in range(16)]))
    assert StoreAway in answers
    assert [n for n, answer in enumerate(answers) if answer == NOON + n]


def test_stopping_finishes_what_is_queued(sensor, submission, slow):
    committer = ingest.Committer()
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(committer.submit(submission(NOON + n, a=n)).time)
        )
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    committer.stop()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [NOON + n for n in range(5)]
    assert not committer.is_alive
    with pytest.raises(StoreAway):
        committer.submit(submission(NOON, a=1))
