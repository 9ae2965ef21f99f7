"""The ledger of a simulation: what it keeps, and that it finds what is wrong in the stores."""

import asyncio
import importlib
import json
import signal
import uuid
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from django.core.management import CommandError

from devices.models import Device
from events import sinks
from events.models import EventLog
from iotflow.lib.child import free_port
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry import clock
from telemetry.fleet import Fleet, SimulatedDevice, client
from telemetry.readings import Deletion, HistoryQuery, Reading
from telemetry.simulated.ledger import NO_ANSWER, Attempt, Outcome, opened, verdicts
from telemetry.simulated.profiles import PROFILES, Call, Sample
from telemetry.simulated.settlement import settle
from telemetry.simulated.witnesses import ApiWitness, StoreWitness
from telemetry.stores import telemetry_store
from tests.telemetry.simulating import broken_off, simulate

NOW = 1_790_000_000_000
SINGLE = Call(1, (Sample(1, NOW, {"a": 1.5}),))
BATCH = Call(2, (Sample(2, NOW + 1, {"a": 2.5}), Sample(3, NOW + 2, {"a": 3.5})), is_batch=True)
command = importlib.import_module("telemetry.management.commands.simulate")


# --- The ledger ---------------------------------------------------------------------------------
def attempt(call, status, answer=None):
    return Attempt(7, call, NOW, 0.01, status, answer)


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (201, {"timestamp": format_ms(NOW)}, Outcome.STORED),
        (201, None, Outcome.UNSURE),
        (201, {"timestamp": "soon"}, Outcome.UNSURE),
        (302, None, Outcome.REFUSED),
        (400, {"error": "validation_error"}, Outcome.REFUSED),
        (401, None, Outcome.REFUSED),
        (429, {"error": "too_many_requests"}, Outcome.NOT_TAKEN),
        (500, None, Outcome.UNSURE),
        (503, {"error": "store_away"}, Outcome.UNSURE),
        (NO_ANSWER, None, Outcome.UNSURE),
    ],
)
def test_an_answer_is_a_promise_a_refusal_or_neither(status, answer, outcome):
    [(found, time)] = verdicts(attempt(SINGLE, status, answer))
    assert found is outcome
    assert time == (NOW if outcome is Outcome.STORED else None)


def test_each_reading_of_a_batch_has_its_own_verdict():
    results = [
        {"index": 0, "status": "stored", "timestamp": format_ms(NOW + 1)},
        {"index": 1, "status": "rejected", "reason": "data: too old"},
    ]
    found = verdicts(attempt(BATCH, 207, {"results": results}))
    assert found == [(Outcome.STORED, NOW + 1), (Outcome.REFUSED, None)]
    assert verdicts(attempt(BATCH, 201, {"results": results[:1]})) == [(Outcome.UNSURE, None)] * 2


@pytest.fixture
def ledger(tmp_path):
    with opened("run", tmp_path / "ledger.ndjson") as ledger:
        ledger.enlist(7, "device 7", "normal", is_new=True)
        yield ledger


def test_what_was_answered_once_counts_whatever_follows(ledger):
    def state():
        return ledger.rows("SELECT stored, refused, unsure FROM sent WHERE number = 1")

    ledger.note(attempt(SINGLE, 429))
    assert state() == [(0, 0, 0)]
    ledger.note(attempt(SINGLE, NO_ANSWER))
    ledger.note(attempt(SINGLE, 400))
    assert state() == [(0, 1, 1)]
    ledger.note(attempt(SINGLE, 201, {"timestamp": format_ms(NOW)}))
    assert state() == [(1, 1, 1)]


def test_every_attempt_is_a_line(ledger, tmp_path):
    ledger.note(attempt(SINGLE, 503, {"error": "store_away"}))
    ledger.note(attempt(SINGLE, NO_ANSWER))
    first, second = map(json.loads, (tmp_path / "ledger.ndjson").read_text().splitlines())
    assert first == {
        "sent": format_ms(NOW),
        "device_id": 7,
        "device": "device 7",
        "profile": "normal",
        "call": 1,
        "again": False,
        "keyed": False,
        "readings": [{"n": 1, "timestamp": format_ms(NOW), "data": {"a": 1.5}}],
        "status": 503,
        "seconds": 0.01,
        "answer": {"error": "store_away"},
    }
    assert (second["status"], second["answer"]) == (None, None)


