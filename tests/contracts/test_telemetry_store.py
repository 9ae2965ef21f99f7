"""What every store of telemetry promises, held against each: Cassandra and the relational one."""

import time
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotflow.lib.timeparse import EARLIEST, LATEST, now_ms
from telemetry.readings import (
    Deletion,
    HistoryQuery,
    LatestValue,
    Reading,
    StoredReading,
    UserReading,
)
from telemetry.stores import Refused, TelemetryStore
from telemetry.stores.sql import SqlStore
from tests.conftest import close
from tests.environment import STORES
from tests.numbers import device_numbers

OWNER = 7
NOON = 1_733_313_600_000  # 2024-12-04T12:00Z
HOUR = 3_600_000
DAY = 24 * HOUR


def stores() -> list[str]:
    chosen = {
        "cluster": ["cassandra", "cassandra-moving"],
        "real": ["cassandra", "cassandra-parts", "sql"],
    }
    return chosen.get(STORES, ["sql"])


@cache
def laid_out(state: str) -> TelemetryStore:
    """Cassandra with parts of days: all of them, or while days before are moved there."""
    from telemetry.stores.buckets import Layout, Layouts, State
    from telemetry.stores.cassandra import CassandraStore

    class Fixed:
        def get(self) -> Layouts:
            return Layouts((Layout(20, 6, 10**7, State(state)),))

    store = CassandraStore()
    store.layouts = Fixed()
    return store


@pytest.fixture(params=stores())
def store(request: pytest.FixtureRequest) -> TelemetryStore:
    if request.param == "sql":
        return SqlStore()
    if request.param != "cassandra":
        state = {"cassandra-parts": "done", "cassandra-moving": "copying"}[request.param]
        close(laid_out(state))
        return laid_out(state)
    from telemetry.stores import telemetry_store

    return telemetry_store()


@pytest.fixture
def device() -> int:
    return next(device_numbers)


def written() -> int:
    time.sleep(0.000_002)  # the next microsecond
    return time.time_ns() // 1000


def reading(device: int, at: int, **values) -> Reading:
    metadata = values.pop("metadata", None)
    epoch = values.pop("epoch", 0)
    owner = values.pop("owner", OWNER)
    return Reading(device, owner, at, written(), values, metadata, epoch)


def history(store: TelemetryStore, device: int, **query) -> list[StoredReading]:
    asked = {"start": EARLIEST, "end": LATEST, "limit": 10_000, **query}
    return store.history(HistoryQuery(device, **asked)).readings


def paged(store: TelemetryStore, device: int, **query) -> Iterator[StoredReading]:
    after = None
    while True:
        asked = {"start": EARLIEST, "end": LATEST, "after": after, **query}
        page = store.history(HistoryQuery(device, **asked))
        yield from page.readings
        if page.next_after is None:
            return
        after = page.next_after


def latest(store: TelemetryStore, device: int, epoch: int = 0) -> dict[str, object]:
    return {name: found.value for name, found in of(store, device, epoch).items()}


def of(store: TelemetryStore, device: int, epoch: int = 0) -> dict[str, LatestValue]:
    return store.latest([(device, epoch)])[device, epoch]


def deletion(device: int, start: int, end: int, owner: int = OWNER) -> Deletion:
    return Deletion(device, owner, start, end, 0, 1)


