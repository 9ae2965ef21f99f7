"""Rules about whole hours and days, from readings through rollups to alerts."""

import pytest

from events.models import Alert
from iotflow.lib.timeparse import format_ms, to_datetime
from telemetry import clock, commit
from telemetry.alerting import rollup
from telemetry.alerting.models import AlertRule, AlertState
from telemetry.readings import Reading
from telemetry.windows import DAY, HOUR

NOON = 1_733_313_600_000  # 2024-12-04T12:00Z
MINUTE = 60_000
HOURLY = {"name": "r", "measurement": "t", "kind": "above", "threshold": 30, "window": "1h"}


@pytest.fixture
def make_rule(alice, sensor):
    def make(**fields):
        about = {"device_id": sensor.device.pk, "aggregation": "mean"}
        answer = alice.api.post("/alert-rules", {**HOURLY, **about, **fields})
        assert answer.status == 201, answer.text
        AlertRule.objects.update(begun_at=to_datetime(NOON - HOUR))
        return AlertRule.objects.get(pk=answer.json["rule"]["id"])

    return make


def write(thing, *values):
    device = thing.device
    commit.store(
        [
            Reading(device.pk, device.owner_id, time, clock.written(), {"t": value})
            for time, value in values
        ]
    )


def found(rule):
    rows = Alert.objects.filter(rule_id=rule.pk).order_by("raised_at")
    return [(alert.raised_at, alert.resolved_at) for alert in rows]


def test_the_mean_of_an_hour_raises_once_the_hour_is_rolled_up(sensor, make_rule, look):
    rule = make_rule()
    write(sensor, (NOON, 20), (NOON + MINUTE, 50), (NOON + HOUR, 20))
    look(sensor, NOON + HOUR)
    assert found(rule) == []
    look(sensor, NOON + HOUR + 11 * MINUTE)
    assert found(rule) == [(to_datetime(NOON + HOUR), None)]
    assert Alert.objects.get().message == "sensor: hourly mean of t is 35, above 30"
    look(sensor, NOON + 2 * HOUR + 11 * MINUTE)
    assert found(rule) == [(to_datetime(NOON + HOUR), to_datetime(NOON + 2 * HOUR))]


def test_a_day_is_looked_at_by_what_is_asked_of_it(sensor, make_rule, look):
    rule = make_rule(aggregation="count", kind="below", threshold=3, window="1d")
    midnight = NOON // DAY * DAY + DAY
    write(sensor, (NOON, 1), (NOON + MINUTE, 1), (midnight, 1))
    look(sensor, midnight + 11 * MINUTE)
    assert found(rule) == [(to_datetime(midnight), None)]


def test_each_value_is_nothing_to_such_a_rule(sensor, make_rule):
    make_rule()
    sensor.api.post("/telemetry/batch", {"readings": [{"data": {"t": 99}}]})
    assert not AlertState.objects.exists()


def test_what_comes_late_neither_raises_nor_clears(sensor, make_rule, look):
    rule = make_rule()
    write(sensor, (NOON, 20), (NOON + HOUR, 20))
    look(sensor, NOON + HOUR + 11 * MINUTE)
    write(sensor, (NOON + MINUTE, 900))
    look(sensor, NOON + 2 * HOUR + 11 * MINUTE)
    assert found(rule) == []


def test_hours_from_before_the_rule_and_of_when_it_is_muted_are_not_looked_at(
    alice, sensor, make_rule, look
):
    rule = make_rule()
    muted = {"muted_from": format_ms(NOON + HOUR), "muted_until": format_ms(NOON + 2 * HOUR)}
    assert alice.api.patch(f"/alert-rules/{rule.pk}", muted).status == 200
    write(sensor, (NOON - 2 * HOUR, 99), (NOON, 99), (NOON + HOUR, 1), (NOON + 2 * HOUR, 1))
    look(sensor, NOON + 3 * HOUR + 11 * MINUTE)
    assert found(rule) == [(to_datetime(NOON + HOUR), to_datetime(NOON + 3 * HOUR))]


def test_a_rule_of_the_version_before_goes_on_too_when_it_is_renamed(
    alice, sensor, make_rule, look
):
    rule = make_rule()
    AlertRule.objects.update(begun_at=None, updated_at=to_datetime(NOON - HOUR))
    assert alice.api.patch(f"/alert-rules/{rule.pk}", {"name": "hot"}).status == 200
    write(sensor, (NOON, 99))
    look(sensor, NOON + HOUR + 11 * MINUTE)
    assert found(rule) == [(to_datetime(NOON + HOUR), None)]


def test_an_hour_of_which_a_part_is_muted_each_week_is_not_looked_at(
    alice, sensor, make_rule, look
):
    rule = make_rule()
    noon = to_datetime(NOON).strftime("%a %H:30-%H:45")
    assert alice.api.patch(f"/alert-rules/{rule.pk}", {"muted_weekly": noon}).status == 200
    write(sensor, (NOON, 99), (NOON + HOUR, 99))
    look(sensor, NOON + 2 * HOUR + 11 * MINUTE)
    assert found(rule) == [(to_datetime(NOON + 2 * HOUR), None)]


def test_it_goes_on_where_it_was(sensor, make_rule, look, django_assert_max_num_queries):
    make_rule()
    write(sensor, (NOON, 20), (NOON + HOUR, 20))
    look(sensor, NOON + HOUR + 11 * MINUTE)
    with django_assert_max_num_queries(2):  # rules with their device, and states
        assert rollup.look_at_rollups() == 0


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"window": ""}, {"window"}),
        ({"aggregation": ""}, {"aggregation"}),
        ({"aggregation": "p95"}, {"aggregation"}),
        ({"window": "5m"}, {"window"}),
        ({"kind": "rate"}, {"aggregation"}),
        ({"muted_from": "2026-01-01T00:00:00Z"}, {"muted_until"}),
    ],
)
def test_what_makes_no_sense_is_refused(alice, sensor, fields, wrong):
    about = {"device_id": sensor.device.pk, "aggregation": "mean"}
    answer = alice.api.post("/alert-rules", {**HOURLY, **about, **fields})
    assert (answer.status, answer.fields()) == (400, wrong)


def test_a_rule_that_becomes_one_of_another_kind_has_no_window(alice, make_rule):
    rule = make_rule()
    changes = {"kind": "rate", "window": ""}
    changed = alice.api.patch(f"/alert-rules/{rule.pk}", changes).json["rule"]
    assert (changed["aggregation"], changed["window"]) == ("", "")
