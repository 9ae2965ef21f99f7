"""Which partition a time is in, whatever layouts there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotflow.lib.timeparse import EARLIEST, LATEST
from telemetry.stores.buckets import (
    DAY_MS,
    DAYS,
    VERSIONS_MAX,
    WIDTHS,
    Layout,
    Layouts,
    State,
)

TODAY = 20_000
NOON = TODAY * DAY_MS + DAY_MS // 2
times = st.integers(EARLIEST, LATEST)
layouts = st.builds(
    Layout,
    version=st.integers(1, VERSIONS_MAX),
    hours=st.sampled_from(WIDTHS),
    first_day=st.just(TODAY),
)


def changed(**kwargs) -> Layouts:
    return Layouts((Layout(1, 6, TODAY + 2, **kwargs),))


@given(layouts, times)
def test_a_partition_holds_its_times_and_is_one_of_its_day(layout, time):
    partition = layout.partition(time)
    first, last = layout.bounds(partition)
    assert first <= time <= last
    assert last - first == layout.hours * 3_600_000 - 1
    assert partition in layout.partitions(time // DAY_MS)
    assert len(layout.partitions(time // DAY_MS)) == 24 // layout.hours
    assert partition < 2**31


@given(layouts, layouts, times, times)
def test_no_two_versions_share_a_partition(one, other, time, another):
    if one.version != other.version:
        assert one.partition(time) != other.partition(another)
    assert one.partition(time) != DAYS.partition(another)


@given(layouts, times)
def test_the_end_of_a_partition_is_found_by_its_number(layout, time):
    known = Layouts((layout,))
    for place in (layout, DAYS):
        partition = place.partition(time)
        assert known.end_of(partition) == place.bounds(partition)[1]


def test_without_a_layout_a_partition_is_a_day():
    assert Layouts().to_write(NOON) == [TODAY]
    assert Layouts().to_read(NOON) == TODAY
    assert list(Layouts().of_day(TODAY, EARLIEST, LATEST, descending=True)) == [TODAY]


@pytest.mark.parametrize(
    ("state", "written", "read"),
    [
        (State.KEPT, [0], 0),
        (State.COPYING, [0, 1], 0),
        (State.READING, [0, 1], 1),
        (State.DROPPING, [1], 1),
        (State.DONE, [1], 1),
    ],
)
def test_a_day_before_the_first_is_where_the_state_says(state, written, read):
    known = changed(state=state)
    assert [layout.version for layout in known.writing(TODAY)] == written
    assert known.reading(TODAY).version == read
    assert [layout.version for layout in known.writing(TODAY + 2)] == [1]
    assert known.reading(TODAY + 2).version == 1


def test_the_parts_of_a_day_come_in_the_order_asked_for_and_only_those_in_the_range():
    known = changed(state=State.DONE)
    start = NOON - DAY_MS // 4  # the second of four parts
    rising = list(known.of_day(TODAY, start, NOON, descending=False))
    assert [known.end_of(part) + 1 for part in rising] == [NOON, NOON + DAY_MS // 4]
    assert list(known.of_day(TODAY, start, NOON, descending=True)) == rising[::-1]


def test_while_days_are_moved_both_places_are_everywhere():
    known = changed(state=State.COPYING)
    assert len(list(known.of_day(TODAY, EARLIEST, LATEST, descending=True))) == 1
    both = known.of_day(TODAY, EARLIEST, LATEST, descending=True, everywhere=True)
    assert len(list(both)) == 1 + 4
