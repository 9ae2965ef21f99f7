import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib.timeparse import EARLIEST, LATEST, TEXT_MAX, NotATime, format_ms, parse_ms

NOW = 1_795_300_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-12-04T17:30:00.000Z", 1_733_333_400_000),
        ("2024-12-04T17:30:00", 1_733_333_400_000),
        ("2024-12-04T18:30:00+01:00", 1_733_333_400_000),
        ("2024-12-04T18:30:00 01:00", 1_733_333_400_000),  # an unescaped plus
        ("2024-12-04", 1_733_270_400_000),
        ("1733333400", 1_733_333_400_000),
        ("1733333400.25", 1_733_333_400_250),
        ("1733333400000", 1_733_333_400_000),
        (1_733_333_400, 1_733_333_400_000),
        (1_733_333_400_000, 1_733_333_400_000),
        (1_733_333_400_000_000, 1_733_333_400_000),
        (1_733_333_400_000_000_000, 1_733_333_400_000),
        ("now", NOW),
        ("-30s", NOW - 30_000),
        ("-15m", NOW - 900_000),
        ("-1h", NOW - 3_600_000),
        ("-7d", NOW - 604_800_000),
        ("-2w", NOW - 1_209_600_000),
    ],
)
def test_every_form_of_a_time_is_understood(text, ms):
    assert parse_ms(text, NOW) == ms


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "-5", "1h", "-1y", "2024-13-01", "²", True, None, [], 1e300, "-" * 99, "٣"],
)
def test_what_is_no_time_is_refused(text):
    if text == "-5":  # an epoch before 1970
        assert parse_ms(text, NOW) == -5000
        return
    with pytest.raises(NotATime):
        parse_ms(text, NOW)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0001-01-01T00:00:00+14:00", EARLIEST),
        ("9999-12-31T23:59:59-14:00", LATEST),
    ],
)
def test_what_lies_outside_the_years_is_clipped_to_them(text, ms):
    assert parse_ms(text, NOW) == ms
    assert format_ms(ms)


@pytest.mark.parametrize("part", ["T", "T ", " 01", "9", " ", "-1h"])
def test_a_text_of_any_length_is_refused_at_once(part):
    begun = time.perf_counter()
    with pytest.raises(NotATime):
        parse_ms(part * (2**20 // len(part)), NOW)
    assert time.perf_counter() - begun < 1


def test_the_longest_text_is_still_read():
    assert parse_ms("now".center(TEXT_MAX), NOW) == NOW
    with pytest.raises(NotATime):
        parse_ms("now".center(TEXT_MAX + 1), NOW)


@given(st.integers(EARLIEST, LATEST))
def test_what_is_formatted_parses_to_the_same_instant(ms):
    assert parse_ms(format_ms(ms), NOW) == ms


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans())
def test_no_input_does_anything_else_than_parse_or_be_refused(value):
    with suppress(NotATime):
        assert EARLIEST <= parse_ms(value, NOW) <= LATEST
