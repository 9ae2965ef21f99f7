"""Stores are killed while alerts are raised, acknowledged and cleared: none is lost or doubled."""

import time

import pytest
from django.db import connections

from events import outbox
from events.models import Alert, EventLog, Outbox
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import now_ms
from telemetry.alerting import alerts
from telemetry.alerting.evaluation import evaluation
from telemetry.alerting.models import LiveAlert
from tests.services import eventually, hung, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
RULE = {"name": "hot", "measurement": "t", "kind": "above", "threshold": 30}


def say(thing, value):
    """Submitted until it is taken: whoever finds out that a store is away may be refused."""
    message = {"data": {"t": value}, "timestamp": now_ms()}
    eventually(lambda: thing.api.post("/telemetry", message).status == 201, seconds=5)


@pytest.fixture
def rule(alice, sensor):
    answer = alice.api.post("/alert-rules", {**RULE, "device_id": sensor.device.pk})
    assert answer.status == 201, answer.text
    say(sensor, 20)
    return answer.json["rule"]["id"]


def delivered() -> bool:
    try:
        alerts.deliver_all()
        outbox.relay_all()
    except StoreAway:
        return False
    return not Outbox.objects.exists()


def history(rule):
    return [
        [entry["what"] for entry in alert.history]
        for alert in Alert.objects.filter(rule_id=rule).order_by("raised_at")
    ]


def kinds():
    found = EventLog.objects.filter(kind__startswith="alert.").order_by("time")
    return list(found.values_list("kind", flat=True))


@pytest.mark.parametrize("away", [killed, hung])
def test_mongo_away_loses_no_transition(away, alice, sensor, rule):
    with away("mongo"):
        say(sensor, 31)
        eventually(lambda: LiveAlert.objects.filter(is_open=True).exists())
        [live] = LiveAlert.objects.all()
        path = f"/alerts/{live.pk}"
        assert alice.api.post(f"{path}/acknowledge", {}).status == 200
        assert alice.api.post(f"{path}/comment", {"text": "on my way"}).status == 200
        assert alice.api.get("/alerts").status == 503
        say(sensor, 20)
        eventually(lambda: not LiveAlert.objects.filter(is_open=True).exists())
        assert alice.api.post(f"{path}/resolve").status == 409
    eventually(delivered)
    assert history(rule) == [["raised", "acknowledged", "commented", "cleared"]]
    assert kinds() == ["alert.raised", "alert.acknowledged", "alert.commented", "alert.cleared"]
    assert not LiveAlert.objects.exists()


@pytest.mark.parametrize("away", [killed, hung])
def test_postgres_away_refuses_no_submission_and_all_of_them_are_looked_at(
    away, alice, sensor, rule, impatient
):
    try:
        with away("postgres"):
            for value in (31, 32, 20, 33):
                say(sensor, value)
                time.sleep(0.3)  # beyond several leases of the cached keys
            assert len(evaluation) > 0
    finally:
        connections.close_all()  # the test's own, which died with the server
    eventually(lambda: len(evaluation) == 0)
    eventually(delivered)
    assert history(rule) == [["raised", "cleared"], ["raised"]]


@pytest.mark.parametrize("away", [killed, hung])
def test_redis_away_is_made_up_for(away, alice, sensor, rule):
    with away("redis"):
        for value in (31, 32, 20, 33):
            say(sensor, value)
        [live] = LiveAlert.objects.filter(is_open=True)
    say(sensor, 20)  # normal, for all that Redis may have known
    eventually(delivered)
    assert history(rule) == [["raised", "cleared"], ["raised", "cleared"]]
    assert not LiveAlert.objects.filter(pk=live.pk).exists()