# --- Held against the stores --------------------------------------------------------------------
@pytest.fixture
def simulated(live_server, alice, make_device):
    """Sends as devices of these profiles, and settles: against the stores and the API."""
    with opened("run") as ledger:
        devices, begun = [], now_ms()

        def send(*profiles, count=40, are_new=True):
            for profile in profiles:
                device = make_device(alice, f"{profile} {len(devices)}")
                devices.append(SimulatedDevice(device.device.name, device.key, device.id))
                ledger.enlist(device.id, device.device.name, profile, is_new=are_new)

            async def run():
                async with client(live_server.url) as http:
                    fleet = Fleet(
                        *(http, devices),
                        rate=200,
                        seed=5,
                        stop=asyncio.Event(),
                        profiles=profiles,
                        count=count * len(devices),
                        ledger=ledger,
                    )
                    await fleet.run()
                    return fleet.counts

            return asyncio.run(run())

        def outcome():
            with httpx.Client(base_url=live_server.url, timeout=30, trust_env=False) as http:
                witnesses = [StoreWitness(), ApiWitness(http, alice.api.token)]
                return settle(ledger, devices, witnesses, begun)

        yield SimpleNamespace(send=send, settle=outcome, devices=devices, ledger=ledger)


def history(device):
    query = HistoryQuery(device.id, 0, now_ms() + 3_600_000, 10_000, descending=False)
    return telemetry_store().history(query).readings


def write(device, stored, **changed):
    """Write a reading into the store, past the API."""
    owner_id = Device.objects.get(pk=device.id).owner_id
    fields = {"time": stored.time, "values": stored.values, "metadata": stored.metadata}
    row = {"device_id": device.id, "owner_id": owner_id, "written": clock.written()}
    telemetry_store().write([Reading(**row, **{**fields, **changed})])


def column(outcome, name):
    """What the table says under a heading, for each profile."""
    head, *rows = [line.replace("not taken", "not_taken").split() for line in table(outcome)]
    return [int(row[head.index(name)].replace(",", "")) for row in rows]


def table(outcome):
    return outcome.table.splitlines()


def test_all_profiles_verify_on_a_true_run(simulated):
    counts = simulated.send(*PROFILES, count=40)
    outcome = simulated.settle()
    assert (outcome.faults, outcome.examples, outcome.remarks) == (0, [], [])
    assert [line.split()[0] for line in table(outcome)[1:]] == list(PROFILES)
    assert column(outcome, "readings") == [40] * 7
    taken, refused = column(outcome, "acknowledged"), column(outcome, "refused")
    assert [sum(both) for both in zip(taken, refused, strict=True)] == [40] * 7
    # What the server refuses of clocks that are ahead is refused, and not lost.
    assert [count > 0 for count in refused] == [name == "clock-skew" for name in PROFILES]
    assert counts.readings == 280


def test_a_burst_beyond_the_limit_is_sent_again_until_it_is_taken(simulated, settings):
    settings.RATE_DEVICE_MESSAGES = "30/s"
    counts = simulated.send("burst", count=90)
    assert counts.retries > 0
    outcome = simulated.settle()
    assert (outcome.faults, outcome.acknowledged) == (0, 90)


def test_a_reading_that_is_gone_is_lost(simulated):
    simulated.send("normal")
    [device] = simulated.devices
    gone = history(device)[3].time
    owner_id = Device.objects.get(pk=device.id).owner_id
    telemetry_store().delete(Deletion(device.id, owner_id, gone, gone, 0, 1))
    outcome = simulated.settle()
    assert (outcome.faults, column(outcome, "lost")) == (1, [1])
    assert outcome.examples == [
        f"lost, {who}: normal 0: reading 4 of {format_ms(gone)}" for who in ("stores", "API")
    ]


def test_a_reading_that_is_there_twice_is_doubled(simulated):
    simulated.send("duplicates")
    [device] = simulated.devices
    third = history(device)[2]
    write(device, third, time=third.time - 60_000)
    outcome = simulated.settle()
    assert (outcome.faults, column(outcome, "doubled")) == (1, [1])
    assert "reading 3 of" in outcome.examples[0]


def test_a_reading_with_another_value_is_changed(simulated):
    simulated.send("normal")
    [device] = simulated.devices
    third = history(device)[2]
    write(device, third, values={**third.values, "temperature": -99.5})
    outcome = simulated.settle()
    assert (outcome.faults, column(outcome, "changed")) == (1, [1])
    assert "-99.5" in outcome.examples[0]


def test_what_was_refused_and_what_nobody_sent_must_not_be_there(simulated):
    simulated.send("clock-skew", count=60)
    [device] = simulated.devices
    query = "SELECT number, data FROM sent WHERE refused LIMIT 1"
    [(number, data)] = simulated.ledger.rows(query)
    first = history(device)[0]
    metadata = simulated.ledger.mark(number)
    write(device, first, time=first.time - 1000, values=json.loads(data), metadata=metadata)
    write(device, first, time=first.time - 2000, values={"a": 1}, metadata=None)
    outcome = simulated.settle()
    assert column(outcome, "extra") == [2]
    assert any("which was not taken" in example for example in outcome.examples)
    assert any("which nobody sent" in example for example in outcome.examples)


def test_latest_values_of_another_reading_are_wrong(simulated):
    simulated.send("normal")
    [device] = simulated.devices
    last = history(device)[-1]
    write(device, last, time=last.time + 1000, values={**last.values, "battery": 1.5})
    assert column(simulated.settle(), "latest") == [1]


