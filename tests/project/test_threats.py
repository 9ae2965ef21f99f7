"""Attacks of docs/security.md that have no better place: what is sent stays what it is, a text."""

import logging

import pytest
from django.test import Client

from accounts.models import User
from devices.models import Device, DeviceGroup, GroupMembership
from tests.api import Api

MARKUP = "<img src=x onerror=alert(1)>"
STATEMENTS = [
    "' OR '1'='1",
    "x'; DROP TABLE devices_device; --",
    '{"$ne": ""}',
    "%' UNION SELECT 1",
]


@pytest.fixture
def site(staff) -> Client:
    client = Client()
    client.force_login(staff.user)
    return client


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_in_a_text_is_looked_for_and_not_run(alice, staff, sensor, site, text):
    assert alice.api.get("/devices", search=text).json["devices"] == []
    assert staff.api.get("/users", search=text).json["users"] == []
    assert staff.api.get("/admin/events", search=text).status in (200, 400, 404)
    assert site.get("/admin/devices/device/", {"q": text}).status_code == 200
    assert site.get("/admin/events/eventlog/", {"q": text}).status_code == 200
    named = alice.api.post("/devices/register", {"name": text}).json["device"]
    assert alice.api.get("/devices", search=text).json["devices"][0]["id"] == named["id"]
    assert Device.objects.count() == 2


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_in_a_reading_comes_back_as_it_was(sensor, text):
    sent = {"data": {text: text}, "metadata": {"note": text}}
    answer = sensor.api.post("/telemetry", sent)
    if answer.status == 201:
        [reading] = sensor.api.get(f"/telemetry/{sensor.id}").json["data"]
        assert reading["measurements"] == {text: text}
    else:
        assert (answer.status, bool(answer.fields())) == (400, True)
    asked = sensor.api.get(f"/telemetry/{sensor.id}", fields=text)
    assert asked.status in (200, 400)


@pytest.mark.parametrize("sent", [{"$ne": ""}, ["swordfish 17"], True, 17, None])
def test_an_operator_in_place_of_a_password_opens_nothing(alice, anybody, sent):
    answer = anybody.post("/auth/login", {"username": "alice", "password": sent})
    assert answer.status in (400, 401)
    answer = anybody.post("/auth/login", {"username": sent, "password": "swordfish 17"})
    assert answer.status in (400, 401)


def test_markup_in_names_and_readings_is_shown_as_text(site, alice, make_device):
    sensor = make_device(alice, MARKUP, location=MARKUP, device_type=MARKUP)
    group = DeviceGroup.objects.create(owner=alice.user, name=MARKUP)
    GroupMembership.objects.create(group=group, device=sensor.device)
    sensor.api.post("/telemetry", {"data": {"a": MARKUP}, "metadata": {"m": MARKUP}})
    sensor.api.post("/devices/config/reported", {"version": 0, "message": MARKUP})
    alice.api.put(f"/devices/{sensor.id}/config", {"config": {MARKUP: MARKUP}})
    device, of_group = f"devices/device/{sensor.id}", f"devices/devicegroup/{group.pk}"
    shown = 0
    for path in (
        "",
        "dashboard/",
        "devices/device/",
        *(
            f"{device}/{tab}/"
            for tab in ("overview", "telemetry", "events", "keys", "configuration")
        ),
        f"{device}/change/",
        f"{device}/delete/",
        *(f"{of_group}/{tab}/" for tab in ("latest", "compare", "members", "change")),
        f"accounts/user/{alice.user.pk}/overview/",
        "events/eventlog/",
        "events/deviceconfig/",
        "search/?s=img",
    ):
        page = site.get(f"/admin/{path}", follow=True)
        assert page.status_code == 200, path
        text = page.content.decode()
        assert "<img src=x" not in text, path
        shown += "&lt;img src=x" in text
    assert shown > 8, "the pages show what was named so"


def test_no_form_of_another_site_changes_anything(staff, sensor):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff.user)
    for path, form in (
        (f"devices/device/{sensor.id}/status/", {"status": "inactive"}),
        (f"devices/device/{sensor.id}/rotate_key/", {}),
        (f"devices/device/{sensor.id}/delete/", {"post": "yes"}),
        ("accounts/user/add/", {"username": "mallory"}),
        ("second-factor/", {"code": "123456"}),
        ("logout/", {}),
    ):
        assert client.post(f"/admin/{path}", form).status_code == 403, path
    assert sensor.api.get("/devices/status").json["status"] == "active"


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_nobody_is_sent_to_another_site_after_the_log_in(staff, wanted):
    form = {"username": "staff", "password": "swordfish 17", "next": wanted}
    assert Client().post("/admin/login/", form).headers["Location"] == "/admin/"


def test_fields_that_are_not_for_them_are_not_taken(alice, bob, sensor):
    more = {"owner": bob.user.pk, "owner_id": bob.user.pk, "id": 1, "is_staff": True, "key": "x"}
    made = alice.api.post("/devices/register", {"name": "mine", **more})
    if made.status == 201:
        device = Device.objects.get(pk=made.json["device"]["id"])
        assert device.owner == alice.user
    alice.api.patch(f"/devices/{sensor.id}", {"name": "renamed", **more})
    assert Device.objects.get(pk=sensor.id).owner == alice.user
    alice.api.put(
        f"/users/{alice.user.user_id}", {"is_staff": True, "is_superuser": True, "is_active": True}
    )
    user = User.objects.get(pk=alice.user.pk)
    assert not user.is_staff
    assert not user.is_superuser


def test_a_client_writes_no_line_of_the_log(site, alice, caplog):
    forged = "%0A2026-01-01 00:00:00 CRITICAL root the server was taken over"
    for logger in ("", "django.request"):  # which by itself tells of failures only
        caplog.set_level(logging.DEBUG, logger=logger)
    for path in (f"/admin/devices/device/?owner__id={forged}", f"/admin/{forged}/", f"/{forged}"):
        site.get(path)
    for name in ("line\nbreak", "line\r\nbreak"):
        Api().post("/auth/login", {"username": name, "password": name})
    assert caplog.records, "something was logged"
    for record in caplog.records:
        assert "\n" not in record.getMessage(), record.getMessage()
        assert "\r" not in record.getMessage()


def test_what_sessions_and_caches_hold_is_json(settings):
    """Whoever may write to a store runs no code of theirs here by it."""
    assert settings.SESSION_SERIALIZER.endswith("JSONSerializer")
    assert settings.CACHES["default"]["OPTIONS"]["SERIALIZER"].endswith("JSONSerializer")


def test_passwords_are_hashed_slowly_and_with_memory():
    from iotflow import settings as real  # those of tests have a fast hasher

    assert real.PASSWORD_HASHERS[0] == "django.contrib.auth.hashers.Argon2PasswordHasher"