class TestTypes:
    def test_every_type_comes_back_as_it_was(self, store, device):
        values = {
            "float": 23.5,
            "whole_float": 23.0,
            "tiny": 5e-324,
            "int": 3,
            "big": 2**63 - 1,
            "small": -(2**63),
            "yes": True,
            "no": False,
            "text": "grün – 水",
            "empty": "",
            "object": {"a": [1, 2.0, None, True, "x"], "b": {}},
            "list": [],
        }
        store.write([reading(device, NOON, **values)])
        [stored] = history(store, device)
        assert stored.values == values
        assert {n: type(v) for n, v in stored.values.items()} == {
            n: type(v) for n, v in values.items()
        }
        assert latest(store, device) == values

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        values=st.dictionaries(
            st.text("abcXYZ09 _.-/:%", min_size=1, max_size=64),
            st.floats(allow_nan=False, allow_infinity=False)
            | st.integers(-(2**63), 2**63 - 1)
            | st.booleans()
            | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            min_size=1,
            max_size=8,
        ),
        at=st.integers(NOON - 40 * 365 * DAY, NOON + 40 * 365 * DAY),
    )
    def test_any_value_at_any_time_comes_back(self, store, values, at):
        device = next(device_numbers)
        store.write([Reading(device, OWNER, at, written(), values)])
        assert history(store, device) == [StoredReading(at, dict(sorted(values.items())))]

    @pytest.mark.parametrize("at", [EARLIEST, -1, 0, LATEST])
    def test_times_at_the_edges_are_kept_to_the_millisecond(self, store, device, at):
        store.write([reading(device, at, a=1)])
        assert [r.time for r in history(store, device)] == [at]

    def test_metadata_comes_back_with_its_reading_and_with_no_other(self, store, device):
        store.write(
            [reading(device, NOON, a=1, metadata={"unit": "°C"}), reading(device, NOON + 1, a=2)]
        )
        newer, older = history(store, device)
        assert newer.metadata is None
        assert older.metadata == {"unit": "°C"}
        assert latest(store, device) == {"a": 2}


class TestWriting:
    def test_written_twice_is_stored_once(self, store, device):
        for _ in range(2):
            store.write([reading(device, NOON, a=1)])
        assert history(store, device) == [StoredReading(NOON, {"a": 1})]

    def test_the_last_written_value_of_a_time_counts_whatever_its_type(self, store, device):
        for value in (21.5, "broken", 7, {"x": 1}, False, 3.25):
            store.write([reading(device, NOON, a=value)])
            assert history(store, device) == [StoredReading(NOON, {"a": value})]
            assert latest(store, device) == {"a": value}

    def test_the_last_of_a_group_counts(self, store, device):
        store.write([reading(device, NOON, a=9, b=1), reading(device, NOON, a="x")])
        assert history(store, device) == [StoredReading(NOON, {"a": "x", "b": 1})]
        assert latest(store, device) == {"a": "x", "b": 1}

    def test_measurements_of_one_time_written_apart_are_one_reading(self, store, device):
        store.write([reading(device, NOON, a=1)])
        store.write([reading(device, NOON, b=2)])
        assert history(store, device) == [StoredReading(NOON, {"a": 1, "b": 2})]

    def test_a_group_of_many_devices_and_days_is_stored_whole(self, store):
        devices = [next(device_numbers) for _ in range(20)]
        group = [reading(d, NOON + n * DAY, a=n, s="x" * 1000) for d in devices for n in range(10)]
        store.write(group)
        for device in devices:
            assert [r.values["a"] for r in history(store, device)] == list(range(9, -1, -1))

    def test_a_reading_of_a_hundred_measurements_is_one_reading(self, store, device):
        values = {f"m{n:03}": n for n in range(100)}
        store.write([reading(device, NOON, **values)])
        assert history(store, device) == [StoredReading(NOON, values)]

    def test_the_largest_readings_there_may_be_are_stored_in_a_group(self, store):
        values = {f"m{n:03}": "é" * 2000 for n in range(100)}  # 400 kB a reading
        devices = [next(device_numbers) for _ in range(5)]
        now = now_ms()
        store.write([reading(device, now, **values) for device in devices])
        for device in devices:
            assert history(store, device) == [StoredReading(now, values)]
            assert latest(store, device) == values

    def test_nothing_is_a_group_too(self, store):
        store.write([])

    def test_a_reading_at_fault_is_refused_whole(self, store, device):
        with pytest.raises(Refused):
            store.write([reading(device, NOON, fine=1, too_big=2**70)])
        assert history(store, device) == []
        assert latest(store, device) == {}


