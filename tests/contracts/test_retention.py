"""How long values are kept, held against each store of telemetry."""

import time

import pytest

from iotflow.lib.timeparse import EARLIEST, LATEST, now_ms
from telemetry import retention
from telemetry.models import DeviceData, RetentionPolicy
from telemetry.readings import Reading, StoredReading
from telemetry.retention import Rules, stored_rules
from telemetry.stores import TelemetryStore
from telemetry.stores.base import Holder, Overdue
from telemetry.stores.sql import SqlStore
from tests.contracts.test_telemetry_store import (
    DAY,
    deletion,
    history,
    latest,
    stores,
    written,
)
from tests.numbers import device_numbers

HOUR = 3_600_000


@pytest.fixture(params=stores())
def store(request: pytest.FixtureRequest) -> TelemetryStore:
    if request.param == "sql":
        return SqlStore()
    from telemetry.stores import telemetry_store

    return telemetry_store()


@pytest.fixture
def holder() -> Holder:
    number = next(device_numbers)
    return Holder(number, number, 0, "sensor")


def keep(measurement: str, days: int, device_type: str = "") -> None:
    place = {"device_type": device_type, "measurement": measurement}
    RetentionPolicy.objects.update_or_create(**place, defaults={"days": days})
    retention.rules.reload()


def reading(holder: Holder, at: int, metadata=None, **values) -> Reading:
    values = {name.replace("__", "."): value for name, value in values.items()}
    return Reading(
        *(holder.device_id, holder.owner_id, at, written(), values, metadata),
        device_type=holder.device_type,
    )


def feed(store: TelemetryStore, holder: Holder) -> list[dict]:
    return [r.values for r in store.feed(holder.owner_id, EARLIEST, LATEST, 100, None)]


def kept(store: TelemetryStore, holder: Holder) -> list[dict]:
    return [r.values for r in history(store, holder.device_id)]


def keeping(holder: Holder):
    return Rules(stored_rules()).keeping(holder.device_type)


class TestWriting:
    def test_a_value_is_gone_everywhere_when_its_time_is_over_and_the_others_stay(
        self, store, holder
    ):
        keep("debug.*", 1)
        keep("", 1, "camera")
        at = now_ms() - DAY + 2500
        store.write([reading(holder, at, {"unit": "K"}, a=1, debug__x=2, debug__y="z")])
        whole = {"a": 1, "debug.x": 2, "debug.y": "z"}
        assert kept(store, holder) == feed(store, holder) == [whole]
        assert latest(store, holder.device_id) == whole
        time.sleep(3.5)
        assert history(store, holder.device_id) == [StoredReading(at, {"a": 1}, {"unit": "K"})]
        assert latest(store, holder.device_id) == {"a": 1}
        assert feed(store, holder) == [{"a": 1}]

    def test_a_reading_of_which_nothing_is_kept_any_more_is_gone_with_its_metadata(
        self, store, holder
    ):
        keep("", 1, "sensor")
        store.write([reading(holder, now_ms() - DAY + 1500, {"unit": "K"}, a=1)])
        time.sleep(2.5)
        assert kept(store, holder) == feed(store, holder) == []
        assert latest(store, holder.device_id) == {}

    def test_what_is_too_old_already_is_not_stored(self, store, holder):
        keep("b", 1)
        now = now_ms()
        store.write([reading(holder, now - 2 * DAY, a=1, b=2), reading(holder, now - DAY, b=3)])
        assert kept(store, holder) == feed(store, holder) == [{"a": 1}]
        assert latest(store, holder.device_id) == {"a": 1}

    def test_another_type_of_device_has_its_own_retention(self, store, holder):
        keep("", 1, "camera")
        old = now_ms() - 2 * DAY
        store.write([reading(holder, old, a=1)])
        assert kept(store, holder) == [{"a": 1}]

    def test_what_lives_longer_than_a_store_can_say_is_kept(self, store, holder):
        keep("", 3650)
        far = 4_000_000_000_000  # in 2096
        store.write([reading(holder, far, a=1)])
        assert kept(store, holder) == [{"a": 1}]
        assert latest(store, holder.device_id) == {"a": 1}

    def test_a_value_of_another_type_and_a_shorter_retention_leaves_nothing_behind(
        self, store, holder
    ):
        at = now_ms() - DAY + 2500
        store.write([reading(holder, at, a=1.5, b=1)])
        keep("a", 1)
        store.write([reading(holder, at, a="x")])
        assert kept(store, holder) == [{"a": "x", "b": 1}]
        time.sleep(3.5)
        assert kept(store, holder) == [{"b": 1}]
        assert list(store.values(holder.device_id, "a", EARLIEST, LATEST)) == []

    def test_latest_values_after_a_deletion_expire_as_they_would_have(self, store, holder):
        keep("a", 1)
        now = now_ms()
        old = now - DAY + 3000
        store.write([reading(holder, old, a=1, b=1), reading(holder, now, a=2, b=2)])
        gone = deletion(holder.device_id, now, now, holder.owner_id)
        store.delete(gone)
        assert latest(store, holder.device_id, 1) == {"a": 1, "b": 1}
        time.sleep(4)
        assert latest(store, holder.device_id, 1)["b"] == 1


