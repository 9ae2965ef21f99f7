"""What every store of rollups promises, held against each: Cassandra and the relational one."""

import time

import pytest

from iotflow.lib.timeparse import EARLIEST, LATEST
from telemetry import clock, retention
from telemetry.models import RetentionPolicy
from telemetry.readings import Reading
from telemetry.stores import RollupStore, TelemetryStore
from telemetry.stores.rollups import MARKS_MAX, Mark, Progress
from telemetry.stores.rollups_sql import SqlRollups
from telemetry.stores.sql import SqlStore
from telemetry.summaries import Summary, summary
from telemetry.windows import DAY, HOUR
from tests.environment import STORES
from tests.numbers import device_numbers

NOON = 1_733_313_600_000  # 2024-12-04T12:00Z
MIDNIGHT = NOON // DAY * DAY


@pytest.fixture(params=["cassandra", "sql"] if STORES == "real" else ["sql"])
def stores(request: pytest.FixtureRequest) -> tuple[RollupStore, TelemetryStore]:
    if request.param == "sql":
        return SqlRollups(), SqlStore()
    from telemetry.stores import rollup_store, telemetry_store

    return rollup_store(), telemetry_store()


@pytest.fixture
def store(stores) -> RollupStore:
    return stores[0]


@pytest.fixture
def device(stores) -> int:
    """One with a reading in three months of two years."""
    device = next(device_numbers)
    times = (NOON - 40 * DAY, NOON, NOON + 40 * DAY)
    stores[1].write([Reading(device, 1, at, clock.written(), {"t": 1}) for at in times])
    return device


def rollup(at: int, *values) -> Summary:
    return summary(at, values or (1.5, 2))


def mark(start: int, stop: int, due: int = 0, *, deleted: bool = False) -> Mark:
    return Mark(start, stop, due, clock.written(), deleted)


def read(store, device, start=EARLIEST, stop=LATEST, *, name="t", length=HOUR):
    return list(store.read(device, name, length, start, stop))


class TestProgress:
    def test_of_an_unknown_device_there_is_none(self, store):
        unknown = next(device_numbers)
        assert store.progress([unknown]) == {unknown: Progress(None, ())}
        assert store.progress([]) == {}

    def test_of_many_devices_at_once(self, store):
        devices = [next(device_numbers) for _ in range(70)]
        for device in devices[::2]:
            store.advance(device, NOON + device % 7 * HOUR)
        found = store.progress(devices)
        assert [found[device].until for device in devices] == [
            None if number % 2 else NOON + device % 7 * HOUR
            for number, device in enumerate(devices)
        ]

    def test_marks_come_by_their_start_beside_it(self, store, device):
        marks = [
            mark(NOON, NOON + HOUR),
            mark(EARLIEST, NOON, deleted=True),
            mark(NOON, NOON + DAY),
        ]
        store.mark(device, marks)
        store.advance(device, NOON)
        assert store.progress([device])[device] == Progress(NOON, (marks[1], marks[0], marks[2]))

    def test_a_mark_set_again_is_later_due_and_stays_when_the_former_is_taken_away(
        self, store, device
    ):
        first, again = mark(NOON, NOON + HOUR, 5), mark(NOON, NOON + HOUR, 7)
        store.mark(device, [first])
        store.mark(device, [again])
        store.unmark(device, [first])
        assert store.progress([device])[device].marks == (again,)
        store.unmark(device, [again])
        assert store.progress([device])[device].marks == ()
        store.mark(device, [anew := mark(NOON, NOON + HOUR, 9)])
        assert store.progress([device])[device].marks == (anew,)

    def test_of_very_many_marks_some_are_told(self, store, device):
        store.mark(device, [mark(NOON + n * HOUR, NOON + n * HOUR + HOUR) for n in range(2005)])
        assert len(store.progress([device])[device].marks) == MARKS_MAX + 1


