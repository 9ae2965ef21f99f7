"""The outbox: an event goes with its change, and arrives once."""

import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.utils import timezone

from events import log, outbox, sinks
from events.kinds import Kind
from events.models import EventLog, Outbox
from tests.environment import ROOT
from tests.server import real_environment


def waiting(count: int = 1) -> None:
    documents = [
        log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, f"event {n}", actor="test")
        for n in range(count)
    ]
    outbox.put(documents)


def test_an_event_arrives_right_after_the_commit(db):
    with transaction.atomic():
        log.record(
            Kind.DEVICE_CHANGED, "changed", actor="test", payload={"changes": {"name": ["a", "b"]}}
        )
        assert Outbox.objects.count() == 1
        assert not EventLog.objects.exists()
    [event] = EventLog.objects.all()
    assert (event.kind, event.message, event.payload) == (
        "device.changed",
        "changed",
        {"changes": {"name": ["a", "b"]}},
    )
    assert not Outbox.objects.exists()


def test_what_is_rolled_back_did_not_happen():
    with transaction.atomic():
        log.record(Kind.DEVICE_CHANGED, "changed")
        transaction.set_rollback(True)
    assert not EventLog.objects.exists()
    assert not Outbox.objects.exists()


def test_only_known_kinds_can_be_recorded():
    with pytest.raises(ValueError, match=r"device\.exploded"):
        log.record("device.exploded", "bang")


def test_relays_at_the_same_time_deliver_each_event_once():
    waiting(300)

    def relay() -> None:
        outbox.relay_all()
        connections.close_all()

    threads = [threading.Thread(target=relay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not Outbox.objects.exists()
    assert EventLog.objects.count() == 300


@pytest.mark.real
@pytest.mark.timeout(300)
def test_relays_of_several_processes_lose_and_double_nothing(tmp_path):
    waiting(1200)
    command = [sys.executable, "manage.py", "relay_events"]
    environment = real_environment()
    with ExitStack() as stack:
        relays = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(3)
        ]
        said = [relay.communicate(timeout=240)[0] for relay in relays]
    assert [relay.returncode for relay in relays] == [0, 0, 0]
    assert sum(int(text.split()[0].replace(",", "")) for text in said) == 1200
    assert EventLog.objects.count() == 1200
    assert not Outbox.objects.exists()
    assert Outbox.delivered.count() == 1200  # until they are sealed


def test_the_order_of_the_log_is_that_of_what_happened_however_it_was_delivered(staff):
    at = timezone.now()
    documents = [
        log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, f"{n}", actor="test", device_id=1, time=time)
        for n, time in enumerate(at - timedelta(seconds=9 - n) for n in range(9))
    ]
    outbox.put(documents)
    for document in sorted(documents, key=lambda document: document["id"]):  # in any order
        outbox.relay([uuid.UUID(document["id"])])
    shown = staff.api.get("/events?device_id=1").json["events"]
    assert [event["message"] for event in shown] == [str(n) for n in range(8, -1, -1)]


def test_a_crash_between_delivery_and_forgetting_doubles_nothing():
    waiting(3)
    sinks.deliver([row.document for row in Outbox.objects.all()])
    assert outbox.relay_all() == 3
    assert EventLog.objects.count() == 3


def test_the_same_event_put_twice_waits_once():
    document = log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, "x", actor="test")
    for _ in range(2):
        outbox.put([document])
    assert Outbox.objects.count() == 1


def test_its_age_is_that_of_the_oldest():
    assert outbox.age_seconds() == 0
    waiting()
    Outbox.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    waiting()
    assert 299 < outbox.age_seconds() < 310


def test_relay_events_says_what_it_did(capsys):
    waiting(2)
    call_command("relay_events")
    assert "2 event(s) delivered" in capsys.readouterr().out


def test_events_end_when_they_expire(settings):
    settings.EVENT_RETENTION_DAYS = 1
    log.record(Kind.DEVICE_CHANGED, "old")
    [event] = EventLog.objects.all()
    assert event.expires_at - event.time == timedelta(days=1)
    gone = sinks.purge_expired(timezone.now() + timedelta(days=2))
    # MongoDB drops it by its index on expires_at, within a minute of its own
    assert gone == (1 if settings.EVENTS_EMBEDDED else 0)
