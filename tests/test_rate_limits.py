"""How often clients may ask, as they see it: 429, Retry-After, and what is left."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import Client

from accounts.models import User
from devices.services import set_status
from events.models import EventLog
from iotflow.lib.errors import TooManyRequests
from iotflow.lib.redis import shared
from iotflow.settings import rate
from telemetry.throttles import admit
from tests.api import Answer, Api
from tests.services import hung, killed

PASSWORD = "swordfish 17"


def submit(device, **headers: str) -> Answer:
    return device.api.post("/telemetry", {"data": {"a": 1}}, **headers)


def assert_refused(answer: Answer, most: int) -> None:
    assert answer.status == 429
    assert answer.json["error"] == "too_many_requests"
    assert set(answer.json) == {"error", "message"}
    wait = answer.headers["Retry-After"]
    assert 1 <= int(wait) <= most
    assert answer.json["message"].endswith((f"{wait} seconds.", "1 second."))
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["RateLimit-Reset"] == wait


class TestDevices:
    def test_messages(self, settings, alice, sensor, make_device):
        settings.RATE_DEVICE_MESSAGES = "3/10s"
        answers = [submit(sensor) for _ in range(5)]
        assert [answer.status for answer in answers] == [201, 201, 201, 429, 429]
        left = [answer.headers["RateLimit-Remaining"] for answer in answers]
        assert left == ["2", "1", "0", "0", "0"]
        for answer in answers:
            assert answer.headers["RateLimit-Limit"] == "3"
            assert answer.headers["RateLimit-Policy"] == "3;w=10, 10000;w=60"
            assert 1 <= int(answer.headers["RateLimit-Reset"]) <= 10
        assert_refused(answers[3], 10)
        assert "At most 3 messages are accepted in 10 seconds" in answers[3].json["message"]
        assert len(sensor.api.get(f"/telemetry/{sensor.id}").json["data"]) == 3
        assert submit(make_device(alice)).status == 201

    def test_after_retry_after_there_is_room(self, settings, sensor):
        settings.RATE_DEVICE_MESSAGES = "2/s"
        assert [submit(sensor).status for _ in range(3)] == [201, 201, 429]
        time.sleep(int(submit(sensor).headers["Retry-After"]))
        assert submit(sensor).status == 201

    def test_several_limits_in_one_setting(self, settings, sensor):
        settings.RATE_DEVICE_MESSAGES = "100/s,2/min"
        assert [submit(sensor).status for _ in range(3)] == [201, 201, 429]
        assert submit(sensor).headers["RateLimit-Policy"] == "100;w=1, 2;w=60, 10000;w=60"

    def test_readings_of_single_messages(self, settings, sensor):
        settings.RATE_DEVICE_READINGS = "2/min"
        answers = [submit(sensor) for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert_refused(answers[2], 60)
        assert "2 readings" in answers[2].json["message"]

    def test_the_defaults_are_the_contract(self, sensor):
        answers = [submit(sensor) for _ in range(2)]
        assert answers[1].headers["RateLimit-Policy"] == "100;w=2, 10000;w=60"
        assert answers[1].headers["RateLimit-Limit"] == "100"

    def test_no_limit(self, settings, sensor):
        settings.RATE_DEVICE_MESSAGES = settings.RATE_DEVICE_READINGS = ""
        answer = submit(sensor)
        assert answer.status == 201
        assert "RateLimit-Limit" not in answer.headers

    def test_a_body_is_not_looked_at_beyond_the_limit(self, settings, sensor):
        settings.RATE_DEVICE_MESSAGES = "1/min"
        assert sensor.api.post("/telemetry", b"no JSON").status == 400
        assert sensor.api.post("/telemetry", b"no JSON").status == 429

    def test_other_requests_have_a_limit_of_their_own(self, settings, sensor):
        settings.RATE_DEVICE_REQUESTS, settings.RATE_DEVICE_MESSAGES = "2/min", "2/min"
        assert sensor.api.post("/devices/heartbeat").status == 200
        assert sensor.api.get(f"/telemetry/{sensor.id}").status == 200
        assert_refused(sensor.api.get("/devices/status"), 60)
        assert submit(sensor).status == 201

    def test_one_that_is_switched_off_is_counted_too(self, settings, sensor):
        settings.RATE_DEVICE_MESSAGES = "2/min"
        set_status(devices=[sensor.device], status="inactive", actor="test")
        assert [submit(sensor).status for _ in range(3)] == [403, 403, 429]

    def test_a_refused_message_asks_no_database(self, settings, sensor, django_assert_num_queries):
        settings.RATE_DEVICE_MESSAGES = "1/min"
        assert submit(sensor).status == 201
        assert submit(sensor).status == 429
        # With a real Redis the key is cached. Embedded there is no cache: one query, for the key.
        with django_assert_num_queries(0 if shared() else 1):
            assert submit(sensor).status == 429


class TestReadingsOfABatch:
    def test_they_fit_all_or_none_is_charged(self, settings):
        settings.RATE_DEVICE_READINGS = "10/min"
        admit({1: 8})
        with pytest.raises(TooManyRequests) as refusal:
            admit({1: 3})
        assert 1 <= refusal.value.wait <= 60
        admit({1: 2})

    def test_more_than_is_ever_allowed_says_so(self, settings):
        settings.RATE_DEVICE_READINGS = "10/min"
        with pytest.raises(TooManyRequests, match="send fewer at a time"):
            admit({1: 11})

    def test_of_many_devices_one_without_room_refuses_all(self, settings):
        settings.RATE_DEVICE_READINGS = "10/min"
        admit({1: 9})
        with pytest.raises(TooManyRequests):
            admit({1: 2, 2: 10})
        admit({1: 1, 2: 10})
        admit({})

    def test_a_view_tells_of_the_tightest(self, settings):
        class View:
            headers: dict[str, str] = {}

        settings.RATE_DEVICE_READINGS = "10/min,100/h"
        admit({1: 4}, View)
        assert View.headers["RateLimit-Limit"] == "10"
        assert View.headers["RateLimit-Remaining"] == "6"
        assert View.headers["RateLimit-Policy"] == "10;w=60, 100;w=3600"

    def test_a_batch_counts_its_readings_and_is_stored_whole_or_not_at_all(self, settings, sensor):
        settings.RATE_DEVICE_READINGS = "10/min"
        batch = {"readings": [{"data": {"a": n}} for n in range(6)]}
        first = sensor.api.post("/telemetry/batch", batch)
        assert (first.status, first.headers["RateLimit-Remaining"]) == (201, "4")
        refused = sensor.api.post("/telemetry/batch", batch)
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert sensor.api.get(f"/telemetry/{sensor.id}").json["count"] == 6

    def test_a_gateway_is_limited_by_each_of_its_devices(
        self, settings, alice, sensor, make_device
    ):
        settings.RATE_DEVICE_READINGS = "3/min"
        one = [{"device_id": sensor.id, "data": {"a": n}} for n in range(2)]
        other = {"device_id": make_device(alice).id, "data": {"a": 1}}
        assert alice.api.post("/telemetry/bulk", {"readings": [*one, other]}).status == 201
        assert alice.api.post("/telemetry/bulk", {"readings": [*one, other]}).status == 429
        assert alice.api.post("/telemetry/bulk", {"readings": [other, other]}).status == 201


class TestUsersAndAddresses:
    def test_a_user_wherever_from(self, settings, alice, bob):
        settings.RATE_USER = "2/min"
        settings.TRUSTED_PROXIES = ["127.0.0.1"]
        for address in ("203.0.113.1", "203.0.113.2"):
            answer = alice.api.post("/groups", {"name": address}, x_forwarded_for=address)
            assert answer.status == 201
        refused = alice.api.get("/groups")
        assert_refused(refused, 60)
        assert refused.headers["RateLimit-Policy"] == "2;w=60"
        assert bob.api.get("/groups").status == 200

    def test_forbidden_requests_count(self, settings, alice):
        settings.RATE_USER = "2/min"
        assert [alice.api.get("/users").status for _ in range(3)] == [403, 403, 429]

    @pytest.mark.parametrize(
        ("api", "path"),
        [
            (Api(), "/groups"),
            (Api(token="iotu_" + "0" * 64), "/groups"),
            (Api(key="wrong"), "/devices/status"),
            (Api(key="iotf_" + "0" * 64), "/telemetry/1"),
        ],
    )
    def test_without_good_proof_the_address_is_counted(self, settings, api, path):
        settings.RATE_ANONYMOUS = "2/min"
        answers = [api.get(path) for _ in range(3)]
        assert [answer.status for answer in answers] == [401, 401, 429]
        assert answers[0].headers["RateLimit-Remaining"] == "1"
        assert_refused(answers[2], 60)

    def test_who_proves_themselves_never_counts_against_an_address(self, settings, alice, sensor):
        settings.RATE_ANONYMOUS = "1/min"
        for _ in range(3):
            assert alice.api.get("/groups").status == 200
            assert submit(sensor).status == 201
        assert Api().get("/groups").status == 401
        assert Api().get("/groups").status == 429
        assert alice.api.get("/groups").status == 200
        assert submit(sensor).status == 201

    def test_a_request_is_counted_once(self, settings, anybody):
        settings.RATE_ANONYMOUS = "3/min"
        for _ in range(3):
            wrong = {"username": "nobody", "password": "x"}
            assert anybody.post("/auth/login", wrong).status == 401

    @pytest.mark.parametrize(
        ("first", "second", "status"),
        [
            ("2001:db8::1", "2001:db8::2:3:4:5", 429),
            ("2001:db8::1", "2001:db8:0:1::1", 401),
            ("203.0.113.1", "203.0.113.2", 401),
            ("203.0.113.1", "::ffff:203.0.113.1", 429),
        ],
    )
    def test_addresses_behind_a_proxy(self, settings, anybody, first, second, status):
        settings.RATE_ANONYMOUS, settings.TRUSTED_PROXIES = "1/min", ["127.0.0.1"]
        assert anybody.post("/groups", {}, x_forwarded_for=first).status == 401
        assert anybody.post("/groups", {}, x_forwarded_for=second).status == status

    def test_an_address_that_a_client_makes_up_is_not_believed(self, settings, anybody):
        settings.RATE_ANONYMOUS = "1/min"
        assert anybody.post("/groups", {}, x_forwarded_for="203.0.113.1").status == 401
        assert anybody.post("/groups", {}, x_forwarded_for="203.0.113.2").status == 429

    def test_registrations(self, settings, anybody):
        settings.RATE_REGISTER = "2/h"
        answers = [
            anybody.post(
                "/auth/register",
                {"username": name, "email": f"{name}@example.org", "password": PASSWORD},
            )
            for name in ("carol", "dave", "erin")
        ]
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert_refused(answers[2], 3600)
        assert answers[0].headers["RateLimit-Policy"] == "300;w=60, 2;w=3600"

    def test_health_status_and_files_are_not_limited(self, settings, anybody):
        settings.RATE_ANONYMOUS = "1/min"
        paths = ("/health", "/status", "/api/v1/health", "/api/v1/status", "/telemetry/status")
        for path in (*paths, *paths):
            answer = anybody.get(path)
            assert answer.status == 200
            assert "RateLimit-Limit" not in answer.headers
        for _ in range(2):
            assert Client().get("/static/iotflow/icon.svg").status_code == 200


def login(name: str = "alice", password: str = "wrong", address: str = "") -> Answer:
    headers = {"x_forwarded_for": address} if address else {}
    return Api().post("/auth/login", {"username": name, "password": password}, **headers)


def in_thread(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    finally:
        connections.close_all()


def at_once(count: int, work: Callable[[], Answer]) -> list[int]:
    """The statuses of so many answers, asked for by sixteen threads."""
    with ThreadPoolExecutor(16) as threads:
        return [answer.status for answer in threads.map(lambda _: in_thread(work), range(count))]


class TestLogIns:
    @pytest.fixture(autouse=True)
    def limits(self, settings, alice):
        settings.RATE_LOGIN_FAILED_ACCOUNT = "3/15min"
        settings.TRUSTED_PROXIES = ["127.0.0.1"]

    def test_too_many_that_failed_are_refused_the_right_password_too(self):
        assert [login().status for _ in range(4)] == [401, 401, 401, 429]
        refused = login(password=PASSWORD)
        assert refused.status == 429
        assert refused.json["error"] == "too_many_requests"
        assert "At most 3 failed log-ins" in refused.json["message"]
        assert 800 < int(refused.headers["Retry-After"]) <= 900
        assert refused.headers["RateLimit-Limit"] == "3"
        assert refused.headers["RateLimit-Remaining"] == "0"
        assert refused.headers["RateLimit-Policy"] == "3;w=900, 60;w=60"

    def test_it_is_one_account_by_whichever_name(self):
        for name in ("alice", "ALICE", "alice@example.org"):
            assert login(name).status == 401
        assert login("Alice@Example.org").status == 429

    def test_one_that_nobody_has_is_treated_alike(self):
        for name in ("nobody", "NOBODY", "nobody"):
            assert login(name).status == 401
        assert login("nobody").status == 429
        assert login("somebody").status == 401

    def test_another_account_or_address_is_not_concerned(self, bob):
        for _ in range(4):
            login(address="203.0.113.1")
        assert login(password=PASSWORD, address="203.0.113.1").status == 429
        assert login(password=PASSWORD, address="203.0.113.2").status == 200
        assert login("bob", PASSWORD, address="203.0.113.1").status == 200

    def test_an_address_that_tries_many_accounts(self, settings, bob):
        settings.RATE_LOGIN_FAILED_ADDRESS = "3/min"
        answers = [login(f"user{n}") for n in range(4)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429]
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 60
        assert login("bob", PASSWORD).status == 429
        assert login("bob", PASSWORD, address="203.0.113.1").status == 200

    def test_successes_neither_count_nor_forgive(self):
        assert [login(password=PASSWORD).status for _ in range(5)] == [200] * 5
        assert [login().status for _ in range(2)] == [401, 401]
        assert login(password=PASSWORD).status == 200
        assert [login().status for _ in range(2)] == [401, 429]

    def test_at_once_no_more_than_the_limit_reach_a_password(self, monkeypatch):
        looked_at = []
        monkeypatch.setattr(User, "check_password", lambda *_: bool(looked_at.append(1)))
        statuses = at_once(50, login)
        assert len(looked_at) == 3
        assert sorted(statuses) == [401] * 3 + [429] * 47

    def test_at_once_those_that_are_right_do_not_count_either(self):
        assert at_once(30, lambda: login(password=PASSWORD)) == [200] * 30
        assert [login().status for _ in range(4)] == [401] * 3 + [429]

    def test_while_others_may_yet_succeed_one_comes_back_soon(self, monkeypatch):
        looked_at, may_end = Semaphore(0), Event()

        def look(*_: object) -> bool:
            looked_at.release()
            return not may_end.wait(20)

        monkeypatch.setattr(User, "check_password", look)
        with ThreadPoolExecutor(3) as threads:
            under_way = [threads.submit(in_thread, login) for _ in range(3)]
            for _ in under_way:
                assert looked_at.acquire(timeout=20)
            answer = login(password=PASSWORD)
            may_end.set()
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "1"
            assert [attempt.result().status for attempt in under_way] == [401] * 3
        assert not EventLog.objects.filter(kind="user.login_throttled").exists()
        assert int(login().headers["Retry-After"]) > 800

    def test_the_admin_sites_form_is_the_same_door(self, staff):
        form = {"username": "staff", "password": "wrong"}
        site = Client()
        for _ in range(2):
            assert site.post("/admin/login/", form).status_code == 200
        assert login("staff").status == 401
        page = site.post("/admin/login/?next=/admin/", {**form, "password": PASSWORD})
        assert page.status_code == 429
        assert 800 < int(page["Retry-After"]) <= 900
        assert "At most 3 failed log-ins are accepted in 900 seconds" in page.content.decode()
        assert login("staff", PASSWORD).status == 429

    def test_the_admin_sites_form_lets_in_who_is_right(self, staff):
        form = {"username": "staff", "password": PASSWORD}
        for _ in range(4):
            assert Client().post("/admin/login/", form).status_code == 302

    def test_it_is_one_event_in_a_window(self, alice):
        for _ in range(8):
            login()
        events = EventLog.objects.filter(kind="user.login_throttled")
        assert [(event.user_id, event.payload) for event in events] == [
            (alice.user.pk, {"login": "alice"})
        ]
        assert EventLog.objects.filter(kind="user.login_failed").count() == 3

    def test_it_is_one_event_for_an_address_that_tries_many_accounts(self, settings):
        settings.RATE_LOGIN_FAILED_ADDRESS = "3/min"
        for n in range(8):
            login(f"user{n}")
        assert EventLog.objects.filter(kind="user.login_throttled").count() == 1

    def test_what_was_typed_for_nobody_is_not_kept(self):
        from iotflow.lib.ratelimit import memory
        from iotflow.lib.redis import redis

        for _ in range(5):
            login("my secret")
        [event] = EventLog.objects.filter(kind="user.login_throttled")
        assert event.payload == {"login": "unknown"}
        with redis() as client:
            keys = str(client.keys("*")) + str(list(memory._windows))
        assert "login:" in keys
        assert "secret" not in keys


@pytest.mark.real
class TestRedisAway:
    @pytest.mark.parametrize("away", [killed, hung])
    def test_each_process_limits_for_itself(self, away, settings, alice, sensor):
        settings.RATE_DEVICE_MESSAGES, settings.RATE_USER = "3/min", "3/min"
        settings.RATE_ANONYMOUS, settings.RATE_LOGIN_FAILED_ACCOUNT = "20/min", "3/15min"
        assert submit(sensor).status == 201
        with away("redis"):
            started = time.monotonic()
            assert [submit(sensor).status for _ in range(5)] == [201] * 3 + [429] * 2
            assert [alice.api.get("/groups").status for _ in range(4)] == [200] * 3 + [429]
            assert [login().status for _ in range(4)] == [401] * 3 + [429]
            assert [Api(key="x").get("/devices/status").status for _ in range(30)][-1] == 429
            assert time.monotonic() - started < 5
        time.sleep(0.6)  # the breaker tries again, and Redis counts, from nothing where it died
        assert [submit(sensor).status for _ in range(4)][-1] == 429


@pytest.mark.parametrize("value", ["50", "0/s", "1/fortnight", "1/s,"])
def test_a_malformed_limit_is_refused_with_the_variables_name(monkeypatch, value):
    monkeypatch.setenv("RATE_USER", value)
    with pytest.raises(ImproperlyConfigured, match=r"RATE_USER: .*Write limits as"):
        rate("RATE_USER", "600/min")


def test_an_empty_limit_is_none(monkeypatch):
    monkeypatch.setenv("RATE_USER", "")
    assert rate("RATE_USER", "600/min") == ""
