"""Aggregates over windows: against plain arithmetic, and as clients ask for them."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib.timeparse import format_ms
from telemetry import aggregates
from telemetry.summaries import by_hour
from telemetry.windows import Calendar

MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = 1_733_313_600_000  # 2024-12-04T12:00Z

numbers = st.lists(st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6), min_size=1, max_size=60)


def windows(items, length, aggregation):
    calendar = Calendar(length)
    if aggregation in aggregates.PERCENTILES:
        return list(aggregates.of_values(items, calendar, aggregation))
    return list(aggregates.of_summaries(by_hour(items, calendar), calendar, aggregation))


def one(values, aggregation):
    [window] = windows([(NOON + n, v) for n, v in enumerate(values)], HOUR, aggregation)
    return window.value


@given(numbers)
def test_they_are_what_plain_arithmetic_says(values):
    assert one(values, "sum") == pytest.approx(math.fsum(values), abs=1e-6)
    assert one(values, "mean") == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert one(values, "min") == min(values)
    assert one(values, "max") == max(values)
    assert (one(values, "first"), one(values, "last")) == (values[0], values[-1])
    assert one(values, "count") == len(values)
    if len(values) > 1:
        assert one(values, "stddev") == pytest.approx(statistics.stdev(values), abs=1e-3)
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        for name, cut in (("p50", cuts[49]), ("p95", cuts[94]), ("p99", cuts[98])):
            assert one(values, name) == pytest.approx(cut, abs=1e-6)


def test_the_spread_of_large_numbers_is_exact():
    assert one([1e9 + n for n in (4, 7, 13, 16)], "stddev") == pytest.approx(math.sqrt(30))


def test_whole_numbers_stay_whole_as_long_as_they_fit():
    assert one([2**53, 1], "sum") == 2**53 + 1
    assert one([2**62, 2**62], "sum") == float(2**63)
    assert one([1e308, 1e308], "sum") is None
    assert one([1e308, 1e308], "mean") == 1e308


def test_what_is_no_number_counts_only_where_it_can():
    values = ["on", True, False, {"x": 1}]
    assert one(values, "count") == 4
    assert (one(values, "first"), one(values, "last")) == ("on", {"x": 1})
    assert (one(values, "mean"), one(values, "sum"), one(values, "max")) == (0.5, 1, 1)
    assert one(["a"], "mean") is None
    assert one([1], "stddev") is None


def test_windows_begin_at_multiples_and_weeks_on_mondays():
    starts = {}
    for text, length in (("15m", 15 * MINUTE), ("1d", 24 * HOUR), ("7d", 168 * HOUR)):
        [window] = windows([(NOON + 17 * MINUTE, 1)], length, "mean")
        starts[text] = format_ms(window.start)
    assert starts == {
        "15m": "2024-12-04T12:15:00.000Z",
        "1d": "2024-12-04T00:00:00.000Z",
        "7d": "2024-12-02T00:00:00.000Z",
    }


@pytest.fixture
def hours(sensor):
    """Three hours of readings, a minute apart, with a gap of an hour before the last."""
    items = [
        {"data": {"t": n, "door": n % 2 == 0}, "timestamp": NOON + n * MINUTE}
        for n in range(240)
        if not 120 <= n < 180
    ]
    assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
    return sensor


def ask(device, **query):
    query = {"start_time": str(NOON), "end_time": str(NOON + 4 * HOUR), "field": "t", **query}
    return device.api.get(f"/telemetry/{device.id}/aggregated", **query)


def test_by_the_hour_gaps_are_gaps(hours):
    answer = ask(hours, window="1h", aggregation="mean")
    assert answer.status == 200
    assert answer.json["data"] == [
        {"timestamp": "2024-12-04T12:00:00.000Z", "value": 29.5, "count": 60},
        {"timestamp": "2024-12-04T13:00:00.000Z", "value": 89.5, "count": 60},
        {"timestamp": "2024-12-04T15:00:00.000Z", "value": 209.5, "count": 60},
    ]
    assert not answer.json["truncated"]
    assert (answer.json["device_id"], answer.json["field"]) == (hours.id, "t")
    assert (answer.json["window"], answer.json["start_time"]) == ("1h", str(NOON))


@pytest.mark.parametrize(
    ("aggregation", "values"),
    [
        ("sum", [1770, 5370, 12570]),
        ("min", [0, 60, 180]),
        ("max", [59, 119, 239]),
        ("count", [60, 60, 60]),
        ("first", [0, 60, 180]),
        ("last", [59, 119, 239]),
        ("p50", [29.5, 89.5, 209.5]),
    ],
)
def test_each_aggregation(hours, aggregation, values):
    answer = ask(hours, aggregation=aggregation)
    assert [row["value"] for row in answer.json["data"]] == values


def test_a_boolean_is_the_share_of_time_that_it_was_true(hours):
    assert [row["value"] for row in ask(hours, field="door").json["data"]] == [0.5, 0.5, 0.5]


def test_owner_staff_and_the_device_may_ask_and_nobody_else(hours, alice, bob, staff):
    path = f"/telemetry/{hours.id}/aggregated"
    for who, status in ((alice, 200), (staff, 200), (bob, 404)):
        assert who.api.get(path, field="t").status == status


def test_the_first_window_of_all_begins_with_time(sensor):
    sensor.api.post("/telemetry", {"data": {"t": 1}, "timestamp": "0001-01-01"})
    answer = ask(sensor, start_time="0001-01-01", window="30d")
    assert answer.status == 200
    assert answer.json["data"][0]["timestamp"] == "0001-01-01T00:00:00.000Z"


def test_a_window_of_more_than_can_be_read_is_refused(hours, settings):
    settings.AGGREGATE_SCAN_VALUES = 50
    answer = ask(hours, window="1h")
    assert answer.status == 400
    assert answer.fields() == {"window"}


def test_nothing_measured_is_an_empty_list(hours):
    assert ask(hours, field="nothing").json["data"] == []
    assert ask(hours, start_time="-50000d", window="1m", field="nothing").status == 200


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"field": ""}, {"field"}),
        ({"aggregation": "median"}, {"aggregation"}),
        ({"window": "59s"}, {"window"}),
        ({"window": "31d"}, {"window"}),
        ({"window": "0m"}, {"window"}),
        ({"window": "1y"}, {"window"}),
        ({"window": "9999999999w"}, {"window"}),
        (
            {"field": "", "aggregation": "x", "window": "x", "start_time": "x", "end_time": "y"},
            {"field", "aggregation", "window", "start_time", "end_time"},
        ),
    ],
)
def test_everything_wrong_is_named_at_once(hours, query, wrong):
    answer = ask(hours, **query)
    assert answer.status == 400
    assert answer.fields() == wrong


def test_a_bound_is_said_and_the_rest_can_be_had(hours, settings):
    whole = ask(hours, window="10m").json["data"]
    for name, bound in (("AGGREGATE_SCAN_VALUES", 25), ("AGGREGATE_WINDOWS_MAX", 4)):
        setattr(settings, name, bound)
        found, start, calls = [], str(NOON), 0
        while start is not None:
            answer = ask(hours, window="10m", start_time=start).json
            found += answer["data"]
            start = answer["next_start_time"]
            assert answer["truncated"] == (start is not None)
            calls += 1
        assert found == whole
        assert calls > 3
        settings.AGGREGATE_SCAN_VALUES = 500_000
