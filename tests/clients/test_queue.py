"""The queue on disk: durable, bounded, in order, shared; and what it does with each answer."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from iotflow_client import (
    ApiError,
    BufferedDevice,
    Device,
    Flushed,
    NotAuthenticated,
    Queue,
    QueueError,
    QueueFull,
    Reading,
    Retry,
    TooManyRequests,
    Unavailable,
    queue,
)

from iotflow.lib.child import free_port
from tests.clients.conftest import KEY
from tests.clients.middle import Cut, Middle, Reply, judged, refusal

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_AGO = "2000-01-01T00:00:00Z"
ADD = """
import sys
from iotflow_client import Queue, Reading
queue = Queue(sys.argv[1])
for n in range(int(sys.argv[2])):
    queue.add(Reading({"n": n, "by": sys.argv[3]}))
    print(n, flush=True)
"""
FLUSH = """
import sys
from iotflow_client import BufferedDevice, Device, queue
queue.BATCH_READINGS = 100
BufferedDevice(Device(sys.argv[1], sys.argv[2]), sys.argv[3]).flush()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "readings.queue"


def readings_of(asked) -> list:
    return [reading["data"]["n"] for reading in asked.json["readings"]]


def waiting(found: Queue) -> list[bytes]:
    return [each.body for each in found.first()]


# --- On disk ------------------------------------------------------------------------------------
def test_what_was_added_is_there_for_the_next_process_with_its_time(path):
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    first = Queue(path)
    first.add(Reading({"n": 1}, metadata={"a": "ü"}))
    first.add(Reading({"n": 2}, NOON))
    first.close()
    again = Queue(path)
    assert len(again) == 2
    one, two = (json.loads(body) for body in waiting(again))
    assert (one["data"], one["metadata"]) == ({"n": 1}, {"a": "ü"})
    assert before.timestamp() * 1000 <= one["timestamp"] <= time.time() * 1000
    assert two == {"data": {"n": 2}, "timestamp": 1769860800000}


def test_no_reading_that_was_added_is_lost_by_a_kill(path, environment):
    child = subprocess.Popen(
        [sys.executable, "-c", ADD, str(path), "100000", "child"],
        env=environment,
        stdout=subprocess.PIPE,
    )
    for _ in range(50):
        child.stdout.readline()
    child.kill()
    added = 50 + len(child.stdout.read().split())
    child.wait()
    found = Queue(path)
    assert len(found) - added in (0, 1), "the last one may be there without having been told"
    assert len(waiting(found)) == min(len(found), 1000)


