"""One submission, read back from each real server by its own driver."""

from datetime import datetime, timedelta
from uuid import UUID

import psycopg2
import pymongo
import pytest
from cassandra.cluster import Cluster
from django.conf import settings
from django.db import connections
from django.db.backends.utils import CursorWrapper

from devices import presence
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import to_ms

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cql():
    cluster = Cluster(
        [settings.CASSANDRA_HOSTS],
        port=settings.DATABASES["cassandra"]["OPTIONS"]["connection"]["port"],
    )
    yield cluster.connect(settings.CASSANDRA_KEYSPACE)
    cluster.shutdown()


@pytest.fixture
def mongo():
    client = pymongo.MongoClient(settings.MONGODB_URI)
    yield client[connections["events"].settings_dict["NAME"]]
    client.close()


def test_a_submission_is_in_every_store(alice, sensor, cql, mongo):
    answer = sensor.api.post(
        "/telemetry", {"data": {"temperature": 21.5, "count": 3}, "metadata": {"unit": "°C"}}
    )
    assert answer.status == 201
    assert alice.api.get(f"/telemetry/{sensor.id}/latest").status == 200  # fills the cache
    stamp = answer.json["timestamp"]

    # Cassandra: a row a value in device_data, the metadata under the empty key
    [day] = cql.execute("SELECT day FROM device_days WHERE device_id = %s", [sensor.id])
    rows = list(
        cql.execute(
            "SELECT * FROM device_data WHERE device_id = %s AND day = %s", [sensor.id, day.day]
        )
    )
    assert [(r.key, r.kind, r.double_value, r.long_value, r.text_value) for r in rows] == [
        ("", "json", None, None, '{"unit":"°C"}'),
        ("count", "int", None, 3, None),
        ("temperature", "float", 21.5, None, None),
    ]
    assert {r.ts.isoformat(timespec="milliseconds") + "Z" for r in rows} == {stamp}
    # … the newest values in latest_data, written at their event time
    latest = list(
        cql.execute(
            "SELECT key, ts, value, WRITETIME(value) AS written FROM latest_data "
            "WHERE device_id = %s AND epoch = 0",
            [sensor.id],
        )
    )
    assert [(r.key, r.value[1:4]) for r in latest] == [
        ("count", ("int", None, 3)),
        ("temperature", ("float", 21.5, None)),
    ]
    event_us = (latest[0].ts - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert {r.written for r in latest} == {event_us}
    # … one row in the owner's feed, which expires within a week
    [hour] = cql.execute("SELECT hour, shard FROM user_hours WHERE user_id = %s", [alice.user.pk])
    [feed] = cql.execute(
        "SELECT device_id, measurements, TTL(measurements) AS ttl FROM user_data "
        "WHERE user_id = %s AND hour = %s AND shard = %s",
        [alice.user.pk, hour.hour, hour.shard],
    )
    assert feed.device_id == sensor.id
    assert dict(feed.measurements) == {"count": "3", "temperature": "21.5"}
    assert all(0 < ttl <= 7 * 86_400 for ttl in feed.ttl)

    # Redis: the key's record, the latest values, presence; each with its time to live
    with redis() as client:
        ttls = {
            key.decode().replace(f":{sensor.id}", ":ID"): client.ttl(key)
            for key in client.keys("iotflow:*")
            if b"apikey:" not in key
        }
        [record] = [k for k in client.keys("iotflow:apikey:*") if not k.endswith(b":mark")]
        assert 3500 < client.ttl(record) <= 3600
        assert sensor.key.encode() not in client.get(record)
        assert client.zscore("iotflow:devices:online", sensor.id) is not None
    assert 590 < ttls["iotflow:latest:ID:0"] <= 600
    assert 290 < ttls["iotflow:device:ID:status"] <= 300
    assert ttls["iotflow:device:ID:last_seen"] > 0

    # PostgreSQL: last_seen, once the worker has carried it over
    presence.flush()
    dsn = connections["default"].get_connection_params()
    dsn.pop("cursor_factory", None), dsn.pop("options", None)
    with psycopg2.connect(**dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT last_seen FROM devices_device WHERE id = %s", [sensor.id])
        [[last_seen]] = cursor.fetchall()
    with redis() as client:
        assert to_ms(last_seen) == int(client.get(f"iotflow:device:{sensor.id}:last_seen"))

    # MongoDB: the event, under a UUID as its _id
    [event] = mongo.event_logs.find({"kind": "telemetry.submitted"})
    assert UUID(event["_id"])
    assert event["device_id"] == sensor.id
    assert event["user_id"] == alice.user.pk
    assert event["payload"] == {"timestamp": stamp, "measurements": ["count", "temperature"]}
    indexes = mongo.event_logs.index_information()
    assert indexes["event_expiry"]["expireAfterSeconds"] == 0


@pytest.fixture
def sql(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement sent to PostgreSQL, by whichever thread: the committer has its own."""
    sent: list[str] = []
    execute = CursorWrapper.execute

    def noted(self, statement, params=None):
        sent.append(statement)
        return execute(self, statement, params)

    monkeypatch.setattr(CursorWrapper, "execute", noted)
    return sent


def test_a_submission_with_a_cached_key_asks_postgres_nothing(sensor, sql):
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    assert len(sql) > 0  # that one asked for the key
    sql.clear()
    # None: the key's record and the lease come from Redis in one round trip; the event goes
    # to MongoDB; last_seen waits in Redis for the worker.
    assert sensor.api.post("/telemetry", {"data": {"a": 2}}).status == 201
    assert sql == []


def test_latest_from_the_cache_asks_postgres_nothing_of_a_device(sensor, sql):
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    sensor.api.get(f"/telemetry/{sensor.id}/latest")
    sql.clear()
    # None: the device is its key's record, the values are in Redis.
    assert sensor.api.get(f"/telemetry/{sensor.id}/latest").status == 200
    assert sql == []
