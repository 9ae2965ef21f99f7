"""The plug is pulled on the real servers, one at a time, while the API is used."""

import json
import threading
import time
from itertools import count

import pytest
from django.db import connections
from django.test import Client

from devices.services import rotate_key, set_status
from events import admin, log, outbox, sinks
from events.kinds import Kind
from events.models import EventLog, Outbox
from iotflow.lib.errors import StoreAway
from telemetry import clock
from telemetry.backfill import Backfill, Sample
from telemetry.readings import HistoryQuery, Reading
from telemetry.stores import telemetry_store
from tests.api import Api
from tests.services import control, eventually, hung, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
PASSWORD = "swordfish 17"


def submit(device, value=1, **fields):
    return device.api.post("/telemetry", {"data": {"a": value}, **fields})


def values(device) -> list[int]:
    answer = device.api.get(f"/telemetry/{device.id}", order="asc")
    assert answer.status == 200
    return [reading["measurements"]["a"] for reading in answer.json["data"]]


def latest(device):
    answer = device.api.get(f"/telemetry/{device.id}/latest")
    assert answer.status == 200
    return answer.json["latest_data"].get("a")


def relay() -> bool:
    try:
        outbox.relay_all()
    except StoreAway:
        return False
    return not Outbox.objects.exists()


def reading(device, at: int, **values) -> Reading:
    return Reading(device.pk, device.owner_id, at, clock.written(), values)


def alone(ask, *arguments) -> None:
    """In a thread of its own."""
    try:
        ask(*arguments)
    finally:
        connections.close_all()


def export(device, wanted: str, **query: str):
    """The chunks of an export, as they come."""
    response = Client().get(
        f"/api/v1/telemetry/{device.id}/export",
        {"start_time": "2020-01-01", "format": wanted, **query},
        headers={"x-api-key": device.key},
    )
    assert response.status_code == 200
    return iter(response.streaming_content)


@pytest.fixture
def patient(settings) -> None:
    """Where it is not how fast a submission is refused that is tried, but that it is not."""
    settings.INGEST_WAIT_MS = 10_000


@pytest.mark.usefixtures("patient")
class TestMongoAway:
    @pytest.mark.parametrize("away", [killed, hung])
    def test_everything_works_and_every_event_is_there_once_when_it_is_back(
        self, away, anybody, sensor, staff
    ):
        site = Client()
        site.force_login(staff.user)
        assert submit(sensor, 0).status == 201
        with away("mongo"):
            for n in range(3):
                name = f"user{n}"
                body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
                assert anybody.post("/auth/register", body).status == 201
            started = time.monotonic()
            for n in range(1, 21):
                assert submit(sensor, n, timestamp=f"-{n}s").status == 201
            assert time.monotonic() - started < 10  # the breaker, not twenty time-outs
            assert submit(sensor, 99, timestamp="2026-01-01T00:00:00Z").status == 201
            assert submit(sensor, 99, timestamp="2026-01-01T00:00:00Z").status == 201
            assert Outbox.objects.count() == 3 + 20 + 1
            assert anybody.get("/health", detailed="true").json["status"] == "degraded"
            page = site.get("/admin/events/eventlog/")
            assert page.status_code == 503
            text = page.content.decode()
            assert "The event log does not answer now" in text
            assert "24 events in the outbox" in text
            assert "telemetry.submitted" in text
            assert site.get("/admin/").status_code == 200
            assert site.get(f"/admin/devices/device/{sensor.id}/overview/").status_code == 200
            assert "telemetry.submitted" in site.get("/admin/events/outbox/").content.decode()
            assert site.get("/admin/devices/device/").status_code == 200
        eventually(relay)
        eventually(lambda: relay() and EventLog.objects.count() == 2 + 1 + 3 + 20 + 1)
        kinds = list(EventLog.objects.values_list("kind", flat=True))
        assert kinds.count("user.registered") == 3
        assert kinds.count("telemetry.submitted") == 22

    def test_an_export_of_events_that_breaks_off_says_so_in_its_last_line(self, staff, monkeypatch):
        monkeypatch.setattr(admin, "EXPORT_PAGE", 3)
        site = Client()
        site.force_login(staff.user)
        for n in range(10):
            log.record(Kind.USER_LOGIN, f"something ({n})")
        path = "/admin/events/eventlog/export/?kind=user.login&format="
        exports = {form: iter(site.get(f"{path}{form}")) for form in ("csv", "ndjson")}
        begun = {"csv": next(exports["csv"]), "ndjson": b""}  # the header
        for form, lines in exports.items():
            begun[form] += next(lines)
        with killed("mongo"):
            rest = {form: b"".join(lines) for form, lines in exports.items()}
        for form in exports:
            *lines, last = (begun[form] + rest[form]).decode().splitlines()
            assert len(lines) == (4 if form == "csv" else 3)
            assert "error: MongoDB did not answer in time." in last
        eventually(lambda: site.get("/admin/events/eventlog/").status_code == 200)

    def test_an_event_delivered_twice_is_one_event(self, sensor):
        document = {
            "id": "6f9619ff-8b86-4011-b42d-00c04fc964ff",
            "time": "2026-01-01T00:00:00+00:00",
            "expires_at": "2099-01-01T00:00:00+00:00",
            "kind": "device.changed",
            "severity": "info",
            "message": "twice",
            "actor": "test",
            "user_id": 1,
            "device_id": 1,
            "address": "",
            "request_id": "",
            "payload": {},
        }
        for _ in range(2):
            sinks.deliver([document])
        assert EventLog.objects.filter(message="twice").count() == 1


