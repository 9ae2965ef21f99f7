"""Rollups: whatever was written, late, twice or deleted, they answer as the readings would."""

import io
import math
import statistics
from collections import defaultdict
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotflow.lib.json import INT64
from iotflow.lib.timeparse import EARLIEST, LATEST
from telemetry import aggregates, clock, commit, rollups
from telemetry.management.commands import rollup
from telemetry.plans import Budget, Source, plan
from telemetry.readings import Reading
from telemetry.rollups import Rolling
from telemetry.stores import rollup_store, telemetry_store
from telemetry.stores.rollups import Mark, Progress
from telemetry.summaries import by_hour, by_window
from telemetry.windows import DAY, HOUR, Calendar
from tests.environment import STORES
from tests.numbers import device_numbers

MINUTE = 60_000
NOON = 1_733_313_600_000  # 2024-12-04T12:00Z
FAR = 10**9


@pytest.fixture
def at(monkeypatch):
    """The time that it is for rollups; `at.now` moves it."""

    class At:
        now = NOON

    monkeypatch.setattr(rollups, "now_ms", lambda: At.now)
    monkeypatch.setattr(Rolling, "_device_type", lambda self: "sensor")
    return At


@pytest.fixture
def device():
    return next(device_numbers)


def write(device, values):
    """Store values by time, as a writer does."""
    readings = [Reading(device, 1, time, clock.written(), {"t": value}) for time, value in values]
    assert commit.store(readings) == [None] * len(readings)


def roll(device):
    progress = rollup_store().progress([device])[device]
    rolling = Rolling(device, progress, math.inf)
    assert not rolling.run()
    return rolling


def planned(device, start, stop, calendar, wanted="stddev"):
    source = Source(device, "sensor", "t", start, stop, Budget(FAR))
    return as_windows(source.summaries(calendar, wanted), calendar)


def from_readings(device, start, stop, calendar):
    values = telemetry_store().values(device, "t", start, stop - 1)
    return as_windows(by_hour(values, calendar), calendar)


def as_windows(pieces, calendar):
    return [found._replace(start=start) for start, found in by_window(pieces, calendar)]


def reference(values, start, stop, calendar, aggregation):
    """The same in the plainest of ways, from {time: value}: {start: aggregate}."""
    found = defaultdict(list)
    for time in sorted(values):
        if start <= time < stop:
            found[calendar.bounds(time)[0]].append(values[time])
    return {start: PLAIN[aggregation](of) for start, of in found.items()}


def numeric(function):
    def of(values):
        numbers = [
            float(v) if isinstance(v, float) else int(v) for v in values if type(v) is not str
        ]
        return function(numbers) if numbers else None

    return of


PLAIN = {
    "mean": numeric(lambda of: float(statistics.mean(of))),
    "sum": numeric(lambda of: math.fsum(of) if any(type(v) is float for v in of) else sum(of)),
    "min": numeric(min),
    "max": numeric(max),
    "count": len,
    "first": lambda of: of[0],
    "last": lambda of: of[-1],
    "stddev": numeric(lambda of: statistics.stdev(of) if len(of) > 1 else None),
}
values = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(-100, 100)
    | st.floats(-1e6, 1e6)
    | st.booleans()
    | st.sampled_from(["on", "off"])
)
steps = st.one_of(
    st.tuples(
        st.just("write"),
        st.lists(st.tuples(st.integers(-40 * 60, 5), values), min_size=1, max_size=12),
    ),
    st.tuples(st.just("pass"), st.sampled_from([1, 20, 61, 300, 1500])),
    st.tuples(st.just("roll"), st.none()),
    st.tuples(st.just("delete"), st.tuples(st.integers(-50 * 60, 5), st.integers(0, 30 * 60))),
)
calendars = [Calendar(20 * MINUTE), Calendar(6 * HOUR), Calendar(DAY), Calendar(3 * DAY)]


@settings(
    max_examples=15 if STORES == "real" else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, min_size=2, max_size=14))
def test_whatever_was_written_they_answer_as_the_readings_would(at, told):
    device, kept = next(device_numbers), {}
    at.now = begun = NOON
    for what, of in [*told, ("roll", None), ("pass", 120), ("roll", None)]:
        if what == "write":
            moments = [(at.now + minute * MINUTE, value) for minute, value in of]
            write(device, moments)
            kept.update(moments)
        elif what == "pass":
            at.now += of * MINUTE
        elif what == "delete":
            first = at.now + of[0] * MINUTE
            last = first + of[1] * MINUTE
            delete(device, first, last)
            kept = {time: value for time, value in kept.items() if not first <= time <= last}
        else:
            roll(device)
            agree(device, kept, begun - 3 * DAY, at.now + HOUR)
    assert not [m for m in rollup_store().progress([device])[device].marks if not m.deleted]


def delete(device, start, end):
    from telemetry.readings import Deletion

    epoch = next(device_numbers) % 2**31
    rollups.note_deletion(device, start, end, done=False)
    telemetry_store().delete(Deletion(device, 1, start, end, 0, epoch))
    rollups.note_deletion(device, start, end, done=True)


