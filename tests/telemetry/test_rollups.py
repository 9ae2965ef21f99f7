"""Rollups: whatever was written, late, twice or deleted, they answer as the readings would."""

import itertools
import math
import statistics
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotflow.lib.json import INT64
from telemetry import aggregates, clock, commit, rollups
from telemetry.plans import Budget, Source
from telemetry.readings import Reading
from telemetry.rollups import Rolling
from telemetry.stores import rollup_store, telemetry_store
from telemetry.summaries import by_hour, by_window
from telemetry.windows import DAY, HOUR, Calendar
from tests.environment import STORES

MINUTE = 60_000
NOON = 1_733_313_600_000  # 2024-12-04T12:00Z
FAR = 10**9
_ids = itertools.count(10**12)


@pytest.fixture
def at(monkeypatch):
    """The time that it is for rollups; `at.now` moves it."""

    class At:
        now = NOON

    monkeypatch.setattr(rollups, "now_ms", lambda: At.now)
    monkeypatch.setattr(Rolling, "_is_there", lambda self: True)
    return At


@pytest.fixture
def device():
    return next(_ids)


def write(device, values, name="t"):
    """Store values by time, as a writer does."""
    readings = [Reading(device, 1, time, clock.written(), {name: value}) for time, value in values]
    assert commit.store(readings) == [None] * len(readings)


def roll(device):
    progress = rollup_store().progress([device])[device]
    rolling = Rolling(device, progress, math.inf)
    assert not rolling.run()
    return rolling


def planned(device, start, stop, calendar, name="t"):
    source = Source(device, name, start, stop, Budget(FAR))
    return list(by_window(source.summaries(calendar), calendar))


def from_readings(device, start, stop, calendar, name="t"):
    values = telemetry_store().values(device, name, start, stop - 1)
    return list(by_window(by_hour(values, calendar), calendar))


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
calendars = [Calendar(HOUR), Calendar(6 * HOUR), Calendar(DAY), Calendar(3 * DAY)]


@settings(
    max_examples=15 if STORES == "real" else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, min_size=2, max_size=14))
def test_whatever_was_written_they_answer_as_the_readings_would(at, told):
    device, kept = next(_ids), {}
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

    epoch = next(_ids) % 2**31
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
            windows = aggregates.of_summaries(found, calendar, aggregation)
            assert {window.start: window.value for window in windows} == {
                start: close(value, aggregation) for start, value in wanted.items()
            }


def close(wanted, aggregation):
    if wanted is None or aggregation not in ("mean", "sum", "stddev"):
        return wanted
    if type(wanted) is int:
        return wanted if wanted in INT64 else float(wanted)
    return pytest.approx(wanted, rel=1e-12, abs=1e-6)
