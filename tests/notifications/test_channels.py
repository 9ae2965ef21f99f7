"""Channels and their logs, by the API and in the admin site."""

import pytest
from django.test import Client

from events.models import EventLog
from telemetry.notifications import signing
from telemetry.notifications.models import Delivery, NotificationChannel
from tests.alerting.test_alerts import make_rule, say
from tests.notifications.test_sending import delivered

URL = "https://user-hooks.example.org/hook?token=t0ken"


def test_a_channel_is_made_read_changed_and_deleted(alice, make_channel):
    made = make_channel(alice, URL, least_severity="warning")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    path = f"/notification-channels/{made['id']}"
    assert alice.api.get(path).json["channel"] == made
    assert (made["state"], made["failures"], made["all_devices"]) == ("working", 0, False)
    assert alice.api.get("/notification-channels").json["channels"] == [made]
    answer = alice.api.put(path, {"name": "Night", "digest_seconds": 0})
    assert answer.json["channel"]["name"] == "Night"
    assert alice.api.delete(path).status == 200
    assert alice.api.get(path).status == 404


def test_the_secret_is_shown_once_and_kept_sealed(alice, make_channel):
    made = make_channel(alice, URL)
    path = f"/notification-channels/{made['id']}"
    assert "secret" not in alice.api.get(path).text
    kept = NotificationChannel.objects.values().get()
    assert made["secret"].removeprefix("whsec_") not in str(kept)
    assert signing.written(signing.unseal(kept["sealed_secret"])) == made["secret"]


def test_events_tell_neither_the_path_nor_the_query_of_a_url(alice, make_channel):
    made = make_channel(alice, URL)
    path = f"/notification-channels/{made['id']}"
    new = {"address": "https://other.example.org/s3cret", "enabled": False}
    assert alice.api.patch(path, new).status == 200
    alice.api.post(f"{path}/rotate-secret", {})
    alice.api.delete(path)
    found = EventLog.objects.filter(kind__startswith="notification_channel.").order_by("time")
    created, changed, rotated, deleted = found
    assert created.payload == {
        "channel_id": made["id"],
        "target": "https://user-hooks.example.org",
    }
    assert changed.payload["changes"] == {
        "address": ["https://user-hooks.example.org", "https://other.example.org"],
        "enabled": [True, False],
    }
    assert (rotated.kind, deleted.kind) == (
        "notification_channel.secret_rotated",
        "notification_channel.deleted",
    )
    everything = str(list(EventLog.objects.values()))
    assert not any(text in everything for text in ("t0ken", "s3cret", "/hook", "whsec_"))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "pigeon"}, "kind"),
        ({"name": ""}, "name"),
        ({"address": None}, "address"),
        ({"address": "https://e.org/" + "x" * 2000}, "address"),
        ({"least_severity": "fatal"}, "least_severity"),
        ({"digest_seconds": 10**6}, "digest_seconds"),
        ({"digest_seconds": -1}, "digest_seconds"),
        ({"all_devices": True}, "all_devices"),
    ],
)
def test_what_makes_no_sense_is_refused(alice, fields, field):
    body = {"name": "x", "kind": "webhook", "address": URL, **fields}
    assert alice.api.post("/notification-channels", body).fields() == {field}


def test_the_kind_stays(alice, make_channel):
    made = make_channel(alice, URL)
    path = f"/notification-channels/{made['id']}"
    assert alice.api.patch(path, {"kind": "email"}).json["channel"]["kind"] == "webhook"
    assert alice.api.patch(path, {"address": "a@example.org"}).fields() == {"address"}


def test_there_is_a_bound_to_their_number(alice, make_channel, settings):
    settings.NOTIFICATION_CHANNELS_MAX = 1
    make_channel(alice, URL)
    body = {"name": "x", "kind": "webhook", "address": URL}
    assert alice.api.post("/notification-channels", body).status == 409


def test_a_new_secret_signs_and_the_former_one_for_a_while(alice, receiver, make_channel, send):
    made = make_channel(alice, receiver.url)
    path = f"/notification-channels/{made['id']}"

    def rotated(seconds):
        answer = alice.api.post(f"{path}/rotate-secret", {"former_seconds": seconds})
        return answer.json["secret"]

    def signed_by(*secrets):
        before = len(receiver.received)
        assert alice.api.post(f"{path}/test").status == 202
        send(lambda: len(receiver.received) > before)
        return [receiver.received[-1].is_signed_by(secret) for secret in secrets]

    second = rotated(600)
    assert signed_by(made["secret"], second) == [True, True]
    third = rotated(0)
    assert signed_by(made["secret"], second, third) == [False, False, True]
    assert alice.api.post(f"{path}/rotate-secret", {"former_seconds": 10**9}).status == 400


