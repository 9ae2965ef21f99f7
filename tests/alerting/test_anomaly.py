"""What is usual and what is not: the model by itself, on real readings, and through the stores."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.models import Alert
from iotflow.lib.timeparse import to_datetime
from telemetry import clock, commit
from telemetry.alerting import rollup
from telemetry.alerting.anomaly import CLIP, LEVEL_FADING, SLOT_FADING, Usual
from telemetry.alerting.machine import SCORE_MAX, Kind, Rule
from telemetry.alerting.models import AlertRule, AlertState
from telemetry.readings import Reading
from telemetry.windows import DAY, HOUR
from tests.alerting import water_flow

MINUTE = 60_000


def learned(values, usual=None):
    """A model after these hours, from the first on, and the verdicts on them."""
    usual = usual or Usual.of(HOUR, None)
    return usual, [usual.judge(hour, value) for hour, value in enumerate(values)]


def daily(days):
    """By day twenty more than by night, and a little different every time."""
    for hour in range(24 * days):
        yield 50 + 10 * math.copysign(1, math.sin(math.tau * (hour + 0.5) / 24)) + hour % 5 / 10


# --- The model ------------------------------------------------------------------------------------
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=150), st.integers(0, 149))
def test_a_model_that_was_put_away_goes_on_as_if_it_never_was(values, after):
    _, at_once = learned(values)
    usual = Usual.of(HOUR, None)
    verdicts = []
    for hour, value in enumerate(values):
        if hour == after:
            usual = Usual.of(HOUR, json.loads(json.dumps(usual.state)))
        verdicts.append(usual.judge(hour, value))
    assert verdicts == at_once


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=80, max_size=120))
def test_no_number_is_too_much_for_it(values):
    usual, verdicts = learned(values)
    for verdict in filter(None, verdicts):
        assert 0 <= verdict.score <= SCORE_MAX
        assert all(map(math.isfinite, verdict))
        assert verdict.spread > 0
    json.dumps(usual.state, allow_nan=False)


def test_nothing_is_judged_before_it_has_seen_three_days():
    _, verdicts = learned(daily(4))
    assert verdicts[:72] == [None] * 72
    assert None not in verdicts[72:]


def test_what_is_usual_by_day_is_not_by_night():
    by_day, by_night = (hour + 24 * 10 for hour in (6, 18))
    usual, _ = learned(daily(10))
    assert Usual.of(HOUR, usual.state).judge(by_day, 60).score < 3
    assert Usual.of(HOUR, usual.state).judge(by_night, 60).score > 6
    assert Usual.of(HOUR, usual.state).judge(by_night, 40).score < 3


def test_what_is_anomalous_is_hardly_learned_from():
    usual, _ = learned(daily(10))
    untouched = Usual.of(HOUR, usual.state)
    verdict = usual.judge(240, 1e9)
    bound = CLIP * verdict.spread * (LEVEL_FADING + SLOT_FADING)
    before, after = untouched.judge(264, 50), usual.judge(264, 50)
    assert verdict.score > 1000
    assert abs(after.expected - before.expected) <= bound
    assert after.spread < 2 * verdict.spread


def test_what_stays_is_usual_in_the_end():
    usual, _ = learned(daily(10))
    scores = [usual.judge(240 + hour, value + 100).score for hour, value in enumerate(daily(20))]
    assert min(scores[:6]) > 6
    assert max(scores[-24:]) < 3


def test_what_hardly_ever_moves_may_move_a_little():
    usual, _ = learned([20.0] * 200)
    assert Usual.of(HOUR, usual.state).judge(200, 20.05).score < 6
    assert Usual.of(HOUR, usual.state).judge(200, 21).score > 6


def test_a_missing_hour_shifts_no_other():
    usual, _ = learned(daily(10))
    values = list(daily(12))
    later = [usual.judge(hour, values[hour]) for hour in range(259, 24 * 12)]
    assert max(verdict.score for verdict in later) < 3


def test_days_have_a_week_for_their_season():
    usual = Usual.of(DAY, None)
    for day in range(70):
        usual.judge(day, 100 if day % 7 < 5 else 20)
    assert Usual.of(DAY, usual.state).judge(75, 100).score > 6
    assert usual.judge(75, 20).score < 3


# --- Real readings --------------------------------------------------------------------------------
def test_the_table_of_the_documents_is_what_is_found():
    text = Path("docs/alerts.md").read_text()
    lines = list(water_flow.table())
    assert [str(line) for line in lines if str(line) not in text] == []
    anomalies = [line for line in lines if "anomaly" in line.rule]
    assert all(line.found >= 3 for line in anomalies)


def rule_about(alice, thing, **fields):
    body = {"name": "leak", "kind": "anomaly", "measurement": "flow", "threshold": 6}
    about = {"device_id": thing.device.pk, "aggregation": "mean", "window": "1h"}
    answer = alice.api.post("/alert-rules", {**body, **about, **fields})
    assert answer.status == 201, answer.text
    return AlertRule.objects.get(pk=answer.json["rule"]["id"])


def write(thing, hours):
    device = thing.device
    commit.store(
        [
            Reading(
                device.pk, device.owner_id, one.time - HOUR, clock.written(), {"flow": one.value}
            )
            for one in hours
        ]
    )


def test_a_rule_finds_in_the_stores_what_the_model_finds_by_itself(alice, sensor, look):
    """It is looked at once in five days, as if by one worker after the other."""
    hours = water_flow.flow()
    rule = rule_about(alice, sensor)
    AlertRule.objects.update(begun_at=to_datetime(hours[0].time - HOUR))
    write(sensor, hours)
    for now in range(hours[0].time, hours[-1].time + 6 * DAY, 5 * DAY):
        look(sensor, now)
    of = Rule(1, 0, 1, "flow", Kind.ANOMALY, threshold=6)
    expected = water_flow.alerts(of, water_flow.judged(hours))
    found = Alert.objects.filter(rule_id=rule.pk).order_by("raised_at")
    assert [(one.raised_at, one.resolved_at) for one in found] == [
        tuple(map(to_datetime, alert)) for alert in expected
    ]
    assert len(expected) >= 3


def test_a_new_rule_learns_from_what_was_there_and_says_why(alice, sensor, look):
    """In the past it raises nothing, however anomalous that was."""
    hours = water_flow.flow()
    last = water_flow.STRETCHES[2][1]
    now = hours[last + 9].time
    past, then = [one for one in hours if one.time <= now], now + HOUR
    rule = rule_about(alice, sensor)
    AlertRule.objects.update(begun_at=to_datetime(now))
    write(sensor, [*past, past[-1]._replace(time=then, value=24.3)])
    look(sensor, then + 11 * MINUTE)
    [alert] = Alert.objects.filter(rule_id=rule.pk)
    raised = alert.payload["raised"]
    assert alert.raised_at == to_datetime(then)
    assert (raised["value"], raised["score"] > 6) == (24.3, True)
    assert abs(raised["value"] - raised["expected"]) == pytest.approx(
        raised["score"] * raised["spread"]
    )
    assert alert.message == (
        f"sensor: hourly mean of flow is 24.3, where {raised['expected']:g} ± "
        f"{raised['spread']:.2g} is usual: a score of {raised['score']:.3g}"
    )


def test_two_workers_learn_from_nothing_twice(alice, sensor, look, monkeypatch):
    """One that read how far it was before the other got on goes by what is so by then."""
    hours = water_flow.flow()[:80]
    rule_about(alice, sensor)
    AlertRule.objects.update(begun_at=to_datetime(hours[0].time - HOUR))
    write(sensor, hours)
    look(sensor, hours[-1].time + 11 * MINUTE)
    before = AlertState.objects.get().usual
    compare = rollup._compare

    def from_the_beginning(rule, devices, ranges, new):
        ranges = {pk: (hours[0].time - HOUR, stop) for pk, (_, stop) in ranges.items()}
        return compare(rule, devices, ranges, set(ranges))

    monkeypatch.setattr(rollup, "_compare", from_the_beginning)
    write(sensor, [hours[-1]._replace(time=hours[-1].time + HOUR)])
    look(sensor, hours[-1].time + HOUR + 11 * MINUTE)
    assert AlertState.objects.get().usual["seen"] == before["seen"] + 1


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"aggregation": "", "window": ""}, {"aggregation"}),
        ({"threshold": None}, {"threshold"}),
        ({"threshold": 0.5}, {"threshold"}),
        ({"threshold": 1e7}, {"threshold"}),
        ({"hysteresis": 7}, {"hysteresis"}),
        ({"low": 1}, {"low"}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(alice, sensor, fields, wrong):
    body = {"name": "leak", "kind": "anomaly", "measurement": "flow", "threshold": 6}
    about = {"device_id": sensor.device.pk, "aggregation": "mean", "window": "1h"}
    answer = alice.api.post("/alert-rules", {**body, **about, **fields})
    assert (answer.status, answer.fields()) == (400, wrong)