def test_processes_and_threads_share_a_file_and_give_no_time_twice(path, environment):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), "60", f"child {number}"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for number in range(3)
    ]
    here = Queue(path)
    threads = [
        threading.Thread(target=lambda: [here.add(Reading({"n": n})) for n in range(30)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for runner in threads:
        runner.join()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(here) == 240
    times = [body.rsplit(b":", 1)[1] for body in waiting(here)]
    assert len(set(times)) == 240


def test_many_at_once_get_times_of_their_own_and_a_clock_set_back_is_followed(path, monkeypatch):
    def times() -> list[int]:
        return [json.loads(body)["timestamp"] for body in waiting(found)]

    found = Queue(path, max_readings=1000)
    found.extend(Reading({"n": n}) for n in range(3000))
    assert times() == sorted(set(times()))
    assert times()[0] > time.time() * 1000, "a burst runs ahead of the clock rather than collide"
    right = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: right)
    found.extend([Reading({"n": 1}), Reading({"n": 2})])
    assert times()[-2:] == [right // 10**6, right // 10**6 + 1]


def test_a_full_queue_drops_its_oldest_or_refuses(path, tmp_path):
    dropping = Queue(path, max_readings=3)
    for n in range(5):
        dropping.add(Reading({"n": n}, NOON))
    assert len(dropping) == 3
    assert dropping.dropped == 2
    assert [b'"n":%d' % n in body for n, body in zip((2, 3, 4), waiting(dropping), strict=True)]
    refusing = Queue(tmp_path / "other", max_readings=3, when_full="refuse")
    for n in range(3):
        refusing.add(Reading({"n": n}))
    with pytest.raises(QueueFull):
        refusing.add(Reading({"n": 3}))
    assert (len(refusing), refusing.dropped) == (3, 0)


def test_its_bytes_are_bounded_too(path):
    found = Queue(path, max_bytes=queue.BATCH_BYTES)
    for n in range(4):
        found.add(Reading({"n": n, "text": "x" * 300_000}))
    assert len(found) == 3
    assert found.dropped == 1


@pytest.mark.parametrize(
    "reading",
    [
        Reading({}),
        Reading({"n": float("nan")}),
        Reading({"n": "\udc00"}),
        Reading({"n": 1}, datetime(2026, 1, 1)),
        Reading({"n": "x" * 1_000_000}),
    ],
)
def test_what_can_never_be_sent_is_not_taken(path, reading):
    found = Queue(path)
    with pytest.raises(ValueError):  # noqa: PT011
        found.add(reading)
    assert len(found) == 0
    found.add(Reading({"n": 1}))
    assert len(found) == 1


def test_a_file_that_is_no_queue_is_told(path, tmp_path):
    path.write_bytes(b"not a database, and long enough to be seen as none" * 20)
    with pytest.raises(QueueError):
        Queue(path)
    with pytest.raises(QueueError):
        Queue(tmp_path / "no such folder" / "queue")
    newer = tmp_path / "newer"
    sqlite3.connect(newer).execute("PRAGMA user_version = 7")
    with pytest.raises(QueueError, match="another version"):
        Queue(newer)


def test_a_full_disk_is_told_and_leaves_the_queue_as_it_was(path):
    found = Queue(path)
    found.add(Reading({"n": 1}))
    pages = found._db.execute("PRAGMA page_count").fetchone()[0]
    found._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(QueueError, match="full"):
        found.extend(Reading({"text": "x" * 900}) for _ in range(100))
    assert len(found) == len(waiting(found)) == 1
    found._db.execute("PRAGMA max_page_count = 100000")
    found.add(Reading({"n": 2}))
    assert len(found) == 2


# --- Sending ------------------------------------------------------------------------------------
def buffered(device: Device, path, count: int) -> BufferedDevice:
    found = BufferedDevice(device, path)
    found.queue.extend(Reading({"n": n}, NOON + timedelta(seconds=n)) for n in range(count))
    return found


def test_a_flush_sends_everything_in_order_in_calls_that_fit(alone, speak, path):
    found = buffered(speak(alone.url), path, 2100)
    assert found.flush() == Flushed(2100, 0)
    assert len(found) == 0
    assert [len(readings_of(asked)) for asked in alone.asked] == [1000, 1000, 100]
    assert [n for asked in alone.asked for n in readings_of(asked)] == list(range(2100))


def test_calls_are_cut_by_bytes_too(alone, speak, path):
    found = BufferedDevice(speak(alone.url), path)
    for n in range(8):
        found.add({"n": n, "text": "x" * 200_000})
    found.flush()
    assert [len(readings_of(asked)) for asked in alone.asked] == [4, 4]
    assert max(len(asked.body) for asked in alone.asked) < 1024 * 1024


def test_only_what_was_acknowledged_leaves_and_the_refused_are_set_aside(alone, speak, path):
    alone.plan = [judged(["stored", "rejected", "duplicate"], "timestamp: too far ahead")]
    found = buffered(speak(alone.url), path, 3)
    assert found.flush() == Flushed(2, 1)
    assert len(found) == 0
    [rejected] = found.queue.rejected()
    assert rejected.reason == "timestamp: too far ahead"
    assert rejected.reading == Reading({"n": 1}, 1769860801000)
    assert abs(rejected.time - datetime.now(UTC)) < timedelta(minutes=1)
    found.queue.retry_rejected()
    assert (len(found), found.queue.rejected()) == (1, [])
    assert found.flush() == Flushed(1, 0)


def test_refused_readings_are_bounded_and_can_be_discarded(alone, speak, path, monkeypatch):
    monkeypatch.setattr(queue, "REJECTED_MAX", 3)
    alone.plan = [judged(["rejected"] * 5)]
    found = buffered(speak(alone.url), path, 5)
    assert found.flush() == Flushed(0, 5)
    assert [each.reading.data["n"] for each in found.queue.rejected()] == [2, 3, 4]
    monkeypatch.setattr(queue, "REJECTED_BYTES", 60)  # one reading here has about 40
    found.queue.retry_rejected()
    alone.plan = [judged(["rejected"] * 3)]
    found.flush()
    assert [each.reading.data["n"] for each in found.queue.rejected()] == [4]
    found.queue.discard_rejected()
    assert found.queue.rejected() == []


@pytest.mark.parametrize(("status", "code"), [(400, "validation_error"), (413, "")])
def test_a_batch_that_is_refused_whole_is_split_until_the_culprit_is_alone(
    alone, speak, path, status, code
):
    def refuse_seven(middle: Middle, asked):
        middle.plan.append(refuse_seven)
        return refusal(status, code) if 7 in readings_of(asked) else middle.forward(asked)

    alone.plan = [refuse_seven]
    found = buffered(speak(alone.url), path, 20)
    assert found.flush() == Flushed(19, 1)
    assert [each.reading.data["n"] for each in found.queue.rejected()] == [7]
    sent = [n for asked in alone.asked if 7 not in (ns := readings_of(asked)) for n in ns]
    assert sent == [n for n in range(20) if n != 7], "in order, and each once"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(401, "not_authenticated"), NotAuthenticated),
        (refusal(403, "forbidden"), ApiError),
        (refusal(404, "not_found"), ApiError),
        (refusal(500, "server_error"), ApiError),
        (refusal(429, "too_many_requests", Retry_After="999"), TooManyRequests),
        (refusal(503, "store_unavailable", Retry_After="999"), Unavailable),
        (Reply(400, b"<html>a proxy of somebody else's</html>"), ApiError),
        (Reply(200, b"<html>Log in to the hotel</html>"), Unavailable),
        (Reply(201, {}), Unavailable),
        (judged(["stored"]), Unavailable),
    ],
)
def test_no_other_answer_takes_anything_out_of_the_queue(alone, speak, path, answer, error):
    alone.plan = [answer]
    found = buffered(speak(alone.url), path, 3)
    with pytest.raises(error):
        found.flush()
    assert len(found) == 3
    assert found.queue.rejected() == []
    assert found.flush() == Flushed(3, 0)