def agree(device, kept, start, stop):
    """To the last bit with what the readings give, and as exact as floats are with arithmetic."""
    for calendar in calendars:
        span = start + 17 * MINUTE, stop
        found = planned(device, *span, calendar)
        assert found == from_readings(device, *span, calendar)
        for aggregation in PLAIN:
            wanted = reference(kept, *span, calendar, aggregation)
            pieces = planned(device, *span, calendar, aggregation)
            windows = aggregates.of_summaries(pieces, calendar, aggregation)
            assert {window.start: window.value for window in windows} == {
                start: close(value, aggregation) for start, value in wanted.items()
            }


def close(wanted, aggregation):
    if wanted is None or aggregation not in ("mean", "sum", "stddev"):
        return wanted
    if type(wanted) is int:
        return wanted if wanted in INT64 else float(wanted)
    return pytest.approx(wanted, rel=1e-12, abs=1e-6)


def lengths(parts):
    return [(part.start, part.stop, part.length) for part in parts]


def test_a_plan_reads_days_hours_and_open_edges_without_gaps():
    day = NOON // DAY * DAY
    progress = Progress(
        day + 3 * DAY + 5 * HOUR, (Mark(day + DAY + HOUR, day + DAY + 2 * HOUR, 0, 0),)
    )
    start, stop = day - 90 * MINUTE, day + 4 * DAY
    assert lengths(plan(progress, start, stop, in_days=True)) == [
        (start, day - HOUR, 0),
        (day - HOUR, day, HOUR),
        (day, day + DAY, DAY),
        (day + DAY, day + DAY + HOUR, HOUR),
        (day + DAY + HOUR, day + DAY + 2 * HOUR, 0),  # marked
        (day + DAY + 2 * HOUR, day + 2 * DAY, HOUR),
        (day + 2 * DAY, day + 3 * DAY, DAY),
        (day + 3 * DAY, day + 3 * DAY + 5 * HOUR, HOUR),
        (day + 3 * DAY + 5 * HOUR, stop, 0),  # open
    ]
    assert lengths(plan(Progress(None, ()), start, stop, in_days=True)) == [(start, stop, 0)]


def test_rollups_that_expire_are_not_relied_on():
    found = plan(Progress(NOON, ()), NOON - DAY, NOON, in_days=False, kept=NOON - HOUR)
    assert lengths(found) == [(NOON - DAY, NOON - HOUR, 0), (NOON - HOUR, NOON, HOUR)]


def test_readings_of_now_cost_no_mark(at, device):
    write(device, [(at.now - 30 * MINUTE, 1), (at.now + MINUTE, 2)])
    assert rollup_store().progress([device])[device] == Progress(None, ())


def test_late_readings_near_each_other_share_a_mark(at, device):
    write(device, [(at.now - hours * HOUR, 1) for hours in (3, 4, 20, 300)])
    marks = rollup_store().progress([device])[device].marks
    assert [(m.start, m.stop) for m in marks] == [
        (NOON - 300 * HOUR, NOON - 299 * HOUR),
        (NOON - 20 * HOUR, NOON - 2 * HOUR),
    ]


def test_rollups_outlive_their_readings(at, device):
    write(device, [(at.now - (n + 3) * HOUR, n) for n in range(30)])
    at.now += 5 * MINUTE
    roll(device)
    span = NOON - 40 * HOUR, NOON
    before = planned(device, *span, Calendar(DAY))
    drop_readings(device)
    assert planned(device, *span, Calendar(DAY)) == before
    write(device, [(NOON - 10 * HOUR, 1000)])  # one value where one was: it counts alone
    write(device, [(NOON - 9 * HOUR + MINUTE, 1000)])
    write(device, [(NOON - 40 * HOUR, 7)])
    at.now += 5 * MINUTE
    roll(device)
    hours = {window.start: window.last for window in planned(device, *span, Calendar(HOUR))}
    assert len(hours) == 31
    assert hours[NOON - 40 * HOUR] == 7
    assert hours[NOON - 20 * HOUR] == 17


def drop_readings(device):
    """As if they had expired."""
    from telemetry.readings import Deletion

    telemetry_store().delete(Deletion(device, 1, EARLIEST, LATEST, 0, 1))


def test_rebuilding_mends_what_is_wrong(at, device):
    write(device, [(at.now - 3 * HOUR, 1), (at.now - 30 * HOUR, 2)])
    at.now += 5 * MINUTE
    roll(device)
    span = NOON - 40 * HOUR, NOON
    right = planned(device, *span, Calendar(DAY))
    telemetry_store().write([Reading(device, 1, NOON - 4 * HOUR, clock.written(), {"t": 9})])
    assert planned(device, *span, Calendar(DAY)) == right  # written past everything that marks
    progress = rollup_store().progress([device])[device]
    assert Rolling(device, progress, math.inf).rebuild(EARLIEST, LATEST)
    assert [w.size for w in planned(device, *span, Calendar(DAY))] == [1, 2]