class TestHistory:
    def test_both_ends_of_the_range_belong_to_it(self, store, device):
        store.write([reading(device, NOON + n, a=n) for n in range(5)])
        found = history(store, device, start=NOON + 1, end=NOON + 3)
        assert [r.values["a"] for r in found] == [3, 2, 1]

    def test_order_and_limit(self, store, device):
        store.write([reading(device, NOON + n * HOUR, a=n) for n in range(48)])
        newest = history(store, device, limit=3)
        oldest = history(store, device, limit=3, descending=False)
        assert [r.values["a"] for r in newest] == [47, 46, 45]
        assert [r.values["a"] for r in oldest] == [0, 1, 2]

    @pytest.mark.parametrize("descending", [True, False])
    @pytest.mark.parametrize("limit", [1, 7, 24, 100])
    def test_pages_give_every_reading_once_and_split_none(self, store, device, limit, descending):
        store.write([reading(device, NOON + n * HOUR, a=n, b=-n) for n in range(100)])
        found = list(paged(store, device, limit=limit, descending=descending))
        expected = range(99, -1, -1) if descending else range(100)
        assert [r.values for r in found] == [{"a": n, "b": -n} for n in expected]

    def test_a_page_that_ends_with_the_last_reading_has_no_next(self, store, device):
        store.write([reading(device, NOON + n, a=n) for n in range(4)])
        page = store.history(HistoryQuery(device, EARLIEST, LATEST, limit=4))
        assert len(page.readings) == 4
        assert page.next_after is None

    def test_fields_choose_measurements_and_the_readings_that_have_them(self, store, device):
        store.write(
            [
                reading(device, NOON, a=1, b=2, metadata={"m": 1}),
                reading(device, NOON + 1, b=3, metadata={"m": 2}),
                reading(device, NOON + 2, a=4),
            ]
        )
        found = list(paged(store, device, limit=1, fields=frozenset({"a", "nothing"})))
        assert found == [
            StoredReading(NOON + 2, {"a": 4}),
            StoredReading(NOON, {"a": 1}, {"m": 1}),
        ]

    def test_a_range_of_nothing_is_empty(self, store, device):
        store.write([reading(device, NOON, a=1)])
        assert history(store, device, start=NOON + 1, end=NOON + DAY) == []
        assert history(store, device, start=NOON + 1, end=NOON) == []
        assert history(store, next(device_numbers)) == []

    def test_devices_do_not_see_each_other(self, store, device):
        other = next(device_numbers)
        store.write([reading(device, NOON, a=1), reading(other, NOON, a=2)])
        assert [r.values for r in history(store, device)] == [{"a": 1}]

    def test_a_range_of_fifty_years_with_two_readings_answers(self, store, device):
        store.write([reading(device, NOON, a=1), reading(device, NOON - 50 * 365 * DAY, a=0)])
        assert [r.values["a"] for r in history(store, device)] == [1, 0]


class TestLatest:
    def test_each_measurement_has_its_newest_value_by_event_time(self, store, device):
        store.write([reading(device, NOON, a=1, b=1)])
        store.write([reading(device, NOON + 5, a=2)])
        found = of(store, device)
        assert {n: (v.time, v.value) for n, v in found.items()} == {
            "a": (NOON + 5, 2),
            "b": (NOON, 1),
        }

    def test_a_late_reading_changes_nothing(self, store, device):
        store.write([reading(device, NOON, a="new")])
        store.write([reading(device, NOON - DAY, a="old")])
        assert latest(store, device) == {"a": "new"}

    def test_a_correction_at_the_same_instant_counts_larger_or_smaller(self, store, device):
        for value in (5, 9, 1, -3, 2.5, "z", "a", False):
            store.write([reading(device, NOON, a=value)])
            assert latest(store, device) == {"a": value}

    def test_of_a_group_the_newest_counts_in_any_order(self, store, device):
        store.write([reading(device, NOON + n, a=n) for n in (3, 9, 1)])
        assert latest(store, device) == {"a": 9}

    def test_many_devices_are_answered_at_once(self, store):
        devices = [next(device_numbers) for _ in range(70)]
        store.write([reading(d, NOON, a=n) for n, d in enumerate(devices[:-1])])
        found = store.latest([(d, 0) for d in devices])
        values = [{n: v.value for n, v in found[d, 0].items()} for d in devices]
        assert values == [*({"a": n} for n in range(69)), {}]

    def test_a_device_without_readings_has_none(self, store, device):
        assert of(store, device) == {}