@pytest.mark.usefixtures("patient")
class TestRedisAway:
    @pytest.mark.parametrize("away", [killed, hung])
    def test_submit_latest_history_and_login_work(self, away, anybody, alice, sensor):
        assert submit(sensor, 0).status == 201
        assert latest(sensor) == 0
        with away("redis"):
            started = time.monotonic()
            for n in range(1, 6):
                assert submit(sensor, n).status == 201
                assert latest(sensor) == n
            assert values(sensor) == list(range(6))
            assert sensor.api.get("/devices/status").json["is_online"]
            assert sensor.api.post("/devices/heartbeat").status == 200
            assert Api(key="wrong").get("/devices/status").status == 401
            login = {"username": "alice", "password": PASSWORD}
            assert anybody.post("/auth/login", login).status == 200
            assert alice.api.get("/devices").status == 200
            assert time.monotonic() - started < 10
            assert anybody.get("/health", detailed="true").json["status"] == "degraded"
        eventually(lambda: latest(sensor) == 5)
        assert submit(sensor, 6).status == 201
        eventually(lambda: latest(sensor) == 6)

    @pytest.mark.parametrize("away", [killed, hung])
    def test_what_is_revoked_meanwhile_stays_revoked_when_it_is_back(
        self, away, alice, sensor, make_device
    ):
        """The cache came back with its old content; nobody is let in by it."""
        rotated, inactive = make_device(alice), make_device(alice)
        for device in (sensor, rotated, inactive):
            assert submit(device).status == 201
        with away("redis"):
            rotate_key(device=rotated.device, actor="test")
            set_status(devices=[inactive.device], status="inactive", actor="test")
        for _ in range(20):
            assert submit(rotated).status == 401
            assert submit(inactive).status == 403
            assert submit(sensor).status == 201
            time.sleep(0.05)

    def test_times_the_server_gives_stay_unique(self, sensor):
        with killed("redis"):
            stamps = [submit(sensor).json["timestamp"] for _ in range(20)]
        assert len(set(stamps)) == 20