def test_a_slice_that_ends_early_goes_on_where_it_was(at, device):
    write(device, [(at.now - day * DAY, day) for day in range(1, 6)])
    roll(device)
    write(device, [(at.now - day * DAY, 10 * day) for day in range(1, 6)])
    at.now += 5 * MINUTE
    slices = 0
    while True:
        progress = rollup_store().progress([device])[device]
        slices += 1
        if not Rolling(device, progress, -math.inf).run():
            break
    assert slices == 5
    found = planned(device, NOON - 6 * DAY, NOON, Calendar(30 * DAY))
    assert sum(window.whole for window in found) == 150
    assert rollup_store().progress([device])[device].marks == ()


def test_what_a_deleted_range_held_is_in_no_answer(sensor):
    now = rollups.now_ms()
    first = now // HOUR * HOUR - 30 * HOUR
    for n in range(20):
        sensor.api.post("/telemetry", {"data": {"t": n}, "timestamp": first + n * HOUR})
    settled(sensor.id)
    query = {"field": "t", "aggregation": "sum", "window": "30d", "start_time": "-60d"}
    path = f"/telemetry/{sensor.id}/aggregated"
    assert sum(row["value"] for row in sensor.api.get(path, **query).json["data"]) == 190
    body = {"start_time": first + 5 * HOUR, "stop_time": first + 14 * HOUR}
    assert sensor.api.delete(f"/telemetry/{sensor.id}", body).status == 200
    for _ in range(2):
        assert sum(row["value"] for row in sensor.api.get(path, **query).json["data"]) == 95
        settled(sensor.id)
    assert rollup_store().progress([sensor.id])[sensor.id].marks == ()
    assert rollup_store().count(sensor.id)["rollups"] < 20


def settled(device):
    """Rolled up as it will be when everything being written is stored."""
    progress = rollup_store().progress([device])[device]
    assert not Rolling(device, progress, math.inf, rollups.now_ms() + 2 * MINUTE).run()


def test_a_deleted_device_leaves_no_rollups(sensor, alice):
    from devices.models import Device
    from devices.services import delete_devices
    from events.models import EventLog
    from telemetry import deleting
    from telemetry.models import Erasure

    sensor.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "-3d"})
    settled(sensor.id)
    assert rollup_store().count(sensor.id)["rollups"] == 2  # its hour and its day
    delete_devices(devices=Device.objects.filter(pk=sensor.id), actor="test")
    Erasure.objects.update(requested_at=timezone.now() - timedelta(minutes=5))
    assert deleting.erase_deleted() is False
    [receipt] = EventLog.objects.filter(kind="device.erased")
    assert receipt.payload["rows"]["rollups"] == 2
    assert set(rollup_store().count(sensor.id).values()) == {0}


def test_the_worker_rolls_up_every_device(alice, make_device, monkeypatch):
    monkeypatch.setattr(rollups, "SETTLE_MS", 0)
    devices = [make_device(alice) for _ in range(3)]
    for device in devices:
        device.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "-3d"})
    roller = rollups.Roller()
    while roller():
        pass
    for device in devices:
        assert rollup_store().count(device.id)["rollups"] == 2
        assert rollup_store().progress([device.id])[device.id].marks == ()


class TestCommand:
    def run(self, **options):
        out = io.StringIO()
        call_command("rollup", stdout=out, **options)
        return out.getvalue().strip()

    @pytest.fixture
    def told(self, sensor, monkeypatch):
        monkeypatch.setattr(rollup, "SETTLE_MS", 500)
        monkeypatch.setattr(rollups, "SETTLE_MS", 500)
        sensor.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "-50h"})
        sensor.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "-5h"})
        return sensor

    def test_it_says_what_there_is_to_do_then_does_it_and_then_there_is_nothing(self, told):
        said = self.run(dry_run=True)
        assert said.startswith("2 day(s) with readings, of 1 device(s), would be rolled up, and 2")
        assert "hour(s) of 1 device(s) rolled up." in self.run()
        assert rollup_store().count(told.id)["rollups"] >= 2
        assert self.run(dry_run=True).startswith("0 day(s) with readings, of 1 device(s)")
        assert self.run() == "0 hour(s) of 1 device(s) rolled up."

    def test_what_was_just_written_may_wait(self, sensor):
        sensor.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "-5h"})
        assert "wait for what was written" in self.run(no_wait=True)

    def test_it_rebuilds_what_it_is_told(self, told):
        self.run()
        told.api.get(f"/telemetry/{told.id}")
        assert self.run(rebuild=True, since="-10h", device="sensor", dry_run=True).startswith(
            "1 day"
        )
        assert "of 1 device(s) rolled up anew." in self.run(rebuild=True, device=str(told.id))

    @pytest.mark.parametrize(
        "options",
        [{"since": "-1d"}, {"owner": "alice"}, {"rebuild": True, "since": "soon"}, {"device": "x"}],
    )
    def test_what_makes_no_sense_is_refused(self, told, options):
        with pytest.raises(CommandError):
            self.run(**options)
