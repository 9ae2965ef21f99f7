"""The cache of keys: a hit costs no query, and no fault of timing revives a key."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from devices import key_cache, keys, services
from devices.authentication import find_device
from devices.models import ApiKey, KeyInvalidation
from iotflow.lib.redis import redis

pytestmark = pytest.mark.real


@pytest.fixture
def digest(sensor) -> str:
    return ApiKey.objects.get().digest


def test_a_second_look_up_is_a_hit_without_a_query(sensor, digest, django_assert_num_queries):
    find_device(sensor.key)
    with django_assert_num_queries(0):
        assert key_cache.find(digest).record.id == sensor.id


def test_unknown_keys_are_not_kept():
    for key in ("nonsense", "iotd_short", "iotd_" + "A" * 43):
        assert find_device(key) is None
    with redis() as client:
        [left] = [key for key in client.keys("*") if not key.endswith(b":lease")]
        assert left.endswith(b":mark")  # of the one that could have been a key, for a minute
        assert client.ttl(left) <= 60


def test_a_fill_that_read_before_a_change_and_lands_after_it_does_not_count(sensor, digest):
    before = key_cache.find(digest)  # no record yet, and the mark to fill under
    record = find_device(sensor.key)
    services.set_status(devices=[sensor.device], status="inactive", actor="test")
    key_cache.fill(digest, before, record)
    assert key_cache.find(digest).record is None
    assert find_device(sensor.key).status == "inactive"


def test_a_change_that_is_rolled_back_leaves_the_cache_right(sensor):
    find_device(sensor.key)
    with transaction.atomic():
        services.set_status(devices=[sensor.device], status="inactive", actor="test")
        transaction.set_rollback(True)
    assert find_device(sensor.key).status == "active"
    assert not KeyInvalidation.objects.exists()


def test_nothing_is_trusted_while_an_invalidation_waits(sensor, digest):
    """As after an outage: the change is committed, Redis was not told, its content is old."""
    find_device(sensor.key)
    KeyInvalidation.objects.create(digest=digest)
    ApiKey.objects.update(revoked_at="2026-01-01T00:00:00Z")
    with redis() as client:
        client.delete(key_cache.lease_key())  # whoever changed it waited for the lease to end
    assert find_device(sensor.key) is None
    assert not KeyInvalidation.objects.exists()


def test_an_emptied_redis_is_filled_again(sensor, digest):
    find_device(sensor.key)
    with redis() as client:
        client.flushdb()
    assert key_cache.find(digest).record is None
    find_device(sensor.key)
    assert key_cache.find(digest).record is not None


def test_a_mark_that_was_evicted_is_not_a_mark_that_agrees(sensor, digest):
    find_device(sensor.key)
    with redis() as client:
        client.delete(key_cache.mark_key(digest))
    assert key_cache.find(digest).record is None


def test_no_key_is_in_redis(sensor):
    find_device(sensor.key)
    with redis() as client:
        for name in client.keys("*"):
            assert sensor.key.encode() not in name
            if client.type(name) == b"string":
                assert sensor.key.encode() not in client.get(name)


def test_a_key_that_waits_for_its_time_is_not_cached(sensor):
    start = timezone.now() + timedelta(hours=1)
    _, secret = services.create_key(
        device=sensor.device, fields={"valid_from": start}, actor="test"
    )
    assert find_device(secret) is None
    ApiKey.objects.update(valid_from=timezone.now())
    assert find_device(secret).id == sensor.id


def test_a_deactivated_owners_key_is_refused_though_it_was_cached(sensor, alice, staff, digest):
    assert sensor.api.post("/devices/heartbeat").status == 200
    assert key_cache.find(digest).record.may_write
    staff.api.patch(f"/users/{alice.user.user_id}/deactivate")
    assert alice.api.get("/devices").status == 401
    assert sensor.api.post("/devices/heartbeat").status == 403
    assert not key_cache.find(digest).record.may_write  # cached anew, as it is now


def test_many_are_told_to_redis_in_pieces(monkeypatch, alice, make_device):
    monkeypatch.setattr(key_cache, "CHUNK", 2)
    devices = [make_device(alice) for _ in range(5)]
    for device in devices:
        assert device.api.post("/devices/heartbeat").status == 200
    services.delete_devices(devices=[device.device for device in devices], actor="test")
    assert {device.api.post("/devices/heartbeat").status for device in devices} == {401}
    assert not KeyInvalidation.objects.exists()


class TestMovingUnderAnotherPepper:
    OLD = "tests-" + "o" * 40

    @pytest.fixture
    def former(self, sensor, settings) -> str:
        """The digest of the sensor's key under a former pepper, which is its present one."""
        digest = keys.digest(sensor.key, self.OLD)
        ApiKey.objects.update(digest=digest)
        settings.API_KEY_PEPPERS_OLD = [self.OLD]
        return digest

    def test_it_is_cached_under_the_new_digest_only(self, sensor, digest, former, settings):
        """Another process may still have the former pepper, and the key cached under it."""
        lookup = key_cache.find(former)
        assert find_device(sensor.key).id == sensor.id
        assert key_cache.find(digest).record.id == sensor.id
        key_cache.fill(former, lookup, key_cache.find(digest).record)
        assert key_cache.find(former).record is None

    @pytest.mark.parametrize("revokes", [True, False])
    def test_it_waits_for_whoever_changes_the_key_or_its_device(
        self, sensor, digest, former, revokes
    ):
        with ThreadPoolExecutor(1) as thread:
            with transaction.atomic():
                if revokes:
                    services.revoke_key(api_key=ApiKey.objects.get(), actor="test")
                else:
                    services.set_status(devices=[sensor.device], status="inactive", actor="test")
                found = thread.submit(find_and_hang_up, sensor.key)
                with pytest.raises(TimeoutError):
                    found.result(timeout=0.5)
            record = found.result(timeout=10)
        if revokes:
            assert record is None
            assert key_cache.find(digest).record is None
        else:
            assert record.status == "inactive"
            assert key_cache.find(digest).record.status == "inactive"


def find_and_hang_up(key: str):
    try:
        return find_device(key)
    finally:
        connection.close()
