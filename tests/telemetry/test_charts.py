"""What a chart asks for: days of a time zone, gaps, and no more points than it can draw."""

import math
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib.timeparse import EARLIEST, LATEST, format_ms, now_ms, parse_ms
from telemetry.charts import auto_window, largest_triangles
from telemetry.rollups import Rolling
from telemetry.stores import rollup_store
from telemetry.windows import DAY, HOUR, Calendar

MINUTE = 60_000


def ms(text):
    return parse_ms(text, 0)


def starts(zone, length, start, stop):
    """Where windows begin, from the one that `start` is in to before `stop`."""
    calendar = Calendar(length, ZoneInfo(zone))
    found, at = [], calendar.bounds(ms(start))[0]
    while at < ms(stop):
        found.append(format_ms(at).replace(":00.000Z", ""))
        at = calendar.bounds(at)[1]
    return found


def test_a_day_has_23_or_25_hours_where_the_clocks_change():
    assert starts("Europe/Berlin", DAY, "2025-03-29", "2025-04-01") == [
        "2025-03-28T23:00",
        "2025-03-29T23:00",
        "2025-03-30T22:00",
        "2025-03-31T22:00",
    ]
    for day, hours in (("2025-03-30", 23), ("2025-10-26", 25)):
        calendar = Calendar(DAY, ZoneInfo("Europe/Berlin"))
        start, end = calendar.bounds(ms(f"{day}T12:00Z"))
        assert end - start == hours * HOUR
        by_hours = Calendar(HOUR, ZoneInfo("Europe/Berlin"))
        assert [by_hours.bounds(t) for t in range(start, end, HOUR)] == [
            (t, t + HOUR) for t in range(start, end, HOUR)
        ]


def test_shorter_windows_are_counted_from_local_midnight_on():
    assert starts("Europe/Berlin", 6 * HOUR, "2025-10-26T00:00", "2025-10-27T06:00") == [
        "2025-10-25T22:00",
        "2025-10-26T04:00",
        "2025-10-26T10:00",
        "2025-10-26T16:00",
        "2025-10-26T22:00",  # the hour that the day is longer
        "2025-10-26T23:00",
        "2025-10-27T05:00",
    ]
    assert starts("Asia/Kathmandu", DAY, "2025-01-01", "2025-01-02") == [
        "2024-12-31T18:15",
        "2025-01-01T18:15",
    ]


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00"),  # midnight is skipped
        ("America/Havana", "2024-11-03T12:00Z", "2024-11-03T04:00"),  # midnight is repeated
        ("Pacific/Apia", "2011-12-30T12:00Z", "2011-12-30T10:00"),  # a day is skipped
    ],
)
def test_days_whose_midnight_is_special(zone, start, expected):
    calendar = Calendar(DAY, ZoneInfo(zone))
    assert format_ms(calendar.bounds(ms(start))[0]).startswith(expected)


zones = st.sampled_from(
    ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"]
)
lengths = st.sampled_from([15 * MINUTE, HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY])
times = (
    st.integers(EARLIEST, LATEST)
    | st.sampled_from([EARLIEST, LATEST - HOUR, LATEST])
    | st.integers(ms("2000-01-01"), ms("2030-01-01"))
)


@given(zones, lengths, times)
def test_every_time_is_in_one_window_and_windows_follow_each_other(zone, length, time):
    calendar = Calendar(length, ZoneInfo(zone))
    start, end = calendar.bounds(time)
    assert start <= time < end
    assert calendar.bounds(start) == (start, end)
    assert calendar.bounds(end - 1) == (start, end)
    assert calendar.bounds(end)[0] == end


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(-1e308, 1e308)),
        max_size=80,
        unique_by=lambda p: p[0],
    ),
    st.integers(3, 40),
)
def test_few_enough_points_in_order_and_the_ends_among_them(points, most):
    points = sorted(points)
    chosen = largest_triangles(points, most)
    assert len(chosen) == min(len(points), most)
    assert chosen == sorted(set(chosen))
    if points:
        assert (chosen[0], chosen[-1]) == (0, len(points) - 1)


def test_a_peak_is_not_thinned_away():
    points = [(float(n), math.sin(n / 50)) for n in range(1000)]
    points[637] = (637.0, 9.0)
    points[100] = (100.0, -9.0)
    assert {100, 637} <= set(largest_triangles(points, 20))


@pytest.mark.parametrize(
    ("span", "points", "window"),
    [
        (HOUR, 500, "1m"),
        (3 * DAY, 500, "5m"),
        (30 * DAY, 500, "1h"),
        (365 * DAY, 500, "6h"),
        (3650 * DAY, 500, "7d"),
        (LATEST - EARLIEST, 3, "30d"),
    ],
)
def test_the_window_that_suits_a_range(span, points, window):
    assert auto_window(span, points) == window


