"""From an alert's transitions to what a receiver gets: each once, in order, whatever is down."""

import time
from collections import defaultdict
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from events.models import EventLog
from telemetry.alerting import alerts
from telemetry.notifications import queue, sending
from telemetry.notifications.models import Delivery, NotificationChannel
from telemetry.notifications.sending import Postman
from tests.alerting.test_alerts import alerts_of, make_rule, say
from tests.notifications.receivers import Receiver
from tests.services import eventually

DOWN_SECONDS = 5


def delivered(count):
    return lambda: Delivery.objects.filter(status="delivered").count() == count


def told(receiver):
    """(what, seq) by alert, in the order in which they came."""
    found = defaultdict(list)
    for one in receiver.received:
        data = one.json["data"]
        found[data["alert_id"]].append((one.json["type"].removeprefix("alert."), data["seq"]))
    return found


# --- What is told ---------------------------------------------------------------------------------
def test_every_transition_is_told_signed_and_in_order(alice, sensor, receiver, make_channel, send):
    channel = make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk, severity="error")
    say(sensor, 31.5)
    [alert] = alerts_of(alice)
    path = f"/alerts/{alert['id']}"
    alice.api.post(f"{path}/acknowledge", {})
    alice.api.post(f"{path}/comment", {"text": "on my way"})
    say(sensor, 20)
    send(delivered(4))
    assert told(receiver) == {
        alert["id"]: [("raised", 1), ("acknowledged", 2), ("commented", 3), ("cleared", 4)]
    }
    assert all(one.is_signed_by(channel["secret"]) for one in receiver.received)
    raised, acknowledged, commented, cleared = (one.json for one in receiver.received)
    assert raised["data"] == {
        "alert_id": alert["id"],
        "seq": 1,
        "actor": "system",
        "value": 31.5,
        "device_id": sensor.device.pk,
        "device_name": "sensor",
        "rule_id": alert["rule_id"],
        "rule_name": "too hot",
        "kind": "above",
        "measurement": "t",
        "severity": "error",
        "message": "sensor: t is 31.5, above 30",
        "raised_at": raised["data"]["raised_at"],
    }
    assert acknowledged["data"]["assignee"] == "alice"
    assert commented["data"]["comment"] == "on my way"
    assert cleared["data"]["value"] == 20


def test_an_alert_that_comes_and_goes_in_one_batch_is_told_twice(
    alice, sensor, receiver, make_channel, send
):
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    now = int(time.time() * 1000)
    readings = [{"data": {"t": v}, "timestamp": now - 1000 * (3 - n)} for n, v in
                enumerate((31, 20, 32))]  # fmt: skip
    assert sensor.api.post("/telemetry/batch", {"readings": readings}).status == 201
    send(delivered(3))
    assert sorted(told(receiver).values()) == [[("raised", 1)], [("raised", 1), ("cleared", 2)]]


def test_what_is_rolled_back_is_not_told(alice, sensor, receiver, make_channel):
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    [alert] = alerts_of(alice)
    with transaction.atomic():
        alerts.resolve(alert_id=alert["id"], user=alice.user)
        assert Delivery.objects.count() == 2
        transaction.set_rollback(True)
    assert Delivery.objects.count() == 1


def test_who_hears_of_a_device(alice, bob, staff, sensor, receiver, make_channel):
    """Its owner does, and staff who asked for everybody's, as severe as they asked for."""
    mine = make_channel(alice, receiver.url)
    make_channel(alice, receiver.url, least_severity="error")
    make_channel(alice, receiver.url, enabled=False)
    make_channel(bob, receiver.url)
    make_channel(staff, receiver.url)
    all_of_it = make_channel(staff, receiver.url, all_devices=True)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    heard = set(Delivery.objects.values_list("channel_id", flat=True))
    assert heard == {mine["id"], all_of_it["id"]}


