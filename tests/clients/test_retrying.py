"""When a request is repeated, how soon, and when it is not; partly on a live server."""

import time
from email.utils import formatdate

import pytest
from iotflow_client import (
    ApiError,
    Forbidden,
    Retry,
    TooManyRequests,
    Unavailable,
    User,
    ValidationFailed,
)

from iotflow.lib.child import free_port
from tests.clients.middle import Cut, Reply, judged, refusal


def test_an_answer_that_is_lost_is_asked_for_again_and_stored_once(between, speak, device):
    between.plan = [Cut(), Cut()]
    answer = speak(between.url, device.key).submit({"n": 1})
    sent = [asked.json["timestamp"] for asked in between.asked]
    assert len(sent) == 3
    assert len(set(sent)) == 1
    [reading] = device.history()
    assert reading.timestamp == answer.timestamp


def test_the_servers_time_is_given_once_too(between, speak, device):
    between.plan = [Cut(), Cut()]
    answer = speak(between.url, device.key, server_time=True).submit({"n": 1})
    assert len({asked.headers["Idempotency-Key"] for asked in between.asked}) == 1
    assert [reading.timestamp for reading in device.history()] == [answer.timestamp]


def test_retry_after_is_waited_for_in_seconds_and_as_a_date(alone, speak):
    later = formatdate(time.time() + 5, usegmt=True)  # whole seconds: at least 4 from now
    alone.plan = [
        refusal(503, "store_unavailable", Retry_After="1"),
        refusal(429, "too_many_requests", Retry_After=later),
    ]
    began = time.monotonic()
    speak(alone.url).submit({"n": 1})
    assert 3.9 < time.monotonic() - began < 15
    assert len(alone.asked) == 3


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_is_away_is_unavailable_after_every_try(alone, speak, status):
    alone.plan = [Reply(status, b"<h1>Bad gateway</h1>")] * 9
    with pytest.raises(Unavailable, match=str(status)):
        speak(alone.url, retry=Retry(tries=3, first=0.01)).submit({"n": 1})
    assert len(alone.asked) == 3


def test_too_many_requests_says_when_to_come_back(alone, speak):
    alone.plan = [refusal(429, "too_many_requests", Retry_After="3600")]
    began = time.monotonic()
    with pytest.raises(TooManyRequests) as refused:
        speak(alone.url, retry=Retry(seconds=5)).submit({"n": 1})
    assert refused.value.retry_after == 3600
    assert time.monotonic() - began < 3, "an hour is not waited for, and nothing less either"
    assert len(alone.asked) == 1


def test_the_time_is_bounded_however_many_tries_are_left(speak):
    began = time.monotonic()
    retry = Retry(tries=1000, seconds=0.5, first=0.05, longest=0.1)
    with pytest.raises(Unavailable, match="ConnectError"):
        speak(f"http://127.0.0.1:{free_port()}", retry=retry).submit({"n": 1})
    assert time.monotonic() - began < 3


def test_a_server_that_does_not_answer_is_not_waited_for_longer(alone, speak):
    def sleep(middle, asked):
        time.sleep(1.5)
        return Reply(500)

    alone.plan = [sleep]
    began = time.monotonic()
    with pytest.raises(Unavailable, match="ReadTimeout"):
        speak(alone.url, retry=Retry(tries=1, seconds=0.3)).submit({"n": 1})
    assert time.monotonic() - began < 1.2


def test_waits_are_random_and_grow_to_a_bound():
    retry = Retry(first=1, longest=8)
    for tried, most in enumerate([1, 2, 4, 8, 8]):
        waits = [retry.backoff(tried) for _ in range(300)]
        assert min(waits) < most / 4
        assert most * 3 / 4 < max(waits) <= most
    assert retry.backoff(100_000) <= 8


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "validation_error", ValidationFailed),
        (403, "forbidden", Forbidden),
        (415, "unsupported_media_type", ApiError),
        (500, "server_error", ApiError),
    ],
)
def test_nothing_else_is_repeated(alone, speak, status, code, error):
    alone.plan = [refusal(status, code)]
    with pytest.raises(error) as refused:
        speak(alone.url).submit({"n": 1})
    assert (refused.value.status, refused.value.code) == (status, code)
    assert len(alone.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"<html>Log in to the hotel</html>"),
        Reply(201, b"[1]"),
        Reply(201, {"message": "Welcome"}),
        Reply(204),
    ],
)
def test_an_answer_that_is_not_the_servers_is_no_success(alone, speak, answer):
    alone.plan = [answer]
    with pytest.raises(Unavailable):
        speak(alone.url).submit({"n": 1})


def test_a_redirect_is_told_and_the_key_goes_nowhere_else(alone, speak):
    alone.plan = [Reply(301, b"", {"Location": f"{alone.url}/elsewhere"})]
    with pytest.raises(ApiError, match="elsewhere"):
        speak(alone.url).submit({"n": 1})
    assert len(alone.asked) == 1


def test_what_would_happen_twice_is_not_repeated_unless_it_did_not_happen(alone):
    with User(alone.url, "t" * 40, retry=Retry(first=0.01)) as user:
        alone.plan = [Cut()]
        with pytest.raises(Unavailable):
            user.register_device("Boiler")
        assert len(alone.asked) == 1
        made = Reply(201, {"device": {"id": 3, "api_key": "k" * 40}})
        alone.plan = [refusal(503, "store_unavailable"), made]
        assert user.register_device("Boiler").id == 3


@pytest.mark.parametrize(
    "answer",
    [
        judged(["stored"]),
        judged(["stored", "stored", "stored"]),
        judged(["stored", "perhaps"]),
        Reply(201, {"results": [{"index": 0, "status": "stored"}] * 2}),
        Reply(201, {"results": None}),
        Reply(201, {"stored": 2}),
    ],
)
def test_an_answer_to_a_batch_must_name_every_reading_once(alone, speak, answer):
    from iotflow_client import Reading

    alone.plan = [answer]
    with pytest.raises(Unavailable):
        speak(alone.url).submit_batch([Reading({"n": 1}), Reading({"n": 2})])
