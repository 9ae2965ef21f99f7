"""Rules and alerts in the admin site: made, changed, acknowledged, and shown where they matter."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from events.models import Alert, EventLog
from iotflow.lib.timeparse import now_ms
from telemetry.alerting.models import AlertRule, LiveAlert

FORM = {
    "name": "<b>too hot</b>",
    "severity": "error",
    "enabled": "on",
    "device_type": "",
    "measurement": "t",
    "kind": "above",
    "threshold": "30",
    "hysteresis": "0",
    "raise_after": "0",
    "clear_after": "0",
    "late_seconds": "300",
    "muted_timezone": "UTC",
}
ADD = "/admin/telemetry/alertrule/add/"


def logged_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def site(staff) -> Client:
    return logged_in(staff.user)


@pytest.fixture
def viewer(make_user):
    """Somebody of staff who may look at everything about alerts."""
    viewer = make_user("viewer", is_staff=True)
    may = ["view_alert", "view_alertrule", "view_device", "view_eventlog"]
    viewer.user.user_permissions.add(*Permission.objects.filter(codename__in=may))
    return viewer


@pytest.fixture
def rule(site, alice, sensor):
    answer = site.post(ADD, {**FORM, "device": sensor.id})
    assert answer.status_code == 302, answer.content.decode()
    return AlertRule.objects.get()


@pytest.fixture
def alert(rule, sensor):
    answer = sensor.api.post("/telemetry/batch", {"readings": [{"data": {"t": 31}}]})
    assert answer.status == 201
    return Alert.objects.get()


def test_a_rule_made_here_is_its_devices_owners_and_an_event(alice, rule):
    assert rule.owner == alice.user
    [event] = EventLog.objects.filter(kind="alert_rule.created")
    assert (event.actor, event.user_id) == ("user:staff", alice.user.pk)


def test_a_rule_changed_here_begins_anew(site, rule, alert):
    path = f"/admin/telemetry/alertrule/{rule.pk}/change/"
    assert site.post(path, {**FORM, "threshold": "40"}).status_code == 302
    assert AlertRule.objects.get().version == 1
    assert Alert.objects.get().resolution == "its rule was changed"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"device": ""}, "Exactly one of a device, a group and a device type."),
        ({"threshold": ""}, "needs it"),
        ({"threshold": "inf"}, "Enter a number."),
        ({"kind": "odd"}, "Select a valid choice"),
        ({"raise_after": "604801"}, "less than or equal to 604800"),
        ({"device": "9" * 30}, "Select a valid choice"),
    ],
)
def test_a_rule_that_makes_no_sense_is_not_made(site, sensor, fields, said):
    answer = site.post(ADD, {**FORM, "device": sensor.id, **fields})
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not AlertRule.objects.exists()


def test_one_rule_too_many_is_told(site, rule, sensor, settings):
    settings.ALERT_RULES_MAX = 1
    answer = site.post(ADD, {**FORM, "device": sensor.id}, follow=True)
    assert "There are 1 rules already." in answer.content.decode()
    assert AlertRule.objects.count() == 1


def test_an_alert_is_acknowledged_and_resolved_here(site, alert):
    for action, status in (("acknowledge", "acknowledged"), ("resolve", "resolved")):
        chosen = {"action": action, "_selected_action": [alert.pk]}
        answer = site.post("/admin/events/alert/", chosen, follow=True)
        assert f"1 alert(s) {status}." in answer.content.decode()
        assert Alert.objects.get().status == status
    answer = site.post("/admin/events/alert/", chosen, follow=True)
    assert "1 alert(s) could not be resolved." in answer.content.decode()
    for nonsense in ("1", "x", "9" * 40):
        answer = site.post("/admin/events/alert/", {**chosen, "_selected_action": nonsense})
        assert answer.headers["Location"].endswith("?e=1")


def test_who_may_only_look_changes_nothing(viewer, rule, alert):
    client = logged_in(viewer.user)
    client.post("/admin/events/alert/", {"action": "resolve", "_selected_action": [alert.pk]})
    assert LiveAlert.objects.get().is_open
    path = f"/admin/telemetry/alertrule/{rule.pk}"
    assert client.post(f"{path}/change/", {**FORM, "threshold": "40"}).status_code == 403
    assert client.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(ADD, FORM).status_code == 403


def test_what_is_open_is_on_the_dashboard_and_the_devices_page(viewer, alert, sensor):
    client = logged_in(viewer.user)
    for path in ("/admin/", f"/admin/devices/device/{sensor.id}/overview/"):
        page = client.get(path).content.decode()
        assert "sensor: t is 31, above 30" in page
        assert f"/admin/events/alert/{alert.pk}/change/" in page
    assert (
        "<b>too hot" not in client.get(f"/admin/events/alert/{alert.pk}/change/").content.decode()
    )


def test_staff_who_see_no_alerts_see_none(make_user, alert, sensor):
    staff = make_user("looker", is_staff=True)
    staff.user.user_permissions.add(Permission.objects.get(codename="view_device"))
    client = logged_in(staff.user)
    for path in ("/admin/", f"/admin/devices/device/{sensor.id}/overview/"):
        assert "above 30" not in client.get(path).content.decode()
    assert client.get("/admin/events/alert/").status_code == 403
    assert client.get("/admin/telemetry/alertrule/").status_code == 403


def test_staff_see_what_is_open_about_their_own_device(make_user, make_device):
    owner = make_user("keeper", is_staff=True)
    thing = make_device(owner, "mine")
    fields = {"name": "r", "measurement": "t", "kind": "above", "threshold": 30}
    assert owner.api.post("/alert-rules", {**fields, "device_id": thing.id}).status == 201
    readings = [{"data": {"t": 31}, "timestamp": now_ms()}]
    assert thing.api.post("/telemetry/batch", {"readings": readings}).status == 201
    page = logged_in(owner.user).get(f"/admin/devices/device/{thing.id}/overview/")
    assert "mine: t is 31, above 30" in page.content.decode()
    assert "/admin/events/alert/" not in page.content.decode()