def test_one_sends_at_a_time_among_processes(alone, speak, path, monkeypatch, environment):
    """The order would be lost otherwise; and a sender that is killed holds nobody up."""
    monkeypatch.setattr(queue, "BUSY_SECONDS", 0.2)
    reached, go_on = threading.Event(), threading.Event()

    def hold(middle: Middle, asked):
        reached.set()
        go_on.wait(30)
        return Cut()

    alone.plan = [hold]
    found = buffered(speak(alone.url), path, 3)
    child = subprocess.Popen(
        [sys.executable, "-c", FLUSH, alone.url, KEY, str(path)], env=environment
    )
    assert reached.wait(30)
    with pytest.raises(QueueError, match="another process"):
        found.flush()
    found.add({"n": 3})  # adding goes on meanwhile
    child.kill()
    child.wait()
    assert found.flush() == Flushed(4, 0)
    go_on.set()


def test_in_the_background_it_waits_for_the_server_and_then_sends(speak, path, alone):
    """The server refuses, is cut off, and comes: nothing has to be told."""
    alone.plan = [refusal(503, "store_unavailable"), Cut(), refusal(429, "too_many_requests")]
    with BufferedDevice(speak(alone.url), path, every=0.05) as found:
        found.add({"n": 0})
        for n in range(1, 4):
            found.add({"n": n})
            time.sleep(0.1)
        deadline = time.monotonic() + 30
        while len(found) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) == 0
    taken = [n for asked in alone.asked[3:] for n in readings_of(asked)]
    assert taken == [0, 1, 2, 3]