class TestRollups:
    def test_they_come_back_as_they_were(self, store, device):
        values = [
            (1, 2.5),
            (2**63 - 1, 2**63 - 1),
            (1e308, 1e308),
            ("grün", {"a": [1, None]}),
            (True,),
        ]
        written = [rollup(NOON + n * HOUR, *of) for n, of in enumerate(values)]
        assert store.write(
            device, "sensor", HOUR, [("t", found) for found in written], clock.written()
        )
        assert read(store, device) == written
        kept = read(store, device)[0]
        assert (type(kept.least), type(kept.most), type(kept.whole)) == (int, float, int)

    def test_they_are_told_apart_by_name_length_and_time(self, store, device):
        hours = [rollup(at) for at in (NOON - 40 * DAY, NOON, NOON + HOUR, NOON + 40 * DAY)]
        assert store.write(
            device, "sensor", HOUR, [("t", found) for found in hours], clock.written()
        )
        assert store.write(device, "sensor", HOUR, [("u", rollup(NOON, 7))], clock.written())
        assert store.write(device, "sensor", DAY, [("t", rollup(MIDNIGHT, 8))], clock.written())
        assert read(store, device) == hours
        assert read(store, device, NOON, NOON + HOUR) == hours[1:2]
        assert read(store, device, name="u") == [rollup(NOON, 7)]
        assert read(store, device, length=DAY) == [rollup(MIDNIGHT, 8)]
        assert store.read_all(device, HOUR, MIDNIGHT, MIDNIGHT + DAY) == [
            ("t", hours[1]),
            ("t", hours[2]),
            ("u", rollup(NOON, 7)),
        ]
        everything = sorted(store.everything(device, HOUR), key=lambda one: (one[0], one[1].start))
        assert everything == [*(("t", found) for found in hours), ("u", rollup(NOON, 7))]
        assert list(store.everything(device, DAY)) == [("t", rollup(MIDNIGHT, 8))]

    def test_what_was_computed_from_an_earlier_look_never_replaces_a_later_one(self, store, device):
        early, late = clock.written(), clock.written()
        assert store.write(device, "sensor", HOUR, [("t", rollup(NOON, 2))], late)
        store.write(device, "sensor", HOUR, [("t", rollup(NOON, 1))], early)
        assert read(store, device) == [rollup(NOON, 2)]
        assert store.write(device, "sensor", HOUR, [("t", rollup(NOON, 3))], clock.written())
        assert read(store, device) == [rollup(NOON, 3)]

    def test_what_is_cleared_is_gone_with_its_days_and_an_earlier_look_brings_nothing_back(
        self, store, device
    ):
        early = clock.written()
        for name in ("t", "u"):
            rows = [(name, rollup(NOON + n * HOUR)) for n in range(4)]
            assert store.write(device, "sensor", HOUR, rows, clock.written())
            days = [(name, rollup(MIDNIGHT + n * DAY)) for n in (-1, 0, 1)]
            assert store.write(device, "sensor", DAY, days, clock.written())
        assert store.clear(device, NOON + HOUR, NOON + 3 * HOUR, clock.written())
        store.write(device, "sensor", HOUR, [("t", rollup(NOON + HOUR))], early)
        for name in ("t", "u"):
            assert [r.start for r in read(store, device, name=name)] == [NOON, NOON + 3 * HOUR]
            assert [r.start for r in read(store, device, name=name, length=DAY)] == [
                MIDNIGHT - DAY,
                MIDNIGHT + DAY,
            ]
        assert store.clear(device, EARLIEST, LATEST, clock.written())
        assert read(store, device) == read(store, device, length=DAY) == []

    def test_they_expire_where_that_is_asked_for(self, store, device, settings):
        settings.ROLLUP_RETENTION_DAYS = 3650
        assert store.write(device, "sensor", HOUR, [("t", rollup(NOON))], clock.written())
        assert read(store, device) == [rollup(NOON)]
        end = NOON + HOUR + 3650 * DAY
        store.purge(end - 1)
        assert read(store, device) == [rollup(NOON)]
        if isinstance(store, SqlRollups):
            store.purge(end + 1)
            assert read(store, device) == []

    def test_each_is_kept_as_the_policy_of_its_measurement_says(self, stores, settings):
        store, readings = stores
        settings.ROLLUP_RETENTION_DAYS = 1
        place = {"device_type": "camera", "measurement": "u"}
        RetentionPolicy.objects.create(**place, days=1, rollup_days=10)
        retention.rules.reload()
        device, hour = next(device_numbers), time.time_ns() // 1_000_000 // HOUR * HOUR - 2 * HOUR
        old = hour - 2 * DAY
        readings.write([Reading(device, 1, at, clock.written(), {"t": 1}) for at in (old, hour)])
        rows = [("t", rollup(hour)), ("t", rollup(old)), ("u", rollup(old))]
        assert store.write(device, "camera", HOUR, rows, clock.written())
        assert read(store, device) == [rollup(hour)]
        assert read(store, device, name="u") == [rollup(old)]


def test_a_device_is_counted_and_erased_and_no_other(stores, device):
    store, other = stores[0], next(device_numbers)
    stores[1].write([Reading(other, 1, NOON, clock.written(), {"t": 1})])
    for of in (device, other):
        times = (NOON - 40 * DAY, NOON) if of == device else (NOON,)
        store.write(of, "sensor", HOUR, [("t", rollup(at)) for at in times], clock.written())
        store.write(of, "sensor", DAY, [("t", rollup(MIDNIGHT))], clock.written())
        store.advance(of, NOON)
        store.mark(of, [mark(NOON, NOON + HOUR)])
    assert store.count(device)["rollups"] == 3
    assert store.count(device)["rollup_progress"] == 1
    store.erase(device)
    store.erase(device)
    assert store.progress([device])[device] == Progress(None, ())
    assert read(store, other) == [rollup(NOON)]
    assert store.progress([other])[other].until == NOON