class TestDeleting:
    def test_a_range_is_deleted_with_both_its_ends(self, store, device):
        store.write([reading(device, NOON + n * HOUR, a=n) for n in range(48)])
        store.delete(deletion(device, NOON + 10 * HOUR, NOON + 30 * HOUR))
        left = [r.values["a"] for r in history(store, device, descending=False)]
        assert left == [*range(10), *range(31, 48)]

    def test_after_deleting_the_newest_the_latest_is_the_next_older(self, store, device):
        store.write([reading(device, NOON, a=1, b=1), reading(device, NOON + DAY, a=2)])
        store.delete(deletion(device, NOON + 1, LATEST))
        assert latest(store, device, 1) == {"a": 1, "b": 1}

    def test_a_late_reading_after_a_deletion_counts(self, store, device):
        store.write([reading(device, NOON, a=1), reading(device, NOON + DAY, a=2)])
        store.delete(deletion(device, NOON + 1, LATEST))
        store.write([reading(device, NOON + HOUR, a=3, epoch=1)])
        assert latest(store, device, 1) == {"a": 3}
        store.write([reading(device, NOON - HOUR, a=4, epoch=1)])
        assert latest(store, device, 1) == {"a": 3}

    def test_deleting_everything_leaves_nothing_and_new_readings_count(self, store, device):
        store.write([reading(device, NOON, a=1)])
        store.delete(deletion(device, EARLIEST, LATEST))
        assert history(store, device) == []
        assert latest(store, device, 1) == {}
        store.write([reading(device, NOON, a=5, epoch=1)])
        assert history(store, device) == [StoredReading(NOON, {"a": 5})]
        assert latest(store, device, 1) == {"a": 5}

    def test_what_arrives_under_the_old_epoch_is_carried_over(self, store, device):
        store.write([reading(device, NOON, a=1, b=1, c=1)])
        gone = deletion(device, NOON, NOON + HOUR)
        store.delete(gone)
        late = 0 if store.is_cassandra else 1
        store.write([reading(device, NOON + 1, a=2, epoch=late)])  # within, after the deletion
        store.write([reading(device, NOON - 1, b=3, epoch=late)])
        store.write([reading(device, NOON + DAY, d=4, epoch=1)])
        store.carry_latest(gone)
        store.carry_latest(gone)
        found = {name: value for name, value in latest(store, device, 1).items() if name != "b"}
        assert found == {"a": 2, "d": 4}

    def test_what_was_not_found_in_time_is_found_later(self, store, device, settings):
        settings.HISTORY_SCAN_ROWS = 1
        store.write([reading(device, NOON - DAY, a=1)])
        store.write([reading(device, NOON + n, a=2, b=2) for n in range(4)])
        store.write([reading(device, NOON + HOUR + n, b=3) for n in range(4)])
        gone = deletion(device, NOON, NOON + 3)
        store.delete(gone)
        if store.is_cassandra:
            assert latest(store, device, 1) == {"b": 3}
            found, further = store.find_latest(gone, frozenset({"a"}), LATEST)
            assert {name: value.value for name, value in found.items()} == {"a": 1}
            assert further is None
        assert latest(store, device, 1) == {"a": 1, "b": 3}

    def test_looking_back_goes_on_where_it_stopped(self, store, device):
        store.write([reading(device, NOON - n * DAY, b=n) for n in range(230)])
        store.write([reading(device, NOON - 220 * DAY, a=1)])
        gone = deletion(device, NOON + DAY, NOON + DAY)
        until, looks, found = LATEST, 0, {}
        while until is not None and not found:
            found, until = store.find_latest(gone, frozenset({"a"}), until)
            looks += 1
        if store.is_cassandra:
            assert looks > 1
            assert found["a"].value == 1
            assert latest(store, device, 1) == {"a": 1}

    def test_rows_are_counted_by_table(self, store, device):
        now = now_ms()
        store.write([reading(device, now - n, a=1, b=2, metadata={"x": 1}) for n in range(3)])
        assert store.count(device, OWNER, 0) == {
            "device_data": 9,
            "latest_data": 2,
            "user_data": 3 if store.is_cassandra else 6,
        }
        store.erase(device, OWNER, 0)
        assert set(store.count(device, OWNER, 0).values()) == {0}

    def test_erasing_a_device_takes_everything_of_it_and_of_no_other(self, store, device):
        other, now = next(device_numbers), now_ms()
        for d in (device, other):
            store.write([reading(d, t, a=1) for t in (NOON, now, now + 30 * DAY)])
        for _ in range(2):
            store.erase(device, OWNER, 0)
        assert history(store, device) == []
        assert latest(store, device) == {}
        assert len(history(store, other)) == 3
        feed = store.feed(OWNER, now - HOUR, now + HOUR, 10_000, None)
        assert device not in {r.device_id for r in feed}
        assert other in {r.device_id for r in feed}