def test_a_secret_that_can_be_read_no_more_is_said(alice, receiver, make_channel, send, settings):
    made = make_channel(alice, receiver.url)
    settings.SECRET_KEY = "another " * 8
    path = f"/notification-channels/{made['id']}"
    alice.api.post(f"{path}/test")
    send(lambda: Delivery.objects.filter(attempts=1).exists())
    [delivery] = alice.api.get(f"{path}/deliveries").json["deliveries"]
    assert delivery["answer"] == "Its secret can be read no more: make it a new one."
    assert receiver.received == []


# --- The log --------------------------------------------------------------------------------------
def test_a_test_is_sent_at_once_whatever_failed_before(alice, receiver, make_channel, send):
    made = make_channel(alice, receiver.url)
    path = f"/notification-channels/{made['id']}"
    receiver.status = 500
    receiver.answer_headers = {"Retry-After": "3600"}
    alice.api.post(f"{path}/test")
    send(lambda: Delivery.objects.filter(attempts=1).exists())
    assert alice.api.get(path).json["channel"]["state"] == "failing"
    receiver.status = 200
    answer = alice.api.post(f"{path}/test")
    assert answer.status == 202
    send(delivered(2))  # and with it what waited
    assert receiver.received[-1].json["type"] == "test"
    assert receiver.received[-1].id == answer.json["delivery"]["id"]
    assert alice.api.get(path).json["channel"]["state"] == "working"
    alice.api.patch(path, {"enabled": False})
    assert alice.api.post(f"{path}/test").status == 409


def test_the_log_says_what_was_sent_and_what_came_of_it(
    alice, bob, sensor, receiver, make_channel, send
):
    made = make_channel(alice, receiver.url)
    path = f"/notification-channels/{made['id']}/deliveries"
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    send(delivered(1))
    receiver.status = 503
    say(sensor, 20)
    send(lambda: Delivery.objects.filter(attempts=1, status="waiting").exists())
    answer = alice.api.get(path)
    newest, oldest = answer.json["deliveries"]
    assert answer.json["meta"]["total"] == 2
    assert (oldest["status"], oldest["answer"], oldest["attempts"]) == ("delivered", "HTTP 204", 1)
    assert (newest["status"], newest["answer"]) == ("waiting", "HTTP 503")
    assert oldest["body"].encode() == receiver.received[0].body
    assert oldest["id"] == receiver.received[0].id
    assert [one["id"] for one in alice.api.get(path, status="waiting").json["deliveries"]] == [
        newest["id"]
    ]
    assert alice.api.get(path, limit=1, offset=1).json["deliveries"] == [oldest]
    assert alice.api.get(path, status="lost").fields() == {"status"}
    assert bob.api.get(path).status == 404


def test_what_was_delivered_is_sent_again_under_its_id(
    alice, bob, sensor, receiver, make_channel, send
):
    make_channel(alice, receiver.url)
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    [waiting] = Delivery.objects.all()
    path = f"/deliveries/{waiting.pk}/replay"
    assert alice.api.post(path).status == 409
    send(delivered(1))
    assert bob.api.post(path).status == 404
    answer = alice.api.post(path)
    assert (answer.status, answer.json["delivery"]["status"]) == (202, "waiting")
    send(delivered(1))
    first, again = receiver.received
    assert (first.id, first.body) == (again.id, again.body)
    assert EventLog.objects.filter(kind="notification.replayed").count() == 1


def test_a_list_costs_the_same_however_many_there_are(
    alice, make_channel, django_assert_num_queries
):
    for _ in range(5):
        make_channel(alice, URL)
    with django_assert_num_queries(3):  # who asks, how many there are, the page
        assert len(alice.api.get("/notification-channels").json["channels"]) == 5


# --- The admin site -------------------------------------------------------------------------------
def test_staff_look_at_channels_change_them_and_send_again(
    staff, alice, receiver, make_channel, send
):
    made = make_channel(alice, receiver.url)
    client = Client()
    client.force_login(staff.user)
    base = "/admin/telemetry/notificationchannel/"
    page = client.get(base).content.decode()
    assert "http://127.0.0.1" in page
    form = client.get(f"{base}{made['id']}/change/").content.decode()
    assert "t0ken" not in page + form
    data = {"name": "Night", "least_severity": "error", "digest_seconds": 60}
    assert client.post(f"{base}{made['id']}/change/", data).status_code == 302
    assert alice.api.get(f"/notification-channels/{made['id']}").json["channel"]["state"] == "off"
    client.post(f"{base}{made['id']}/change/", {**data, "enabled": "on"})
    client.post(base, {"action": "test", "_selected_action": [made["id"]]})
    send(delivered(1))
    [delivery] = Delivery.objects.all()
    log = "/admin/telemetry/delivery/"
    assert client.get(log).status_code == 200
    assert client.get(f"{log}{delivery.pk}/change/").status_code == 200
    client.post(log, {"action": "replay", "_selected_action": [str(delivery.pk)]})
    send(lambda: len(receiver.received) == 2)
    client.post(
        base, {"action": "delete_selected", "_selected_action": [made["id"]], "post": "yes"}
    )
    assert not NotificationChannel.objects.exists()
    assert EventLog.objects.filter(kind="notification_channel.deleted").count() == 1
