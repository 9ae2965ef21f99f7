"""The short way for devices: one round trip, and never for a key that has ended."""

import pytest
from django.conf import settings

from devices import admission, key_cache, services
from devices.authentication import find_device
from devices.direct import direct_view
from devices.key_cache import KNOWN_MAX, Knowledge, Known, Lookup
from devices.models import ApiKey
from iotflow.lib.ratelimit import Charge
from iotflow.lib.redis import redis


@pytest.fixture
def digest(sensor) -> str:
    """Of a key that this process knows."""
    find_device(sensor.key)
    return ApiKey.objects.get().digest


def claim(digest: str, *charges: Charge, **wanted):
    known = key_cache.known.get(digest)
    assert known is not None
    return admission.claim(digest, known, charges, **wanted)


@pytest.fixture
def round_trips(monkeypatch) -> list[str]:
    """What is sent to Redis, command by command."""
    from redis.connection import Connection

    sent: list[str] = []
    send = Connection.send_packed_command

    def noting(self, command, check_health=True):
        sent.append(bytes(command if isinstance(command, bytes) else b"".join(command)).decode())
        return send(self, command, check_health)

    monkeypatch.setattr(Connection, "send_packed_command", noting)
    return sent


@pytest.mark.real
class TestAdmission:
    def test_a_read_is_one_round_trip_and_no_query(
        self, sensor, digest, round_trips, django_assert_num_queries
    ):
        sensor.api.post("/telemetry", {"data": {"t": 1}})
        path = f"/telemetry/{sensor.id}/latest"
        sensor.api.get(path)  # fills what is cached
        sensor.api.get(path)  # the script is known
        round_trips.clear()
        with django_assert_num_queries(0):
            answer = sensor.api.get(path)
        assert answer.status == 200
        assert answer.json["latest_data"] == {"t": 1}
        assert len(round_trips) == 1
        assert "EVALSHA" in round_trips[0]

    def test_a_key_that_was_revoked_elsewhere_gets_nothing_and_charges_nothing(
        self, sensor, digest
    ):
        """As by another process: this one still knows what it knew."""
        before = key_cache.known.get(digest)
        services.revoke_key(api_key=ApiKey.objects.get(), actor="test")
        key_cache.known.put(digest, Lookup(before.record, before.mark))
        charge = Charge("things", "test:revoked", "1/min")
        assert admission.admit([claim(digest, charge, hash="anything")]) == [None]
        assert key_cache.known.get(digest) is None
        with redis() as client:
            assert not client.keys("*things*")
        assert sensor.api.post("/telemetry", {"data": {"t": 1}}).status == 401

    def test_one_of_a_group_that_is_refused_costs_the_others_nothing(self, digest):
        charge = Charge("things", "test:group", "2/min")
        one = claim(digest, charge, clock="test:clock", earliest=1000)
        answers = admission.admit([one] * 3)
        times = [1000, 1002, None]  # Redis gives even ones: see telemetry.clock
        assert [answer.time for answer in answers] == times
        assert [answer.verdict.refusal is None for answer in answers] == [True, True, False]
        assert answers[2].verdict.refusal.wait > 0

    def test_a_hash_is_read_with_it(self, digest):
        with redis() as client:
            client.hset("test:hash", mapping={"a": "1", "b": "2"})
        [answer] = admission.admit([claim(digest, hash="test:hash")])
        assert answer.hash == {b"a": b"1", b"b": b"2"}

    def test_without_a_lease_nobody_is_admitted_and_the_long_way_brings_it_back(
        self, sensor, digest
    ):
        with redis() as client:
            client.delete(key_cache.lease_key())
        assert admission.admit([claim(digest)]) == [None]
        assert sensor.api.get(f"/telemetry/{sensor.id}").status == 200
        assert admission.admit([claim(digest)]) != [None]

    def test_a_lease_that_is_about_to_end_is_renewed_before(self, digest):
        with redis() as client:
            client.pexpire(key_cache.lease_key(), 300)
            admission.admit([claim(digest)])
            key_cache.renew_if_due()
            assert client.pttl(key_cache.lease_key()) > 1000

    def test_a_limit_refuses_a_submission_with_its_headers(self, sensor, digest, settings):
        settings.RATE_DEVICE_MESSAGES = "2/min"
        answers = [sensor.api.post("/telemetry", {"data": {"t": n}}) for n in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert answers[0].headers["RateLimit-Limit"] == "2"
        assert int(answers[2].headers["Retry-After"]) >= 1

    def test_what_is_out_of_the_ordinary_goes_the_long_way_and_is_charged_there(
        self, sensor, digest, settings
    ):
        settings.RATE_DEVICE_MESSAGES = "2/min"
        answers = [sensor.api.post("/telemetry", {"data": {}}) for _ in range(3)]
        assert [answer.status for answer in answers] == [400, 400, 429]


def test_what_a_process_knows_of_keys_is_bounded_and_ends(sensor, monkeypatch):
    monkeypatch.setattr(settings, "KEY_CACHE_SECONDS", -1)
    record = find_device(sensor.key)
    knowledge = Knowledge()
    knowledge.put("ended", Lookup(record, "mark"))
    assert knowledge.get("ended") is None
    monkeypatch.setattr(settings, "KEY_CACHE_SECONDS", 60)
    for number in range(KNOWN_MAX + 5):
        knowledge.put(str(number), Lookup(record, "mark"))
    assert len(knowledge) == KNOWN_MAX
    assert knowledge.get("4") is None
    assert isinstance(knowledge.get("5"), Known)


def test_only_views_that_can_answer_at_once_have_a_short_way():
    found = direct_view("/api/v1/telemetry/7/latest")
    assert found is not None
    assert found[1].kwargs == {"device_id": 7}
    assert direct_view("/api/v1/devices") is None
    assert direct_view("/nowhere") is None
