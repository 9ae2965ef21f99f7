"""Times that come each week, against the clock on the wall."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib.timeparse import to_datetime, to_ms
from telemetry.alerting.weekly import DAYS, MINUTE, parse
from telemetry.windows import HOUR

ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe")
minutes = st.integers(0, 1439)
days = st.integers(0, 6)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def parts(draw):
    """Text, and whether it holds at a local time, worked out in another way."""
    start, end = draw(minutes), draw(st.integers(0, 1440))
    end = end if end != start else end + 1
    first, last = draw(days), draw(days)
    on = {(first + n) % 7 for n in range((last - first) % 7 + 1)}
    text = f"{DAYS[first]}-{DAYS[last]} {clock(start)}-{clock(end)}"

    def holds(local: datetime) -> bool:
        minute, today = 60 * local.hour + local.minute, local.weekday()
        if start < end:
            return today in on and start <= minute < end
        return (today in on and minute >= start) or ((today - 1) % 7 in on and minute < end)

    return text, holds


@given(
    st.lists(parts(), min_size=1, max_size=3),
    st.sampled_from(ZONES),
    st.datetimes(datetime(1971, 1, 1), datetime(2036, 12, 30)),
)
def test_it_holds_when_the_clock_on_the_wall_says_so(found, zone, moment):
    weekly = parse(", ".join(text for text, _ in found), zone)
    time = to_ms(moment.replace(tzinfo=ZoneInfo("UTC")))
    local = to_datetime(time).astimezone(ZoneInfo(zone))
    assert weekly.meets(time, time + 1) == any(holds(local) for _, holds in found)


@given(
    parts(),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 12, 30)),
    st.integers(1, 24 * 60),
)
def test_a_span_meets_it_when_any_minute_of_the_span_does(found, moment, length):
    text, holds = found
    moment = moment.replace(second=0, microsecond=0, tzinfo=ZoneInfo("UTC"))
    start = to_ms(moment)
    wanted = any(holds(moment + timedelta(minutes=n)) for n in range(length))
    assert parse(text, "UTC").meets(start, start + length * MINUTE) == wanted


def test_without_days_it_is_every_day_and_a_whole_one_ends_at_24():
    for text in ("00:00-24:00", "Mon-Sun 00:00-24:00", "sat-fri 12:00-24:00,00:00-12:00"):
        assert all(parse(text, "UTC").meets(n * HOUR, n * HOUR + 1) for n in range(24 * 8))


def test_nothing_is_never():
    assert parse("", "UTC") is None


@pytest.mark.parametrize(
    "text",
    [
        *("always", "Mon", "Mon 22:00", "Mon 9:00-10:00", "Monday 09:00-10:00", "Mon-09:00-10:00"),
        *(
            "24:00-25:00",
            "09:00-24:01",
            "09:60-10:00",
            "09:00-09:00",
            "09:00-10:00,",
            "٠٩:00-10:00",
        ),
    ],
)
def test_what_is_no_time_of_a_week_is_refused(text):
    with pytest.raises(ValueError, match=r"form|time of a day"):
        parse(text, "UTC")