def test_an_event_that_is_gone_or_there_twice_is_found(simulated):
    simulated.send("outage", "normal")
    first, second = simulated.devices
    batches = [event for event in events(first) if "readings" in event.payload]
    EventLog.objects.filter(pk=batches[0].pk).delete()
    twice = events(second)[0]
    names = ("kind", "severity", "message", "actor", "user_id", "device_id")
    again = {name: getattr(twice, name) for name in (*names, "address", "request_id", "payload")}
    times = {name: getattr(twice, name).isoformat() for name in ("time", "expires_at")}
    sinks.deliver([{**again, **times, "id": str(uuid.uuid4())}])
    outcome = simulated.settle()
    assert (outcome.faults, column(outcome, "events")) == (2, [1, 1])
    lost = f"none of {batches[0].payload['readings']} readings"
    assert any(lost in example for example in outcome.examples)
    assert any(f"2 of {twice.payload['timestamp']}" in example for example in outcome.examples)


def events(device):
    return list(EventLog.objects.filter(device_id=device.id, kind="telemetry.submitted"))


def test_what_was_not_answered_may_be_there_or_not(simulated):
    simulated.send("normal")
    [device] = simulated.devices
    newest = history(device)[-1]
    for number in (41, 42):
        sample = Sample(number, newest.time + number, {"temperature": 1.5})
        simulated.ledger.note(Attempt(device.id, Call(number, (sample,)), NOW, 1, NO_ANSWER))
    write(device, newest, time=newest.time + 41, values={"temperature": 1.5},
          metadata=simulated.ledger.mark(41))  # fmt: skip
    outcome = simulated.settle()
    assert column(outcome, "unsure") == [2]
    assert column(outcome, "lost") == column(outcome, "extra") == [0]


# --- The command --------------------------------------------------------------------------------
def test_the_command_verifies_and_writes_the_ledger(live_server, tmp_path):
    file = tmp_path / "ledger.ndjson"
    out = simulate(
        url=live_server.url,
        devices=4,
        rate=50,
        count=100,
        profile=["normal", "duplicates"],
        verify="all",
        ledger=file,
    )
    assert "100 acknowledged readings are as they should be by the API and the stores." in out
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(line["device"], line["call"]) for line in lines}) == 100
    assert {line["profile"] for line in lines} == {"normal", "duplicates"}
    assert "iotd_" not in file.read_text()


def test_the_command_fails_where_something_is_wrong(live_server, monkeypatch):
    def tampered(*args, **more):
        EventLog.objects.filter(kind="telemetry.submitted").order_by("time").first().delete()
        return settle(*args, **more)

    monkeypatch.setattr(command, "settle", tampered)
    with pytest.raises(CommandError, match=r"1 fault\(s\):\nevents, stores: Simulated 001: none"):
        simulate(url=live_server.url, devices=1, rate=50, count=5, verify="all")


def test_kept_devices_are_verified_beside_what_they_sent_before(live_server, tmp_path):
    options = {"url": live_server.url, "devices": 2, "rate": 100, "count": 80}
    for _ in range(2):
        out = simulate(
            **options, keys=tmp_path / "keys", profile=["clock-skew", "outage"], verify="all"
        )
    assert "acknowledged readings are as they should be" in out
    assert "The API was not asked for events" in out


def test_the_api_alone_may_be_the_witness(live_server):
    out = simulate(url=live_server.url, devices=1, rate=20, count=3, verify="api")
    assert "3 acknowledged readings are as they should be by the API." in out


def test_other_stores_are_no_witness(live_server, sensor, monkeypatch):
    assert StoreWitness().holds([SimulatedDevice("sensor", sensor.key, sensor.id)])
    assert not StoreWitness().holds([SimulatedDevice("sensor", sensor.key, sensor.id + 1)])
    assert not StoreWitness().holds([SimulatedDevice("sensor", f"{sensor.key}x", sensor.id)])
    monkeypatch.setattr(StoreWitness, "holds", lambda *_: False)
    with pytest.raises(CommandError, match="do not know the devices"):
        simulate(url=live_server.url, devices=1, rate=20, count=1, verify="all")


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0},
        {"devices": 1, "profile": ["normal", "drift"]},
        {"ledger": Path("/no/such/folder/x")},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(CommandError):
        simulate(url=f"http://127.0.0.1:{free_port()}", **options)


def test_ctrl_c_ends_with_the_verdict_of_what_was_sent(live_server):
    options = ["--devices", "3", "--rate", "10", "--verify", "api"]
    profiles = ["--profile=outage", "--profile=burst", "--profile=out-of-order"]
    out = broken_off(signal.SIGINT, 3, "--url", live_server.url, *options, *profiles)
    assert "acknowledged readings are as they should be by the API." in out
