"""The cache of keys: a hit costs no query, and no fault of timing revives a key."""

import pytest
from django.db import transaction

from devices import key_cache, services
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
        client.delete(key_cache._lease())  # whoever changed it waited for the lease to end
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
        client.delete(key_cache._mark(digest))
    assert key_cache.find(digest).record is None


def test_no_key_is_in_redis(sensor):
    find_device(sensor.key)
    with redis() as client:
        for name in client.keys("*"):
            assert sensor.key.encode() not in name
            if client.type(name) == b"string":
                assert sensor.key.encode() not in client.get(name)