class TestValues:
    def test_values_of_one_measurement_oldest_first(self, store, device):
        store.write([reading(device, NOON + n * HOUR, a=n, b="x") for n in range(100)])
        store.write([reading(device, NOON + n * HOUR, c=n) for n in range(100)])
        found = list(store.values(device, "a", NOON + HOUR, NOON + 98 * HOUR))
        assert found == [(NOON + n * HOUR, n) for n in range(1, 99)]
        assert list(store.values(device, "nothing", EARLIEST, LATEST)) == []

    def test_they_can_be_left_off(self, store, device):
        store.write([reading(device, NOON + n, a=n) for n in range(10)])
        values = store.values(device, "a", EARLIEST, LATEST)
        assert next(values) == (NOON, 0)
        values.close()
        assert not store.is_away()


class TestFeed:
    @pytest.fixture
    def owner(self) -> int:
        return next(device_numbers)

    def test_newest_first_across_devices(self, store, owner):
        one, two = sorted((next(device_numbers), next(device_numbers)))
        now = now_ms()
        store.write(
            [
                reading(one, now - 2 * HOUR, owner=owner, a=1),
                reading(two, now - HOUR, owner=owner, a=2, b="x"),
                reading(two, now, owner=owner, a=3),
                reading(one, now, owner=owner, a=4),
            ]
        )
        assert store.feed(owner, now - DAY, now, 10, None) == [
            UserReading(now, one, {"a": 4}),
            UserReading(now, two, {"a": 3}),
            UserReading(now - HOUR, two, {"a": 2, "b": "x"}),
            UserReading(now - 2 * HOUR, one, {"a": 1}),
        ]

    def test_limit_and_where_to_begin(self, store, owner):
        devices = [next(device_numbers) for _ in range(20)]
        now = now_ms()
        store.write([reading(d, now - n, owner=owner, a=n) for d in devices for n in range(3)])
        everything = store.feed(owner, now - DAY, now, 1000, None)
        assert len(everything) == 60
        assert store.feed(owner, now - DAY, now, 7, None) == everything[:7]
        for place in (5, 19, 20, 41):
            begin = (everything[place].time, everything[place].device_id)
            assert store.feed(owner, now - DAY, now, 9, begin) == everything[place : place + 9]

    def test_measurements_of_one_time_written_apart_are_one_entry(self, store, owner, device):
        now = now_ms()
        store.write([reading(device, now, owner=owner, a=1)])
        store.write([reading(device, now, owner=owner, b=2, a=3)])
        assert store.feed(owner, now, now, 10, None) == [UserReading(now, device, {"a": 3, "b": 2})]

    def test_it_goes_back_a_week(self, store, owner, device):
        now = now_ms()
        store.write([reading(device, now - n * DAY, owner=owner, a=n) for n in (0, 6, 8, 400)])
        found = store.feed(owner, EARLIEST, LATEST, 10, None)
        assert [r.values["a"] for r in found] == [0, 6]

    def test_a_deleted_range_is_gone_from_it(self, store, owner, device):
        now = now_ms()
        store.write([reading(device, now - n * HOUR, owner=owner, a=n) for n in range(4)])
        store.delete(deletion(device, now - 2 * HOUR, now - HOUR, owner))
        assert [r.values["a"] for r in store.feed(owner, now - DAY, now, 10, None)] == [0, 3]


def test_it_says_what_it_is(store):
    name = store.ping()
    assert name.startswith("Apache Cassandra" if store.is_cassandra else ("SQLite", "PostgreSQL"))
    assert not store.is_away()