class TestEnforcing:
    def test_nothing_is_overdue_where_everything_is_kept(self, store, holder):
        store.write([reading(holder, 0, a=1)])
        assert not store.enforce(holder, keeping(holder), now_ms())
        assert kept(store, holder) == [{"a": 1}]

    def test_what_was_written_before_a_policy_is_told_first_and_then_deleted(self, store, holder):
        now = now_ms()
        old, older = now - 3 * DAY, now - 5 * DAY
        store.write(
            [
                reading(holder, now - HOUR, a=3, debug__x=3, Debug__x=3, b=3),
                reading(holder, old, {"m": 1}, a=2, debug__x=2, Debug__x=2, b=2),
                reading(holder, older, {"m": 2}, debug__y=1),
            ]
        )
        before = kept(store, holder), latest(store, holder.device_id), feed(store, holder)
        keep("debug.*", 2)
        keep("b", 4)
        found = store.overdue(holder, keeping(holder), now)
        assert (found.days, found.values, found.first, found.last) == (0, 2, older, old)
        assert before == (kept(store, holder), latest(store, holder.device_id), feed(store, holder))
        assert store.enforce(holder, keeping(holder), now).values == 2
        left = [{"a": 3, "debug.x": 3, "Debug.x": 3, "b": 3}, {"a": 2, "Debug.x": 2, "b": 2}]
        assert kept(store, holder) == feed(store, holder) == left
        assert [r.metadata for r in history(store, holder.device_id)] == [None, {"m": 1}]
        assert latest(store, holder.device_id) == left[0]
        assert store.overdue(holder, keeping(holder), now).values == 0
        assert not store.enforce(holder, keeping(holder), now)

    def test_days_of_which_nothing_is_kept_go_whole(self, store, holder):
        now = now_ms()
        store.write([reading(holder, now - n * DAY, a=n, b=n) for n in range(10)])
        keep("a", 3)
        keep("", 5, "sensor")
        found = store.enforce(holder, keeping(holder), now)
        assert (found.days > 0) == store.is_cassandra
        assert kept(store, holder) == [
            *({"a": n, "b": n} for n in range(3)),
            *({"b": n} for n in range(3, 5)),
        ]
        rows = store.count(holder.device_id, holder.owner_id, 0)
        assert rows["device_data"] == 8

    def test_latest_values_that_are_too_old_go_and_newer_ones_still_come(self, store, holder):
        now = now_ms()
        store.write([reading(holder, now - 3 * DAY, a=1, b=1)])
        keep("a", 2)
        store.enforce(holder, keeping(holder), now)
        assert latest(store, holder.device_id) == {"b": 1}
        store.write([reading(holder, now - DAY, a=2)])  # late, but kept
        assert latest(store, holder.device_id) == {"a": 2, "b": 1}

    def test_a_device_without_anything_has_nothing_overdue(self, store, holder):
        keep("", 1)
        assert store.enforce(holder, keeping(holder), now_ms()) == Overdue()


