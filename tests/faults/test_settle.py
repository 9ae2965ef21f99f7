"""The comparison at the end of a case finds what is wrong: on the stores of this run."""

import pytest

from events.models import EventLog
from iotflow.lib.timeparse import now_ms
from tests.bench.population import Somebody
from tests.faults import settle
from tests.faults.cases import case
from tests.faults.ledger import Attempt, Entry, Ledger
from tests.faults.run import complaints

GOOD, REFUSED, BROKEN = (
    Attempt("timed", 100.0, 0.01, 201, None),
    Attempt("plain", 99.2, 0.01, 503, "1"),
    Attempt("plain", 99.2, 0.01, 500, None),
)


@pytest.fixture
def ledger(sensor) -> Ledger:
    """Three readings that were acknowledged, and are there."""
    ledger = Ledger()
    for number in range(1, 4):
        time = now_ms() - 10_000 + number
        body = {"data": {"n": number, "text": "x"}, "timestamp": time}
        assert sensor.api.post("/telemetry", body).status == 201
        ledger.add(Entry("timed", number, sensor.id, time, time, [GOOD]))
    return ledger


@pytest.fixture
def compare(sensor, alice, ledger, monkeypatch):
    def latest(url, device):
        return sensor.api.get(f"/telemetry/{device.id}/latest").json["latest_data"]

    monkeypatch.setattr(settle, "_latest_of", latest)

    def run() -> settle.Findings:
        devices = [Somebody(sensor.id, sensor.key)]
        return settle.settle(ledger, devices, alice.user.pk, now_ms(), "")

    return run


def test_what_is_there_once_is_clean(compare):
    assert compare().is_clean


def test_an_acknowledged_reading_that_is_missing_is_lost(compare, ledger, sensor):
    ledger.add(Entry("plain", 9, sensor.id, None, now_ms(), [GOOD]))
    found = compare()
    assert (found.lost, found.events_lost) == (2, 1)  # in the history, and in the feed


def test_a_reading_at_two_times_is_doubled(compare, sensor):
    again = {"data": {"n": 3, "text": "x"}, "timestamp": "-30m"}
    assert sensor.api.post("/telemetry", again).status == 201
    found = compare()
    assert found.doubled == 1
    assert found.latest_wrong == 0


def test_a_latest_value_that_is_not_the_newest_reading_is_wrong(compare, sensor, monkeypatch):
    monkeypatch.setattr(settle, "_latest_of", lambda *_: {"n": 1})
    assert compare().latest_wrong == 1


def test_an_event_that_is_missing_or_there_twice_is_found(compare):
    first, *_ = EventLog.objects.filter(kind="telemetry.submitted")
    EventLog.objects.filter(pk=first.pk).delete()
    assert compare().events_lost == 1


def test_what_is_answered_otherwise_than_promised_is_said(sensor):
    ledger = Ledger()
    ledger.add(Entry("plain", 1, sensor.id, None, 1, [GOOD]))
    ledger.add(Entry("plain", 2, sensor.id, None, None, [REFUSED]))
    assert complaints(case("redis kill"), ledger, stopped=101.5) == []
    ledger.add(Entry("plain", 3, sensor.id, None, None, [BROKEN]))
    [complaint] = complaints(case("redis kill"), ledger, stopped=101.5)
    assert "neither good nor refused as promised" in complaint