def test_closing_does_not_wait_for_a_server_that_is_away(speak, path):
    url = f"http://127.0.0.1:{free_port()}"
    with BufferedDevice(speak(url, retry=Retry()), path) as found:
        found.add({"n": 1})
        time.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert len(Queue(path)) == 1


def test_a_batch_without_a_good_reading_takes_one_call(alone, speak, path):
    details = {f"readings.{index}.data.n": ["Wrong."] for index in range(3)}
    alone.plan = [Reply(400, {"error": "validation_error", "message": "No.", "details": details})]
    found = buffered(speak(alone.url), path, 3)
    assert found.flush() == Flushed(0, 3)
    assert len(alone.asked) == 1
    assert {each.reason for each in found.queue.rejected()} == {"data.n: Wrong."}


# --- Against a live server ----------------------------------------------------------------------
def numbers(device: Device) -> list:
    return [reading.measurements["n"] for reading in device.history(LONG_AGO, order="asc")]


def test_what_was_added_is_on_the_server_after_a_flush(device, path):
    with_times = BufferedDevice(device, path)
    with_times.queue.extend(Reading({"n": n}) for n in range(1500))
    with_times.add({"n": 1.5, "wrong": None})
    assert with_times.flush() == Flushed(1500, 1)
    assert numbers(device) == list(range(1500))
    assert len(with_times.queue.rejected()) == 1


def test_a_kill_at_any_point_of_a_flush_loses_and_doubles_nothing(
    between, device, path, environment
):
    """Killed before the server has a batch, after it has stored it, and after it has answered."""
    child: subprocess.Popen

    def kill() -> None:
        os.kill(child.pid, signal.SIGKILL)

    def before(middle: Middle, asked):
        kill()
        return Cut()

    def stored(middle: Middle, asked):
        middle.forward(asked)
        kill()
        return Cut()

    def answered(middle: Middle, asked):
        answer = middle.forward(asked)
        threading.Timer(random.uniform(0, 0.02), kill).start()
        return answer

    buffered(device, path, 3000).queue.close()
    ends = []
    for step in [before, stored, answered] * 3 + [None]:
        between.plan = [Middle.forward, step] if step else []
        child = subprocess.Popen(
            [sys.executable, "-c", FLUSH, between.url, device.key, str(path)], env=environment
        )
        ends.append(child.wait(60))
    assert ends.count(-signal.SIGKILL) >= 6, "those killed before an answer cannot have ended well"
    assert ends[-1] == 0
    assert len(Queue(path)) == 0
    assert numbers(device) == list(range(3000))


def test_answers_that_are_lost_double_nothing(between, speak, device, path):
    between.plan = [Cut(), Cut(), refusal(503, "store_unavailable"), Cut()]
    assert buffered(speak(between.url, device.key), path, 1200).flush() == Flushed(1200, 0)
    assert numbers(device) == list(range(1200))


def test_a_server_that_is_down_and_comes_up_again(speak, device, path, url):
    nowhere = speak(f"http://127.0.0.1:{free_port()}", device.key, Retry(tries=2, first=0.01))
    away = buffered(nowhere, path, 5)
    with pytest.raises(Unavailable):
        away.flush()
    away.queue.close()
    there = BufferedDevice(speak(url, device.key), path)
    assert there.flush() == Flushed(5, 0)
    assert numbers(device) == list(range(5))
