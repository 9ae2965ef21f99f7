"""The machine of a rule, and what readings in any order of arrival make of it."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry.alerting.machine import (
    AHEAD_MS,
    CHANGES_MAX,
    Change,
    Kind,
    Rule,
    Stand,
    step,
)


def rule(**fields):
    return Rule(1, 0, 1, "t", **{"kind": Kind.ABOVE, "threshold": 30.0, **fields})


def walk(of, *values):
    """The changes and the last phase, of (time, value) one after the other."""
    stand, changes = Stand(), []
    for time, value in values:
        stand, change = step(of, stand, time, value)
        if change:
            changes.append((time, change))
    return changes, stand.phase


def test_a_breach_raises_and_what_is_fine_clears():
    changes, phase = walk(rule(), (1, 29), (2, 31), (3, 32), (4, 30))
    assert changes == [(2, Change.RAISED), (4, Change.CLEARED)]
    assert phase == "normal"


def test_the_band_neither_raises_nor_clears():
    changes, phase = walk(rule(hysteresis=2), (1, 29.5), (2, 31), (3, 29), (4, 30), (5, 28))
    assert changes == [(2, Change.RAISED), (5, Change.CLEARED)]
    assert phase == "normal"


def test_a_breach_has_to_last():
    of = rule(raise_after=10)
    assert walk(of, (0, 31), (9, 31)) == ([], "pending")
    assert walk(of, (0, 31), (9, 30), (10, 31)) == ([], "pending")
    assert walk(of, (0, 31), (9, 31), (10, 31)) == ([(10, Change.RAISED)], "raised")


def test_the_band_ends_what_was_pending():
    assert walk(rule(raise_after=10, hysteresis=2), (0, 31), (5, 29), (10, 31)) == ([], "pending")


def test_fine_has_to_last_before_it_clears():
    of = rule(clear_after=10)
    assert walk(of, (0, 31), (1, 0), (5, 31), (6, 0), (15, 0)) == ([(0, Change.RAISED)], "clearing")
    assert walk(of, (0, 31), (1, 0), (11, 0)) == (
        [(0, Change.RAISED), (11, Change.CLEARED)],
        "normal",
    )


def test_a_value_that_is_not_newer_changes_nothing():
    stand, _ = step(rule(), Stand(), 5, 31)
    assert step(rule(), stand, 5, 0) == (stand, None)
    assert step(rule(), stand, 4, 0) == (stand, None)


def test_levels_below_and_outside():
    below = rule(kind=Kind.BELOW, threshold=10.0, hysteresis=1.0)
    assert [below.level(v) for v in (9.9, 10, 10.9, 11)] == [2, 1, 1, 0]
    outside = rule(kind=Kind.OUTSIDE, low=10.0, high=20.0, hysteresis=1.0)
    assert [outside.level(v) for v in (9, 10, 11, 15, 19, 19.5, 20, 21)] == [2, 1, 0, 0, 0, 1, 1, 2]


def test_a_rate_is_of_two_values_and_either_way():
    of = rule(kind=Kind.RATE, threshold=2.0)
    assert walk(of, (0, 0), (1000, 2)) == ([], "normal")
    assert walk(of, (0, 0), (1000, -3))[0] == [(1000, Change.RAISED)]
    assert walk(of, (0, 0), (1000, 3), (2000, 3))[0][-1] == (2000, Change.CLEARED)


def test_flapping_is_too_many_changes_in_a_while():
    of = rule(kind=Kind.FLAPPING, threshold=2.0, hysteresis=1.0, within=10)
    steady = [(time, 1) for time in range(5)]
    assert walk(of, *steady) == ([], "normal")
    changes, _ = walk(of, (0, 1), (1, 0), (2, 1), (3, 1), (4, 0), (12, 0), (13, 0), (14, 0))
    assert changes == [(4, Change.RAISED), (12, Change.CLEARED)]  # those of 1 and 2 are over


def test_of_changes_no_more_are_remembered_than_a_rule_may_bear():
    of = rule(kind=Kind.FLAPPING, threshold=2.0, within=10**6)
    stand = Stand()
    for time in range(3 * CHANGES_MAX):
        stand, _ = step(of, stand, time, time % 2)
    assert len(stand.changes) == CHANGES_MAX + 1


def reference(of, arrived):
    """The same by the words of docs/alerts.md alone: late ones go, the rest is walked."""
    newest, alerts, is_open = None, [], False
    since_bad = since_good = None
    for arrival, time, value in arrived:
        if time > arrival + AHEAD_MS or time < arrival - of.late:
            continue
        if newest is not None and time <= newest:
            continue
        newest = time
        is_bad, is_good = value > of.threshold, value <= of.threshold - of.hysteresis
        since_bad = (time if since_bad is None else since_bad) if is_bad else None
        since_good = (time if since_good is None else since_good) if is_good else None
        if not is_open and is_bad and time - since_bad >= of.raise_after:
            is_open = True
            alerts.append([time, None])
            since_good = None
        elif is_open and is_good and time - since_good >= of.clear_after:
            is_open = False
            alerts[-1][1] = time
            since_bad = None
    return alerts


STEPS = st.tuples(
    st.integers(0, 20_000),  # after the arrival before
    st.integers(-90_000, 70_000),  # the reading's time, from its arrival
    st.sampled_from([20.0, 27.5, 28.0, 29.0, 30.0, 30.5, 35.0]),
)


@given(
    st.lists(STEPS, max_size=60),
    st.sampled_from([0, 5_000, 30_000]),
    st.sampled_from([0, 5_000, 30_000]),
    st.sampled_from([0.0, 2.0]),
    st.sampled_from([1_000, 60_000, 300_000]),
)
def test_alerts_are_those_of_a_plain_reference(steps, raise_after, clear_after, hysteresis, late):
    of = rule(raise_after=raise_after, clear_after=clear_after, hysteresis=hysteresis, late=late)
    arrived, arrival = [], 1_000_000
    for gap, offset, value in steps:
        arrival += gap
        arrived.append((arrival, arrival + offset, value))
    stand, alerts = Stand(), []
    for arrival, time, value in arrived:
        if not of.takes(time, arrival):
            continue
        stand, change = step(of, stand, time, value)
        if change == Change.RAISED:
            alerts.append([time, None])
        elif change == Change.CLEARED:
            alerts[-1][1] = time
    assert alerts == reference(of, arrived)


def test_what_is_muted_is_not_looked_at():
    assert not rule(muted_until=100).takes(99, 99)
    assert rule(muted_until=100).takes(100, 100)
    assert rule(muted_from=50, muted_until=100).takes(49, 49)
    assert not rule(muted_from=50, muted_until=100).takes(50, 50)
