"""The whole way of a reading past Redis and PostgreSQL, held to the plain reference."""

import itertools
import threading

from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.services import register_device
from events.models import Alert
from iotflow.lib.redis import forget_everything
from iotflow.lib.timeparse import now_ms, to_datetime, to_ms
from telemetry import commit
from telemetry.alerting import alerts, book
from telemetry.alerting.evaluation import decide, evaluation
from telemetry.alerting.machine import Kind, Rule
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert
from telemetry.readings import Reading
from tests.alerting.test_machine import STEPS, reference

_number = itertools.count(1)


def rule_for(owner, **fields):
    device, _ = register_device(owner=owner, fields={"name": f"n{next(_number)}"}, actor="")
    wanted = {"name": "r", "measurement": "t", "kind": Kind.ABOVE, "threshold": 30.0, **fields}
    rule = AlertRule.objects.create(owner=owner, device=device, **wanted)
    book.shelf.reload()
    return device, rule


def take(device, *readings, arrival):
    """A group of (time, value) that arrives then."""
    group = [
        Reading(device.pk, device.owner_id, time, 1000 * arrival + n, {"t": value})
        for n, (time, value) in enumerate(readings)
    ]
    decide(commit.publish(group, [], book.checks(group, [])))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(STEPS, max_size=25),
    raise_after=st.sampled_from([0, 5, 30]),
    clear_after=st.sampled_from([0, 5]),
    hysteresis=st.sampled_from([0.0, 2.0]),
    late=st.sampled_from([1, 60]),
)
def test_alerts_are_those_of_the_reference(
    alice, steps, raise_after, clear_after, hysteresis, late
):
    device, rule = rule_for(
        alice.user,
        raise_after=raise_after,
        clear_after=clear_after,
        hysteresis=hysteresis,
        late_seconds=late,
    )
    arrived, arrival = [], now_ms()
    for gap, offset, value in steps:
        arrival += gap
        arrived.append((arrival, arrival + offset, value))
        take(device, (arrival + offset, value), arrival=arrival)
    alerts.deliver_all()
    found = [
        [to_ms(alert.raised_at), alert.resolved_at and to_ms(alert.resolved_at)]
        for alert in Alert.objects.filter(rule_id=rule.pk).order_by("raised_at")
    ]
    assert found == reference(rule.condition(), arrived)
    rule.delete()


def test_what_waits_is_decided_in_the_order_it_came(alice):
    device, _ = rule_for(alice.user)
    now = now_ms()
    for n, value in enumerate((31.0, 20.0, 32.0)):
        take(device, (now + n, value), arrival=now + n)
    [alert] = LiveAlert.objects.filter(is_open=True)
    assert alert.document["raised_at"] == to_datetime(now + 2).isoformat()
    assert len(evaluation) == 0


def test_many_threads_raise_one_alert(alice):
    device, _ = rule_for(alice.user)
    now = now_ms()

    def one(n: int) -> None:
        take(device, (now + n, 31.0), arrival=now + n)
        connections.close_all()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert LiveAlert.objects.filter(is_open=True).count() == 1
    assert AlertState.objects.count() == 1


def test_a_rule_that_this_process_knows_as_it_was_decides_nothing(alice):
    device, _ = rule_for(alice.user)
    AlertRule.objects.update(version=1, threshold=50)  # by another process
    now = now_ms()
    take(device, (now, 31.0), arrival=now)
    assert not LiveAlert.objects.exists()
    AlertRule.objects.all().delete()
    take(device, (now + 1, 31.0), arrival=now + 1)
    assert not LiveAlert.objects.exists()


def test_a_batch_after_redis_began_anew_is_looked_at_whole(alice):
    device, rule = rule_for(alice.user)
    now = now_ms()
    group = [
        Reading(device.pk, device.owner_id, now + n, 1000 * now + n, {"t": value})
        for n, value in enumerate((20.0, 31.0, 20.0, 33.0))
    ]
    commit.store(group)
    forget_everything()
    decide(commit.publish(group, [], book.checks(group, [])))
    alerts.deliver_all()
    assert Alert.objects.filter(rule_id=rule.pk).count() == 2


def test_a_rule_is_found_by_device_whatever_others_there_are():
    rules = {n: {"t": [Rule(n, 0, 1, "t", Kind.ABOVE)]} for n in range(1000)}
    known = book.Book()
    known.devices.update(rules)
    now = now_ms()
    [check] = known.checks([Reading(7, 1, now, 1000 * now, {"t": 1, "u": 2})])
    assert check.rule.id == 7
    assert known.checks([Reading(7, 2, now, 1000 * now, {"t": 1})]) == []  # another's by now
    assert known.checks([Reading(7, 1, now, 1000 * now, {"t": "hot"})]) == []