class TestRelational:
    """Here an expiry can be set anew, so that a longer retention saves what is there."""

    @pytest.fixture
    def store(self) -> SqlStore:
        return SqlStore()

    def expiries(self, holder: Holder) -> dict[str, int | None]:
        rows = DeviceData.objects.filter(device_id=holder.device_id)
        return dict(rows.values_list("key", "expires"))

    def test_expiries_follow_the_policy_both_ways(self, store, holder):
        now = now_ms()
        keep("a", 10)
        store.write([reading(holder, now, {"m": 1}, a=1, b=1)])
        assert self.expiries(holder) == {"a": now + 10 * DAY, "b": None, "": None}
        keep("a", 0)
        keep("", 20)
        found = store.overdue(holder, keeping(holder), now)
        assert (found.values, found.misdated) == (0, 2)
        assert store.enforce(holder, keeping(holder), now) == found
        assert self.expiries(holder) == {"a": None, "b": now + 20 * DAY, "": None}
        keep("a", 5)
        store.enforce(holder, keeping(holder), now)
        expected = {"a": now + 5 * DAY, "b": now + 20 * DAY, "": now + 20 * DAY}
        assert self.expiries(holder) == expected

    def test_what_has_expired_is_purged_and_counted(self, store, holder):
        now = now_ms()
        keep("a", 1)
        store.write([reading(holder, now - DAY + 300, a=1, b=1)])
        later = now + 1000
        heard: list[int] = []
        assert store.expired(later) == 1
        assert store.purge(later, heard.append) == sum(heard) == 1
        assert store.expired(later) == 0
        assert kept(store, holder) == [{"b": 1}]

    def test_many_values_are_deleted_and_dated_in_pieces(self, store, holder, monkeypatch):
        monkeypatch.setattr("telemetry.stores.sql.DELETE_SPAN", 7)
        now = now_ms()
        store.write([reading(holder, now - n * HOUR, a=n) for n in range(100)])
        keep("", 2)
        found = store.enforce(holder, keeping(holder), now)
        assert (found.values, found.misdated) == (52, 48)
        assert len(kept(store, holder)) == 48
        assert not store.overdue(holder, keeping(holder), now)


@pytest.mark.real
class TestCassandra:
    def ttls(self, holder: Holder) -> dict[str, int | None]:
        from django.conf import settings

        from telemetry.stores.cql import PROFILE, open_session

        rows = open_session().execute(
            f"SELECT key, TTL(double_value) FROM {settings.CASSANDRA_KEYSPACE}.device_data "
            "WHERE device_id = %s ALLOW FILTERING",
            [holder.device_id],
            execution_profile=PROFILE,
        )
        return dict(tuple(row) for row in rows)

    def test_the_ttl_counts_from_a_values_own_time(self, holder):
        from telemetry.stores import telemetry_store

        keep("", 10)
        keep("b", 5, "sensor")
        keep("far", 3650)
        keep("c", 0)
        now = now_ms()
        telemetry_store().write([reading(holder, now - 3 * DAY, a=1.5, b=2.5, c=3.5)])
        telemetry_store().write([reading(holder, 4_000_000_000_000, far=4.5)])
        ttls = self.ttls(holder)
        assert ttls["a"] == pytest.approx(7 * 86_400, abs=60)
        assert ttls["b"] == pytest.approx(2 * 86_400, abs=60)
        assert ttls["c"] is None
        assert ttls["far"] is None  # after 2038, which Cassandra does not take

    def test_a_table_or_a_column_that_lacks_is_named(self, monkeypatch):
        from telemetry import tables
        from telemetry.stores import telemetry_store

        store = telemetry_store()
        assert store.faults() == []

        class Lacking:
            __table_name__ = "not_there"

        class Wider:
            __table_name__ = "device_days"
            _columns = {**tables.DeviceDayTable._columns, "colour": None}

        monkeypatch.setattr("telemetry.stores.inspection.TABLES", (Lacking, Wider))
        assert store.faults() == [
            "There is no table not_there.",
            "Table device_days lacks colour.",
        ]