def test_staff_who_are_none_any_more_are_told_nothing(
    alice, staff, sensor, receiver, make_channel, send
):
    make_channel(staff, receiver.url, all_devices=True)
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    type(staff.user).objects.filter(pk=staff.user.pk).update(is_staff=False, is_superuser=False)
    say(sensor, 20)
    send(delivered(2))
    assert Delivery.objects.filter(status="waiting").count() == 1
    assert len(receiver.received) == 2


# --- Receivers that are down ----------------------------------------------------------------------
def test_a_receiver_that_was_down_gets_every_transition_once_and_in_order(
    alice, make_device, loopback, make_channel, send
):
    receiver = Receiver()
    with receiver.up():
        make_channel(alice, receiver.url)
    things = [make_device(alice) for _ in range(3)]
    for thing in things:
        make_rule(alice, device_id=thing.device.pk)
    postman = Postman()
    back = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < back:
        for thing in things:
            say(thing, 31)
            say(thing, 20)
        postman.send()
        time.sleep(1.1)
    postman.finish()
    [channel] = NotificationChannel.objects.all()
    assert (channel.state, channel.failures >= 2) == ("failing", True)
    expected = Delivery.objects.count()
    assert expected >= 3 * 2 * (DOWN_SECONDS // 2)
    with receiver.up():
        send(delivered(expected), seconds=3 * DOWN_SECONDS + 10)
    assert len(receiver.received) == expected
    assert len({one.id for one in receiver.received}) == expected
    assert set(map(tuple, told(receiver).values())) == {(("raised", 1), ("cleared", 2))}
    channel.refresh_from_db()
    assert (channel.state, channel.failures) == ("working", 0)


def test_one_that_is_refused_holds_up_its_alert_and_no_other(
    alice, make_device, receiver, make_channel, send
):
    make_channel(alice, receiver.url)
    bad, good = make_device(alice, "bad"), make_device(alice, "good")
    for thing in (bad, good):
        make_rule(alice, device_id=thing.device.pk)

    def choose():
        is_bad = receiver.received[-1].json["data"]["device_name"] == "bad"
        receiver.status = 400 if is_bad else 204

    receiver.before_answer = choose
    say(bad, 31)
    say(bad, 20)
    say(good, 31)
    say(good, 20)
    send(lambda: Delivery.objects.filter(attempts=1).exists())
    for model in (Delivery, NotificationChannel):  # both may be tried again: who comes first?
        model.objects.filter(next_try__gt=timezone.now()).update(next_try=timezone.now())
    send(delivered(2), seconds=5)
    by_name = defaultdict(set)
    for one in receiver.received:
        by_name[one.json["data"]["device_name"]].add(one.json["type"])
    assert by_name == {"bad": {"alert.raised"}, "good": {"alert.raised", "alert.cleared"}}
    [held, behind] = Delivery.objects.filter(status="waiting").order_by("seq")
    assert (held.answer, held.attempts >= 1) == ("HTTP 400", True)
    assert (behind.answer, behind.attempts) == ("", 0)
    receiver.before_answer, receiver.status = lambda: None, 204
    send(delivered(4))


def test_a_target_that_hangs_holds_up_no_other(alice, sensor, receiver, make_channel, send):
    hanging = Receiver(before_answer=lambda: time.sleep(3))
    with hanging.up():
        make_channel(alice, hanging.url)
        make_channel(alice, receiver.url)
        make_rule(alice, device_id=sensor.device.pk)
        say(sensor, 31)
        began = time.monotonic()
        send(lambda: len(receiver.received) == 1)
        assert time.monotonic() - began < 2
        send(delivered(2))


def test_no_more_channels_are_sent_to_at_once_than_there_are_threads(
    alice, sensor, receiver, make_channel, settings
):
    settings.NOTIFICATION_THREADS = 2
    for _ in range(5):
        make_channel(alice, receiver.url)
    receiver.before_answer = lambda: time.sleep(1)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    postman = Postman()
    for _ in range(3):
        postman.send()
    eventually(lambda: len(receiver.received) == 2)
    postman.send()
    assert len(receiver.received) == 2
    postman.finish()


def test_the_wait_doubles_up_to_an_hour():
    waits = [sending.seconds_to_wait(n) for n in range(1, 100)]
    assert all(0.8 * 2**n <= waits[n] <= 2**n for n in range(12))
    assert all(0.8 * 3600 <= wait <= 3600 for wait in waits[12:])
    assert len(set(waits)) > 90


def test_a_target_is_left_alone_as_long_as_it_asks(alice, sensor, receiver, make_channel, send):
    receiver.status, receiver.answer_headers = 429, {"Retry-After": "600"}
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    send(lambda: Delivery.objects.filter(attempts=1).exists())
    [channel] = NotificationChannel.objects.all()
    assert channel.next_try - timezone.now() > timedelta(seconds=590)


def test_what_waits_for_too_long_is_given_up_with_an_event(
    alice, sensor, receiver, make_channel, send, settings
):
    receiver.status = 500
    channel = make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    say(sensor, 20)
    long_ago = timezone.now() - timedelta(hours=settings.NOTIFICATION_GIVE_UP_HOURS, seconds=1)
    Delivery.objects.update(queued_at=long_ago)
    send(lambda: Delivery.objects.filter(status="given_up").count() == 2)
    [event] = EventLog.objects.filter(kind="notification.given_up")
    assert event.payload == {"channel_id": channel["id"], "count": 2}
    assert (event.user_id, event.severity) == (alice.user.pk, "warning")


# --- Workers --------------------------------------------------------------------------------------
def test_two_workers_send_nothing_twice(alice, make_device, receiver, make_channel):
    make_channel(alice, receiver.url)
    make_channel(alice, receiver.url)
    things = [make_device(alice) for _ in range(5)]
    for thing in things:
        make_rule(alice, device_id=thing.device.pk)
        say(thing, 31)
        say(thing, 20)
    workers = [Postman(), Postman()]

    def all_sent():
        for worker in workers:
            worker.send()
        return delivered(20)()

    eventually(all_sent)
    for worker in workers:
        worker.finish()
    assert len(receiver.received) == len({one.id for one in receiver.received}) == 20


def test_one_that_dies_between_sending_and_noting_repeats_the_same_id(
    alice, sensor, receiver, make_channel, send, monkeypatch
):
    """Nobody takes it before the lease has run out; then it is sent again, and what follows it."""
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    say(sensor, 20)

    def die(*args):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(sending, "_note_delivered", die)
        dying = Postman()
        dying.send()
        eventually(lambda: len(receiver.received) == 1)
        dying.finish()
    other = Postman()
    other.send()
    other.finish()
    assert len(receiver.received) == 1
    NotificationChannel.objects.update(leased_until=timezone.now())
    send(delivered(2))
    first, again, then = receiver.received
    assert first.id == again.id != then.id
    assert first.body == again.body


def test_what_a_channel_says_now_counts(alice, sensor, receiver, make_channel, send):
    """Another address, switched off: from the next delivery on."""
    elsewhere = Receiver()
    channel = make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    path = f"/notification-channels/{channel['id']}"
    assert alice.api.patch(path, {"enabled": False}).status == 200
    say(sensor, 31)
    assert not Delivery.objects.exists()
    with elsewhere.up():
        new = {"enabled": True, "address": elsewhere.url}
        assert alice.api.patch(path, new).status == 200
        say(sensor, 20)
        send(delivered(1))
    assert (len(receiver.received), len(elsewhere.received)) == (0, 1)


def test_old_deliveries_and_those_of_nobody_are_dropped(
    alice, sensor, receiver, make_channel, settings
):
    make_channel(alice, receiver.url)
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    old, new = Delivery.objects.all()
    long_ago = timezone.now() - timedelta(days=settings.NOTIFICATION_LOG_DAYS, seconds=1)
    Delivery.objects.filter(pk=old.pk).update(created_at=long_ago)
    queue.purge(timezone.now())
    assert [one.pk for one in Delivery.objects.all()] == [new.pk]
    NotificationChannel.objects.filter(pk=new.channel_id).update(owner_id=10**9)
    queue.purge(timezone.now())
    assert not Delivery.objects.exists()
    assert NotificationChannel.objects.count() == 1
