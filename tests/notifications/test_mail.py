"""E-mail: confirmed by its reader, one for each transition, and one for many in a storm."""

from datetime import timedelta
from email import message_from_string, policy

import pytest
from django.core import mail as outbox
from django.utils import timezone

from telemetry.notifications import mail
from telemetry.notifications.failure import Failed
from telemetry.notifications.models import Delivery, NotificationChannel
from tests.alerting.test_alerts import make_rule, say
from tests.notifications.receivers import mail_server
from tests.notifications.test_sending import delivered

ADDRESS = "ops@example.org"


@pytest.fixture
def confirmed(alice, make_channel):
    channel = make_channel(alice, ADDRESS)
    NotificationChannel.objects.filter(pk=channel["id"]).update(confirmed_at=timezone.now())
    outbox.outbox.clear()
    return channel


def code_in(message):
    return message.body.split("code:\n\n")[1].split()[0]


# --- Whose mailbox --------------------------------------------------------------------------------
def test_an_address_is_told_nothing_before_it_is_confirmed(alice, sensor, make_channel):
    channel = make_channel(alice, ADDRESS, name="Cheap pills")
    path = f"/notification-channels/{channel['id']}"
    assert (channel["state"], channel["secret"]) == ("unconfirmed", None)
    [asked] = outbox.outbox
    assert asked.to == [ADDRESS]
    assert "pills" not in asked.subject + asked.body
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    assert not Delivery.objects.exists()
    assert alice.api.post(f"{path}/confirm", {"code": "0123456789"}).status == 409
    code = code_in(asked)
    assert code not in alice.api.get(path).text
    answer = alice.api.post(f"{path}/confirm", {"code": f" {code.upper()} "})
    assert (answer.status, answer.json["channel"]["state"]) == (200, "working")
    say(sensor, 20)
    assert Delivery.objects.count() == 1


def test_another_address_is_asked_anew_and_the_code_of_the_first_is_no_good(alice, make_channel):
    channel = make_channel(alice, ADDRESS)
    path = f"/notification-channels/{channel['id']}"
    code = code_in(outbox.outbox[0])
    assert alice.api.post(f"{path}/confirm", {"code": code}).status == 200
    answer = alice.api.patch(path, {"address": "victim@example.org"})
    assert answer.json["channel"]["state"] == "unconfirmed"
    assert outbox.outbox[1].to == ["victim@example.org"]
    assert alice.api.post(f"{path}/confirm", {"code": code}).status == 409


def test_a_test_of_an_unconfirmed_address_sends_its_code_again(alice, make_channel):
    channel = make_channel(alice, ADDRESS)
    answer = alice.api.post(f"/notification-channels/{channel['id']}/test")
    assert (answer.status, answer.json["delivery"]) == (202, None)
    first, second = outbox.outbox
    assert first.body == second.body


def test_how_often_somebody_is_written_to_is_limited(alice, make_channel, settings):
    settings.RATE_NOTIFICATION_TESTS = "2/h"
    channel = make_channel(alice, ADDRESS)
    path = f"/notification-channels/{channel['id']}"
    assert alice.api.patch(path, {"address": "other@example.org"}).status == 200
    assert alice.api.post(f"{path}/test").status == 429
    assert alice.api.patch(path, {"address": "third@example.org"}).status == 429
    body = {"name": "x", "kind": "email", "address": ADDRESS}
    assert alice.api.post("/notification-channels", body).status == 429
    assert alice.api.patch(path, {"name": "y"}).status == 200
    assert len(outbox.outbox) == 2


@pytest.mark.parametrize(
    "address", ["nobody", "a@b", "a@example.org\nBcc: x@example.org", "ä@example.org", "a" * 300]
)
def test_what_is_no_address_is_refused(alice, settings, address):
    settings.SENDS_EMAIL = True
    body = {"name": "x", "kind": "email", "address": address}
    assert alice.api.post("/notification-channels", body).fields() == {"address"}


