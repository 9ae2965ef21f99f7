"""The whole way of a reading past Redis and PostgreSQL, held to the plain reference."""

import itertools

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import RedisError

from devices.services import register_device
from events.models import Alert
from iotflow.lib.redis import breaker, forget_everything
from iotflow.lib.timeparse import now_ms, to_ms
from telemetry import commit
from telemetry.alerting import alerts, book
from telemetry.alerting.evaluation import Evaluation, decide
from telemetry.alerting.machine import Kind, Rule
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert
from telemetry.readings import Reading
from tests.alerting.test_machine import reference
from tests.conftest import close
from tests.races import at_once

_number = itertools.count(1)


def rule_for(owner, **fields):
    device, _ = register_device(owner=owner, fields={"name": f"n{next(_number)}"}, actor="")
    wanted = {"name": "r", "measurement": "t", "kind": Kind.ABOVE, "threshold": 30.0, **fields}
    rule = AlertRule.objects.create(owner=owner, device=device, **wanted)
    book.rules.reload()
    return device, rule


def group_of(device, readings, arrival):
    """Readings of (time, value) that arrive together."""
    return [
        Reading(device.pk, device.owner_id, time, 1000 * arrival + next(_number), {"t": value})
        for time, value in readings
    ]


def publish(group):
    """What is left to decide of a group that is stored."""
    commit.store(group)
    return commit.publish(group, [], book.checks(group, []))


def take(device, *readings, arrival):
    decide(publish(group_of(device, readings, arrival)))


def spans(rule):
    """When alerts of the rule were raised, and when they were cleared."""
    alerts.deliver_all()
    return [
        [to_ms(alert.raised_at), alert.resolved_at and to_ms(alert.resolved_at)]
        for alert in Alert.objects.filter(rule_id=rule.pk).order_by("raised_at")
    ]