class TestCassandraAway:
    def test_submissions_are_503_at_once_and_stored_again_after(self, anybody, alice, sensor):
        assert submit(sensor, 0).status == 201
        assert latest(sensor) == 0
        with killed("cassandra"):
            for n in range(5):
                started = time.monotonic()
                answer = submit(sensor, 100 + n)
                assert answer.status == 503
                assert time.monotonic() - started < 2.5
                assert answer.json["error"] == "store_unavailable"
                assert int(answer.headers["Retry-After"]) >= 1
            answer = sensor.api.get(f"/telemetry/{sensor.id}")
            assert answer.status == 503
            assert "Retry-After" in answer.headers
            assert anybody.get("/health").status == 200
            detailed = anybody.get("/health", detailed="true")
            assert detailed.status == 503
            assert detailed.json["stores"]["telemetry"] == {"status": "down"}
            assert anybody.get("/telemetry/status").json["cassandra_available"] is False
            # the rest works
            assert alice.api.get("/devices").status == 200
            assert alice.api.post("/devices/register", {"name": "new"}).status == 201
        eventually(lambda: submit(sensor, 1).status == 201)
        assert set(values(sensor)) <= {0, 1, 100, 101, 102, 103, 104}
        assert latest(sensor) == 1

    @pytest.mark.parametrize("frozen_seconds", [0, 3])
    def test_what_one_node_acknowledged_before_it_was_killed_is_there_after(
        self, sensor, frozen_seconds
    ):
        """It would forget the last tenth of a second, for it had not marked it in its log yet.

        While it is frozen it marks nothing either, and its connections stand.
        """
        device, acknowledged = sensor.device, []

        def write() -> None:
            for n in count(1_700_000_000_000):
                try:
                    telemetry_store().write([reading(device, n, a=n)])
                except StoreAway:
                    return
                acknowledged.append(n)

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(1)
        if frozen_seconds:
            control("pause", "cassandra")
            time.sleep(frozen_seconds)
        control("kill", "cassandra")
        thread.join()
        control("start", "cassandra")
        eventually(lambda: submit(sensor, 1).status == 201)
        eventually(lambda: not telemetry_store().unsynced)
        query = HistoryQuery(device.pk, acknowledged[0], acknowledged[-1], limit=100_000)
        there = {stored.time for stored in telemetry_store().history(query).readings}
        assert len(acknowledged) > 100
        assert set(acknowledged) - there == set()

    def test_an_export_that_breaks_off_says_so_in_its_last_line(self, sensor):
        start = 1_700_000_000_000
        for begin in range(0, 3000, 1000):
            items = [{"data": {"a": n}, "timestamp": start + n} for n in range(begin, begin + 1000)]
            assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
        exports = {wanted: export(sensor, wanted) for wanted in ("csv", "ndjson")}
        begun = {"csv": next(exports["csv"]), "ndjson": b""}  # the header
        for wanted, chunks in exports.items():  # two pages: a hundred readings, then a thousand
            begun[wanted] += next(chunks) + next(chunks)
        with killed("cassandra"):
            rest = {wanted: b"".join(chunks) for wanted, chunks in exports.items()}
        for wanted in exports:
            *lines, last = (begun[wanted] + rest[wanted]).decode().splitlines()
            assert len(lines) == (1101 if wanted == "csv" else 1100)
            assert "The export broke off after 2023-11-14T22:13:21.099Z" in last
        eventually(lambda: submit(sensor, 1).status == 201)
        cursor = json.loads(rest["ndjson"].splitlines()[-1])["cursor"]
        lines = b"".join(export(sensor, "ndjson", cursor=cursor)).splitlines()
        values = [json.loads(line)["measurements"]["a"] for line in lines]
        assert values[:1900] == list(range(1100, 3000))

    def test_an_import_waits_for_a_store_that_is_away_for_a_moment(self, sensor):
        backfill = Backfill(sensor.device)

        def write():
            groups = [[Sample(1_700_000_000_000 + n, {"a": n}, n)] for n in range(1, 11)]
            try:
                list(backfill.write_all(groups))
            finally:
                connections.close_all()

        thread = threading.Thread(target=write)
        with hung("cassandra"):
            thread.start()
            time.sleep(3)
            assert (thread.is_alive(), backfill.stored) == (True, 0)
        thread.join(30)
        assert (backfill.stored, backfill.line) == (10, 10)
        eventually(lambda: submit(sensor, 1).status == 201)

    def test_a_server_that_hangs_is_503_within_two_seconds(self, sensor):
        assert submit(sensor, 0).status == 201
        with hung("cassandra"):
            for _ in range(3):
                started = time.monotonic()
                assert submit(sensor).status == 503
                assert time.monotonic() - started < 2.5
        eventually(lambda: submit(sensor, 1).status == 201)

    def test_nobody_waits_behind_the_one_that_finds_out_whether_it_is_back(self, sensor):
        assert submit(sensor, 0).status == 201
        with hung("cassandra"):
            while not telemetry_store().is_refusing():
                assert submit(sensor).status == 503
            eventually(lambda: not telemetry_store().is_refusing())
            trial = threading.Thread(target=alone, args=(submit, sensor))
            trial.start()
            eventually(telemetry_store().is_refusing)
            begun = time.monotonic()
            while time.monotonic() < begun + 1.2:
                started = time.monotonic()
                assert submit(sensor).status == 503
                assert time.monotonic() - started < 0.5
                time.sleep(0.05)
            trial.join()
        eventually(lambda: submit(sensor, 1).status == 201)