def test_without_a_mail_server_there_are_no_channels_by_mail(alice, settings):
    settings.SENDS_EMAIL = False
    body = {"name": "x", "kind": "email", "address": ADDRESS}
    answer = alice.api.post("/notification-channels", body)
    assert answer.json["details"] == {"address": ["This installation sends no e-mail."]}


# --- What is sent ---------------------------------------------------------------------------------
def test_a_transition_is_an_e_mail(alice, make_device, confirmed, send):
    thing = make_device(alice, "boiler\nof the house")
    make_rule(alice, device_id=thing.device.pk)
    say(thing, 31)
    send(delivered(1))
    [message] = outbox.outbox
    assert message.to == [ADDRESS]
    assert message.subject == "[IoTFlow] raised: boiler of the house: t is 31, above 30"
    assert "rule name: too hot" in message.body
    assert str(Delivery.objects.get().pk) in message.extra_headers["Message-ID"]


def test_a_storm_is_one_e_mail_and_then_one_each_digest(
    alice, make_device, confirmed, send, settings, monkeypatch
):
    settings.NOTIFICATION_DIGEST_AFTER = 3
    monkeypatch.setattr(mail, "SHOWN", 5)
    things = [make_device(alice, f"thing {n}") for n in range(8)]
    for thing in things:
        make_rule(alice, device_id=thing.device.pk)
        say(thing, 31)
    send(delivered(8))
    [digest] = outbox.outbox
    assert digest.subject == "[IoTFlow] 8 changes of alerts"
    assert "raised: thing 0: t is 31, above 30" in digest.body
    assert digest.body.count("\n") == mail.SHOWN
    assert "… and 3 more." in digest.body
    for thing in things[:2]:
        say(thing, 20)
    send(lambda: NotificationChannel.objects.get().next_try > timezone.now())
    assert len(outbox.outbox) == 1
    later = timezone.now() - timedelta(seconds=301)
    Delivery.objects.filter(status="delivered").update(delivered_at=later)
    NotificationChannel.objects.update(next_try=timezone.now())
    send(delivered(10))
    assert len(outbox.outbox) == 3


def test_few_are_sent_one_by_one(alice, make_device, confirmed, send):
    for _ in range(3):
        thing = make_device(alice)
        make_rule(alice, device_id=thing.device.pk)
        say(thing, 31)
    send(delivered(3))
    assert len(outbox.outbox) == 3


@pytest.mark.parametrize("others", [1, 7])
def test_one_that_is_refused_holds_up_no_other_alert(
    others, alice, make_device, confirmed, send, settings, monkeypatch
):
    settings.NOTIFICATION_DIGEST_AFTER = 3
    take = mail.send

    def choose(address, deliveries):
        if any("bad: " in one.body for one in deliveries):
            raise Failed("The e-mail server did not take it.")
        return take(address, deliveries)

    monkeypatch.setattr(mail, "send", choose)
    things = [make_device(alice, name) for name in ("bad", *(f"n{n}" for n in range(others)))]
    for thing in things:
        make_rule(alice, device_id=thing.device.pk)
    say(things[0], 31)
    send(lambda: Delivery.objects.filter(attempts=1).exists())
    later = timezone.now() + timedelta(hours=1)
    Delivery.objects.update(next_try=later)
    for thing in things:
        say(thing, 20 if thing is things[0] else 31)
    NotificationChannel.objects.update(next_try=timezone.now())
    send(delivered(others))
    assert len(outbox.outbox) == 1
    assert Delivery.objects.filter(status="waiting").count() == 2


def test_a_mail_server_that_refuses_is_asked_again(alice, sensor, confirmed, send, settings):
    taken, refused = [], []

    def refuse():
        refused.append(1)
        return len(refused) == 1

    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_TIMEOUT = "127.0.0.1", 5
    with mail_server(taken, refuse) as settings.EMAIL_PORT:
        make_rule(alice, device_id=sensor.device.pk)
        say(sensor, 31)
        send(delivered(1))
    [text] = taken
    message = message_from_string(text, policy=policy.default)
    assert message["To"] == ADDRESS
    assert message["Auto-Submitted"] == "auto-generated"
    assert "sensor: t is 31, above 30" in message.get_content()
    assert Delivery.objects.get().attempts == 2