@pytest.fixture
def month(sensor):
    """A reading an hour for ten days, rolled up, but for the fifth day."""
    first = now_ms() // DAY * DAY - 12 * DAY
    items = [
        {"data": {"t": n % 24, "state": "on"}, "timestamp": first + n * HOUR}
        for n in range(240)
        if n // 24 != 5
    ]
    assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
    progress = rollup_store().progress([sensor.id])[sensor.id]
    assert not Rolling(sensor.id, progress, math.inf, now_ms() + 2 * MINUTE).run()
    sensor.first = first
    return sensor


def ask(device, **query):
    query = {
        "start_time": str(device.first),
        "end_time": str(device.first + 10 * DAY - 1),
        "field": "t",
        **query,
    }
    return device.api.get(f"/telemetry/{device.id}/aggregated", **query)


@pytest.fixture
def sensor(sensor):
    class Sensor:
        id, api, first = sensor.id, sensor.api, 0

    return Sensor


def test_days_of_a_time_zone_and_what_is_cut_off_from_them(month):
    answer = ask(month, window="1d", timezone="Asia/Kathmandu", aggregation="count")
    assert answer.json["timezone"] == "Asia/Kathmandu"
    # 5:45 ahead, so that of the readings of the first day of UTC 18 are before midnight there.
    assert [row["count"] for row in answer.json["data"]] == [
        19,
        24,
        24,
        24,
        24,
        5,
        19,
        24,
        24,
        24,
        5,
    ]
    assert ask(month, window="1d").json["timezone"] == "UTC"
    utc = ask(month, window="1d", timezone="Etc/UTC").json["data"]
    assert utc == ask(month, window="1d").json["data"]


def test_gaps_can_be_had_as_gaps(month):
    left_out = ask(month, window="12h").json["data"]
    filled = ask(month, window="12h", fill="null").json["data"]
    assert (len(left_out), len(filled)) == (18, 20)
    assert [row for row in filled if row["count"]] == left_out
    assert filled[10] == {
        "timestamp": format_ms(month.first + 5 * DAY),
        "value": None,
        "count": 0,
    }


def test_windows_without_values_are_bounded_too(month, settings):
    settings.AGGREGATE_WINDOWS_MAX = 7
    found, start = [], str(month.first)
    while start is not None:
        answer = ask(month, window="12h", fill="null", start_time=start).json
        found += answer["data"]
        start = answer["next_start_time"]
        assert answer["truncated"] == (start is not None)
        assert len(answer["data"]) <= 7
    settings.AGGREGATE_WINDOWS_MAX = 100
    assert found == ask(month, window="12h", fill="null").json["data"]
    nothing = ask(month, window="1h", fill="null", start_time="0001-01-01", end_time="9999-12-31")
    assert nothing.json["truncated"]


def test_a_chart_has_no_more_points_than_it_asks_for(month):
    answer = ask(month, window="1h", points=20)
    assert len(answer.json["data"]) == 20
    whole = ask(month, window="1h").json["data"]
    assert all(row in whole for row in answer.json["data"])
    assert not answer.json["truncated"]
    with_gap = ask(month, window="1h", points=20, fill="null").json["data"]
    assert [row["timestamp"] for row in with_gap if row["value"] is None] == [
        format_ms(month.first + 5 * DAY)
    ]
    assert len(with_gap) <= 20
    assert ask(month, field="state", aggregation="last", points=20).json["data"] == []


def test_a_chart_may_leave_the_window_to_the_server(month):
    answer = ask(month, window="auto", points=100).json
    assert (answer["window"], len(answer["data"])) == ("1h", 100)
    assert ask(month, window="auto", start_time="-1h", end_time="now").json["window"] == "1m"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"timezone": "Mars/Olympus"}, {"timezone"}),
        ({"timezone": "../../etc/passwd"}, {"timezone"}),
        ({"timezone": "Europe/Berlin", "window": "7h"}, {"window"}),
        ({"timezone": "Europe/Berlin", "window": "36h"}, {"window"}),
        ({"fill": "0"}, {"fill"}),
        ({"points": "2"}, {"points"}),
        ({"points": "many"}, {"points"}),
        ({"points": "99999999"}, {"points"}),
        ({"window": "auto", "start_time": "x"}, {"start_time"}),
        (
            {"timezone": "x", "fill": "x", "points": "x", "window": "x"},
            {"timezone", "fill", "points", "window"},
        ),
    ],
)
def test_everything_wrong_is_named_at_once(sensor, query, wrong):
    answer = sensor.api.get(f"/telemetry/{sensor.id}/aggregated", field="t", **query)
    assert answer.status == 400
    assert answer.fields() == wrong