class TestPostgresAway:
    def test_devices_whose_key_is_cached_go_on_and_the_rest_is_503(
        self, anybody, alice, sensor, make_device
    ):
        unknown = make_device(alice)
        assert submit(sensor, 0).status == 201
        try:
            with killed("postgres"):
                started = time.monotonic()
                for n in range(1, 6):
                    assert submit(sensor, n).status == 201
                    assert latest(sensor) == n
                assert values(sensor) == list(range(6))
                for answer in (
                    submit(unknown),
                    alice.api.get("/devices"),
                    anybody.post("/auth/login", {"username": "alice", "password": PASSWORD}),
                ):
                    assert answer.status == 503
                    assert answer.json["error"] == "store_unavailable"
                    assert "Retry-After" in answer.headers
                assert time.monotonic() - started < 10
        finally:
            connections.close_all()  # the test's own, which died with the server
        eventually(lambda: alice.api.get("/devices").status == 200)
        assert submit(unknown).status == 201
        assert EventLog.objects.filter(kind="telemetry.submitted").count() == 7

    def test_a_frozen_one_is_no_different(self, anybody, alice, sensor, make_device, impatient):
        unknown = make_device(alice)
        assert submit(sensor, 0).status == 201
        try:
            with hung("postgres"):
                started = time.monotonic()
                # Whoever finds out may be refused, for the lease of the cached keys is too short.
                eventually(lambda: submit(sensor, 1, timestamp="-1h").status == 201, 5)
                for n in range(2, 22):
                    assert submit(sensor, n).status == 201
                    assert latest(sensor) == n
                    time.sleep(0.2)  # beyond several leases
                for _ in range(3):
                    for answer in (
                        submit(unknown),
                        alice.api.get("/devices"),
                        anybody.post("/auth/login", {"username": "alice", "password": PASSWORD}),
                    ):
                        assert answer.status == 503
                        assert answer.json["error"] == "store_unavailable"
                        assert "Retry-After" in answer.headers
                assert time.monotonic() - started < 30
        finally:
            connections.close_all()
        eventually(lambda: alice.api.get("/devices").status == 200)
        assert submit(unknown).status == 201

    def test_what_is_revoked_after_it_is_back_is_revoked_at_once(self, alice, sensor, impatient):
        assert submit(sensor).status == 201
        with hung("postgres"):
            eventually(lambda: submit(sensor).status == 201, 5)
        connections.close_all()
        eventually(lambda: alice.api.get("/devices").status == 200)
        rotate_key(device=sensor.device, actor="test")
        assert submit(sensor).status == 401