GROUPS = st.tuples(
    st.integers(1, 20_000),  # after the arrival before
    st.lists(
        st.tuples(
            st.integers(-90_000, 50_000),  # the reading's time, from its arrival
            st.sampled_from([20.0, 27.5, 28.0, 29.0, 30.0, 30.5, 35.0]),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda reading: reading[0],
    ),
    st.sampled_from([False, False, False, True]),  # whether Redis begins anew before
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(  # late by 2 ms, as only the history knows: what is newer has come with it
    groups=[(1, [(0, 20.0)], False), (1, [(9, 20.0)], False), (5, [(1, 31.0), (5, 20.0)], True)],
    raise_after=0,
    clear_after=0,
    hysteresis=0.0,
    late=1,
)
@given(
    groups=st.lists(GROUPS, max_size=20),
    raise_after=st.sampled_from([0, 5, 30]),
    clear_after=st.sampled_from([0, 5]),
    hysteresis=st.sampled_from([0.0, 2.0]),
    late=st.sampled_from([1, 60]),
)
def test_alerts_are_those_of_the_reference(
    alice, groups, raise_after, clear_after, hysteresis, late
):
    device, rule = rule_for(
        alice.user,
        raise_after=raise_after,
        clear_after=clear_after,
        hysteresis=hysteresis,
        late_seconds=late,
    )
    arrived, arrival, used = [], now_ms(), set()
    for gap, readings, begins_anew in groups:
        arrival += gap
        if begins_anew:
            forget_everything()
        # A value that is written again for a time that Redis alone knew of would be looked at.
        group = [(arrival + off, value) for off, value in readings if arrival + off not in used]
        used |= {time for time, _ in group}
        arrived += [(arrival, time, value) for time, value in sorted(group)]
        take(device, *group, arrival=arrival)
    assert spans(rule) == reference(rule.condition(), arrived)
    rule.delete()


def test_what_waited_is_decided_in_the_order_it_came(alice):
    device, rule = rule_for(alice.user)
    now, waiting = now_ms(), Evaluation()
    for n, value in enumerate((31.0, 20.0, 32.0)):
        waiting._add(publish(group_of(device, [(now + n, value)], now + n)))
    waiting.decide()
    assert len(waiting) == 0
    assert spans(rule) == [[now, now + 1], [now + 2, None]]


def test_no_more_waits_than_there_is_room_for(alice, monkeypatch):
    monkeypatch.setattr("telemetry.alerting.evaluation.KEPT_MAX", 2)
    device, _ = rule_for(alice.user)
    now, waiting = now_ms(), Evaluation()
    for n in range(4):
        waiting._add(publish(group_of(device, [(now + n, 31.0)], now + n)))
    assert len(waiting) == 2


def test_a_rule_that_this_process_knows_as_it_was_decides_nothing(alice):
    device, _ = rule_for(alice.user)
    AlertRule.objects.update(version=1, threshold=50)  # by another process
    now = now_ms()
    take(device, (now, 31.0), arrival=now)
    assert not LiveAlert.objects.exists()
    AlertRule.objects.all().delete()
    take(device, (now + 1, 31.0), arrival=now + 1)
    assert not LiveAlert.objects.exists()


def test_processes_at_once_raise_one_alert(alice):
    device, _ = rule_for(alice.user)
    now = now_ms()
    due = [publish(group_of(device, [(now + n, 31.0)], now + n)) for n in range(8)]
    # Each decides for itself: nothing but the database is between them.
    at_once(8, lambda: Evaluation().decide(due.pop()))
    assert LiveAlert.objects.filter(is_open=True).count() == 1
    assert AlertState.objects.get().phase == "raised"


def test_a_batch_after_redis_began_anew_is_looked_at_whole(alice, monkeypatch):
    monkeypatch.setattr("telemetry.alerting.evaluation.PART", 3)
    device, rule = rule_for(alice.user)
    now = now_ms()
    values = [20.0, 31.0, 20.0, 33.0, 20.0, 31.0, 20.0, 35.0]
    group = group_of(device, reversed([(now + n, value) for n, value in enumerate(values)]), now)
    take(device, (now - 1, 20.0), arrival=now)
    forget_everything()
    decide(publish(group))
    assert [raised - now for raised, _ in spans(rule)] == [1, 3, 5, 7]


def test_what_redis_alone_had_seen_is_late_after_it_began_anew_too(alice):
    device, rule = rule_for(alice.user)
    now = now_ms()
    for n in range(3):
        take(device, (now + n, 20.0), arrival=now + n)
    assert AlertState.objects.get().last_ms == now  # the others went no further than Redis
    forget_everything()
    take(device, (now + 1, 31.0), arrival=now + 9)
    assert spans(rule) == []


def test_a_process_that_is_killed_before_it_decided_loses_no_alert(alice):
    device, rule = rule_for(alice.user)
    now = now_ms()
    take(device, (now, 20.0), arrival=now)
    publish(group_of(device, [(now + 1, 31.0)], now))  # and no more: it was not answered
    take(device, (now + 1, 31.0), arrival=now + 5)  # so it is sent again
    take(device, (now + 2, 20.0), arrival=now + 6)
    assert spans(rule) == [[now + 1, now + 2]]


def test_redis_that_was_away_knows_nothing_of_what_was_decided_meanwhile(alice):
    device, rule = rule_for(alice.user)
    now = now_ms()
    take(device, (now, 20.0), arrival=now)
    breaker.trip(RedisError())
    take(device, (now + 1, 31.0), arrival=now + 1)
    close(breaker)
    take(device, (now + 2, 20.0), arrival=now + 2)  # normal, for all that Redis knew
    assert spans(rule) == [[now + 1, now + 2]]


def test_a_rate_and_flapping_are_decided_by_what_was_before(alice):
    device, rate = rule_for(alice.user, kind=Kind.RATE, threshold=2.0)
    flapping = AlertRule.objects.create(
        owner=alice.user,
        device=device,
        measurement="t",
        kind=Kind.FLAPPING,
        threshold=2.0,
        within_seconds=60,
    )
    book.rules.reload()
    now = now_ms()
    for n, value in enumerate((1.0, 2.0, 1.0, 2.0, 9.0)):
        take(device, (now + 1000 * n, value), arrival=now + 1000 * n)
    assert spans(flapping) == [[now + 3000, None]]
    assert spans(rate) == [[now + 4000, None]]


def test_a_rule_is_found_by_device_whatever_others_there_are():
    rules = {n: {"t": [Rule(n, 0, 1, "t", Kind.ABOVE)]} for n in range(1000)}
    known = book.Book()
    known.devices = {device: [by] for device, by in rules.items()}
    now = now_ms()
    [check] = known.checks([Reading(7, 1, now, 1000 * now, {"t": 1, "u": 2})])
    assert check.rule.id == 7
    assert known.checks([Reading(7, 2, now, 1000 * now, {"t": 1})]) == []  # another's by now
    assert known.checks([Reading(7, 1, now, 1000 * now, {"t": "hot"})]) == []
