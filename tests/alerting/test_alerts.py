"""From a rule by the API and readings to an alert, its events, and what people do with it."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from devices.models import Device
from devices.services import (
    add_to_group,
    create_group,
    delete_devices,
    delete_group,
    remove_all_from_group,
    set_status,
)
from events import outbox, sinks
from events.models import Alert, EventLog
from iotflow.lib.errors import Conflict
from iotflow.lib.timeparse import now_ms
from telemetry import ingest
from telemetry.alerting import alerts, silence, sweep
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert
from telemetry.alerting.rules import change_rule
from telemetry.models import DeviceData

HOT = {"name": "too hot", "measurement": "t", "kind": "above", "threshold": 30}


def make_rule(who, **fields):
    answer = who.api.post("/alert-rules", {**HOT, **fields})
    assert answer.status == 201, answer.text
    return answer.json["rule"]


def say(thing, *values, seconds_ago=0.0, name="t"):
    """Submit values a second apart, the last of them so long ago; each is looked at by then."""
    last = now_ms() - int(1000 * seconds_ago)
    for n, value in enumerate(values):
        at = last - 1000 * (len(values) - 1 - n)
        answer = thing.api.post(
            "/telemetry/batch", {"readings": [{"data": {name: value}, "timestamp": at}]}
        )
        assert answer.status == 201, answer.text


def alerts_of(who, **query):
    return who.api.get("/alerts", **query).json["alerts"]


@pytest.fixture
def open_alert(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31)
    [alert] = alerts_of(alice)
    return alert


# --- From readings to alerts ----------------------------------------------------------------------
def test_a_reading_past_the_threshold_raises_an_alert_with_its_event(alice, sensor):
    rule = make_rule(alice, device_id=sensor.device.pk, severity="error")
    say(sensor, 29, 31.5)
    [alert] = alerts_of(alice)
    assert (alert["rule_id"], alert["device_id"]) == (rule["id"], sensor.device.pk)
    assert (alert["status"], alert["severity"]) == ("raised", "error")
    assert alert["message"] == "sensor: t is 31.5, above 30"
    assert alert["details"]["raised"]["value"] == 31.5
    assert [entry["what"] for entry in alert["history"]] == ["raised"]
    [event] = EventLog.objects.filter(kind="alert.raised")
    assert event.payload["alert_id"] == alert["id"]
    assert (event.user_id, event.device_id) == (alice.user.pk, sensor.device.pk)


def test_a_single_message_is_answered_once_it_was_looked_at(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    assert sensor.api.post("/telemetry", {"data": {"t": 31}}).status == 201
    assert len(alerts_of(alice)) == 1


def test_one_alert_is_open_however_long_it_lasts_and_clears_by_itself(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31, 32, 33, seconds_ago=10)
    assert len(alerts_of(alice)) == 1
    say(sensor, 20)
    [alert] = alerts_of(alice)
    assert (alert["status"], alert["resolution"]) == ("resolved", "cleared")
    assert [entry["what"] for entry in alert["history"]] == ["raised", "cleared"]
    assert EventLog.objects.filter(kind="alert.cleared").count() == 1
    assert not LiveAlert.objects.exists()


def test_a_batch_is_looked_at_in_the_order_of_its_times(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    now = now_ms()
    values = {now - 3000: 20, now - 2000: 31, now - 1000: 20, now: 32}
    readings = [{"data": {"t": v}, "timestamp": at} for at, v in reversed(values.items())]
    assert sensor.api.post("/telemetry/batch", {"readings": readings}).status == 201
    assert [alert["status"] for alert in alerts_of(alice)] == ["raised", "resolved"]


def test_late_readings_neither_raise_nor_clear(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk, late_seconds=60)
    say(sensor, 99, seconds_ago=61)
    say(sensor, 20)
    say(sensor, 99, seconds_ago=5)
    assert alerts_of(alice) == []
    say(sensor, 31)
    say(sensor, 20, seconds_ago=5)
    assert [alert["status"] for alert in alerts_of(alice)] == ["raised"]


def test_readings_ahead_of_the_clock_are_not_looked_at(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 99, seconds_ago=-120)
    assert alerts_of(alice) == []
    say(sensor, 31)
    assert len(alerts_of(alice)) == 1


@pytest.mark.parametrize(
    ("fields", "fine", "breach"),
    [
        ({"kind": "below", "threshold": 5}, 6, 4),
        ({"kind": "outside", "threshold": None, "low": 5, "high": 9}, 6, 4),
        ({"kind": "rate", "threshold": 2}, 6, 60),
        ({"kind": "flapping", "threshold": 1, "within_seconds": 60, "hysteresis": 1}, 6, [7, 6]),
        ({"threshold": 0.5}, False, True),
    ],
)
def test_every_kind_raises(alice, sensor, fields, fine, breach):
    make_rule(alice, device_id=sensor.device.pk, **fields)
    say(sensor, fine, seconds_ago=2)
    assert alerts_of(alice) == []
    say(sensor, *(breach if isinstance(breach, list) else [breach]))
    assert len(alerts_of(alice)) == 1


def test_texts_and_other_measurements_are_nothing_to_a_rule(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, "99")
    say(sensor, 99, name="u")
    assert alerts_of(alice) == []
    assert not AlertState.objects.exists()


def test_rules_of_a_group_and_of_a_type(alice, bob, make_device):
    boiler = make_device(alice, "boiler", device_type="boiler")
    bobs = make_device(bob, "bob's", device_type="boiler")
    group = create_group(owner=alice.user, fields={"name": "Cellar"}, actor="")
    add_to_group(group=group, device=boiler.device, actor="")
    make_rule(alice, group_id=group.pk, name="of the group")
    make_rule(alice, device_type="boiler", name="of the type")
    say(boiler, 31)
    say(bobs, 31)
    assert {alert["rule_name"] for alert in alerts_of(alice)} == {"of the group", "of the type"}
    assert alerts_of(bob) == []


def test_a_device_in_maintenance_raises_nothing(alice, sensor):
    make_rule(alice, device_id=sensor.device.pk)
    set_status(devices=[sensor.device], status="maintenance", actor="")
    say(sensor, 31, seconds_ago=2)
    assert alerts_of(alice) == []
    set_status(devices=[sensor.device], status="active", actor="")
    say(sensor, 31)
    assert len(alerts_of(alice)) == 1


def test_a_muted_rule_raises_nothing(alice, sensor):
    rule = make_rule(alice, device_id=sensor.device.pk, muted_until="2100-01-01T00:00:00Z")
    say(sensor, 31, seconds_ago=2)
    assert alerts_of(alice) == []
    path = f"/alert-rules/{rule['id']}"
    alice.api.patch(path, {"muted_until": None, "muted_weekly": "00:00-24:00"})
    say(sensor, 31, seconds_ago=1)
    assert alerts_of(alice) == []
    assert alice.api.patch(path, {"muted_weekly": ""}).json["rule"]["muted_timezone"] == "UTC"
    say(sensor, 31)
    assert len(alerts_of(alice)) == 1


def test_what_changes_nothing_asks_the_database_for_nothing(
    alice, sensor, django_assert_num_queries
):
    from telemetry import commit
    from telemetry.alerting import book
    from telemetry.alerting.evaluation import decide
    from telemetry.readings import Reading

    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 20)
    now = now_ms() + 1000
    readings = [
        Reading(sensor.device.pk, alice.user.pk, now + n, 1000 * now, {"t": 20.0}) for n in range(9)
    ]
    with django_assert_num_queries(0):
        decide(commit.publish(readings, [], book.checks(readings, [])))


def test_what_redis_has_forgotten_the_database_knows(alice, sensor):
    from iotflow.lib.redis import forget_everything

    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 31, seconds_ago=5)
    forget_everything()
    say(sensor, 32, seconds_ago=4)
    assert len(alerts_of(alice)) == 1
    forget_everything()
    say(sensor, 20, seconds_ago=6)  # late
    assert [alert["status"] for alert in alerts_of(alice)] == ["raised"]
    say(sensor, 20)
    assert [alert["status"] for alert in alerts_of(alice)] == ["resolved"]


def test_the_answer_does_not_wait_for_rules_that_take_too_long(sensor, settings, monkeypatch):
    settings.INGEST_WAIT_MS = 200
    decided = threading.Event()
    monkeypatch.setattr(ingest, "decide", lambda due: decided.wait(20))
    assert sensor.api.post("/telemetry", {"data": {"t": 31}}).status == 201
    decided.set()


# --- What people do -------------------------------------------------------------------------------
def test_acknowledge_comment_and_resolve(alice, sensor, open_alert):
    path = f"/alerts/{open_alert['id']}"
    answer = alice.api.post(f"{path}/acknowledge", {})
    assert (answer.status, answer.json["alert"]["assignee"]) == (200, "alice")
    assert alice.api.post(f"{path}/acknowledge", {}).status == 409
    assert alice.api.post(f"{path}/comment", {"text": "on my way"}).status == 200
    assert alice.api.post(f"{path}/resolve").status == 200
    alert = alice.api.get(path).json["alert"]
    assert (alert["status"], alert["resolution"]) == ("resolved", "resolved by user:alice")
    assert [entry["text"] for entry in alert["comments"]] == ["on my way"]
    what = [entry["what"] for entry in alert["history"]]
    assert what == ["raised", "acknowledged", "commented", "resolved"]
    for action in ("acknowledge", "resolve", "comment"):
        answer = alice.api.post(f"{path}/{action}", {"text": "too late"})
        assert (answer.status, answer.json["message"]) == (409, "This alert is resolved.")
    kinds = set(EventLog.objects.filter(kind__startswith="alert.").values_list("kind", flat=True))
    assert kinds == {"alert.raised", "alert.acknowledged", "alert.commented", "alert.resolved"}


def test_what_is_resolved_by_hand_is_raised_again_only_after_it_was_fine(alice, sensor, open_alert):
    alice.api.post(f"/alerts/{open_alert['id']}/resolve")
    say(sensor, 32)
    assert len(alerts_of(alice)) == 1
    say(sensor, 20)
    say(sensor, 33)
    assert [alert["status"] for alert in alerts_of(alice)] == ["raised", "resolved"]


def test_an_acknowledged_alert_clears_too(alice, sensor, open_alert):
    alice.api.post(f"/alerts/{open_alert['id']}/acknowledge", {"assignee": "carol"})
    say(sensor, 20)
    [alert] = alerts_of(alice)
    assert (alert["status"], alert["assignee"]) == ("resolved", "carol")


def test_somebody_elses_alerts_and_rules_are_not_there(alice, bob, sensor, open_alert):
    assert alerts_of(bob) == []
    for action in ("acknowledge", "resolve", "comment"):
        path = f"/alerts/{open_alert['id']}/{action}"
        assert bob.api.post(path, {"text": "x"}).status == 404
        assert bob.api.post(f"/alerts/{uuid.uuid4()}/{action}", {"text": "x"}).status == 404
    assert bob.api.post("/alert-rules", {**HOT, "device_id": sensor.device.pk}).status == 404
    rule = open_alert["rule_id"]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert bob.api.request(method, f"/alert-rules/{rule}", {"name": "x"}).status == 404


def test_alerts_are_filtered_and_paged(alice, sensor, make_device):
    make_rule(alice, device_type="sensor")
    things = [sensor, *(make_device(alice) for _ in range(4))]
    for thing in things:
        say(thing, 31)
    say(things[0], 20)
    assert len(alerts_of(alice, status="raised")) == 4
    assert len(alerts_of(alice, device_id=things[0].device.pk)) == 1
    assert alerts_of(alice, severity="error") == []
    assert alerts_of(alice, end_time="-1h") == []
    seen, cursor = [], ""
    while cursor is not None:
        answer = alice.api.get("/alerts", limit=2, **({"cursor": cursor} if cursor else {})).json
        seen += [alert["id"] for alert in answer["alerts"]]
        cursor = answer["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    for name, value in {"status": "x", "cursor": "x", "limit": 0, "start_time": "x"}.items():
        assert alice.api.get("/alerts", **{name: value}).status == 400


# --- Rules ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"device_id": None}, {"device_id"}),
        ({"device_type": "x"}, {"device_id"}),
        ({"threshold": None}, {"threshold"}),
        ({"threshold": "nan"}, {"threshold"}),
        ({"threshold": 1e301}, {"threshold"}),
        ({"threshold": 10**400}, {"threshold"}),
        ({"low": 1}, {"low"}),
        ({"kind": "outside", "threshold": None, "low": 3, "high": 2}, {"low"}),
        (
            {"kind": "outside", "threshold": None, "low": 1, "high": 2, "hysteresis": 1},
            {"hysteresis"},
        ),
        ({"kind": "absence", "threshold": None}, {"expected_seconds", "missed"}),
        ({"kind": "flapping"}, {"within_seconds"}),
        ({"kind": "flapping", "threshold": 101, "within_seconds": 9}, {"threshold"}),
        ({"kind": "flapping", "threshold": 0, "within_seconds": 9}, {"threshold"}),
        ({"measurement": ""}, {"measurement"}),
        ({"measurement": "no\nname"}, {"measurement"}),
        ({"hysteresis": -1}, {"hysteresis"}),
        ({"raise_after": -1}, {"raise_after"}),
        ({"late_seconds": 0}, {"late_seconds"}),
        ({"name": "x" * 101}, {"name"}),
        ({"kind": "odd"}, {"kind"}),
        ({"muted_until": "soon"}, {"muted_until"}),
        ({"muted_weekly": "at night"}, {"muted_weekly"}),
        ({"muted_weekly": "09:00-10:00", "muted_timezone": "Bonn"}, {"muted_timezone"}),
        ({"muted_timezone": ""}, {"muted_timezone"}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(alice, sensor, fields, wrong):
    answer = alice.api.post("/alert-rules", {**HOT, "device_id": sensor.device.pk, **fields})
    assert (answer.status, answer.fields()) == (400, wrong)


def test_a_changed_rule_begins_anew_and_resolves_what_it_had_open(alice, sensor, open_alert):
    path = f"/alert-rules/{open_alert['rule_id']}"
    assert alice.api.patch(path, {"name": "hotter", "severity": "error"}).status == 200
    assert [alert["status"] for alert in alerts_of(alice)] == ["raised"]
    assert alice.api.patch(path, {"threshold": 40}).json["rule"]["threshold"] == 40
    [alert] = alerts_of(alice)
    assert (alert["status"], alert["resolution"]) == ("resolved", "its rule was changed")
    say(sensor, 35)
    assert len(alerts_of(alice)) == 1
    say(sensor, 41)
    assert len(alerts_of(alice)) == 2
    events = EventLog.objects.filter(kind="alert_rule.changed").order_by("time")
    assert events[1].payload["changes"] == {"threshold": [30.0, 40.0]}


def test_a_disabled_rule_raises_nothing(alice, sensor):
    rule = make_rule(alice, device_id=sensor.device.pk, enabled=False)
    say(sensor, 31)
    assert alerts_of(alice) == []
    alice.api.put(f"/alert-rules/{rule['id']}", {"enabled": True})
    say(sensor, 31)
    assert len(alerts_of(alice)) == 1


def test_a_kind_that_changes_takes_its_own_numbers(alice, sensor):
    rule = make_rule(alice, device_id=sensor.device.pk)
    path = f"/alert-rules/{rule['id']}"
    assert alice.api.patch(path, {"kind": "outside"}).fields() == {"low", "high"}
    changed = alice.api.patch(path, {"kind": "outside", "low": 1, "high": 2}).json["rule"]
    assert (changed["threshold"], changed["low"], changed["high"]) == (None, 1, 2)


def test_there_are_only_so_many_rules(alice, sensor, settings):
    settings.ALERT_RULES_MAX = 2
    for _ in range(2):
        make_rule(alice, device_id=sensor.device.pk)
    assert alice.api.post("/alert-rules", {**HOT, "device_type": "x"}).status == 409


def test_a_rule_that_became_another_one_meanwhile_is_not_changed(alice, sensor):
    rule = AlertRule.objects.get(pk=make_rule(alice, device_id=sensor.device.pk)["id"])
    alice.api.patch(f"/alert-rules/{rule.pk}", {"kind": "outside", "low": 1, "high": 2})
    with pytest.raises(Conflict):
        change_rule(rule=rule, fields={"threshold": 40.0, "low": None, "high": None}, actor="")
    assert AlertRule.objects.get().low == 1


# --- What goes leaves nothing open ----------------------------------------------------------------
def assert_resolved(who, reason):
    [alert] = alerts_of(who)
    assert (alert["status"], alert["resolution"]) == ("resolved", reason)
    assert not LiveAlert.objects.exists()
    assert not AlertState.objects.exists()


def test_a_deleted_rule_resolves_its_alerts(alice, sensor, open_alert):
    assert alice.api.delete(f"/alert-rules/{open_alert['rule_id']}").status == 200
    assert_resolved(alice, "its rule was deleted")
    say(sensor, 50)
    assert len(alerts_of(alice)) == 1
    assert EventLog.objects.filter(kind="alert_rule.deleted").count() == 1


def test_a_deleted_device_resolves_its_alerts_and_takes_its_rules(alice, sensor, open_alert):
    delete_devices(devices=[sensor.device], actor="")
    assert_resolved(alice, "its device was deleted")
    assert not AlertRule.objects.exists()
    assert EventLog.objects.filter(kind="alert_rule.deleted").count() == 1


def test_a_deleted_group_resolves_its_alerts(alice, sensor):
    group = create_group(owner=alice.user, fields={"name": "Cellar"}, actor="")
    add_to_group(group=group, device=sensor.device, actor="")
    make_rule(alice, group_id=group.pk)
    say(sensor, 31)
    delete_group(group=group, actor="")
    assert_resolved(alice, "its rule was deleted")


def test_a_deleted_user_leaves_nothing(alice, sensor, staff, open_alert):
    make_rule(alice, device_type="sensor")
    assert staff.api.delete(f"/users/{alice.user.user_id}").status == 200
    assert_resolved(staff, "its device was deleted")
    assert not AlertRule.objects.exists()


def test_a_device_that_leaves_the_group_is_watched_no_more(alice, sensor):
    group = create_group(owner=alice.user, fields={"name": "Cellar"}, actor="")
    add_to_group(group=group, device=sensor.device, actor="")
    make_rule(alice, group_id=group.pk)
    say(sensor, 31)
    assert sweep.close_unwatched() == 0
    remove_all_from_group(group=group, device_ids=[sensor.device.pk], actor="")
    assert sweep.close_unwatched() == 1
    assert_resolved(alice, "no rule watches this any more")


def test_a_device_of_another_type_is_watched_no_more(alice, sensor):
    make_rule(alice, device_type="sensor")
    say(sensor, 31)
    assert sweep.close_unwatched() == 0
    alice.api.patch(f"/devices/{sensor.device.pk}", {"device_type": "boiler"})
    assert sweep.close_unwatched() == 1
    assert_resolved(alice, "no rule watches this any more")


def test_what_the_version_before_deletes_is_swept_up(alice, sensor, open_alert):
    device = Device.objects.filter(pk=sensor.device.pk)
    DeviceData.objects.all().delete()
    sensor.device.keys.all().delete()
    device._raw_delete("default")
    sweep.close_unwatched()
    assert_resolved(alice, "its rule was deleted")
    assert not AlertRule.objects.exists()


# --- Silence --------------------------------------------------------------------------------------
@pytest.fixture
def quiet_rule(alice, sensor):
    rule = make_rule(
        alice,
        device_id=sensor.device.pk,
        kind="absence",
        threshold=None,
        measurement="",
        expected_seconds=10,
        missed=3,
    )
    long_ago = timezone.now() - timedelta(hours=1)
    AlertRule.objects.update(begun_at=long_ago)
    Device.objects.update(updated_at=long_ago)
    return rule


def test_what_is_not_yet_silence_raises_nothing(alice, sensor, quiet_rule):
    say(sensor, 1, seconds_ago=29)
    assert silence.find_silence() == 0
    assert alerts_of(alice) == []


def test_silence_of_so_long_raises_once(alice, sensor, quiet_rule):
    say(sensor, 1, seconds_ago=31)
    assert silence.find_silence() == 1
    assert silence.find_silence() == 0
    [alert] = alerts_of(alice)
    assert alert["message"] == "sensor: no reading for 30 seconds"
    say(sensor, 1, seconds_ago=40)  # late: it says nothing of now
    assert silence.find_silence() == 0
    say(sensor, 1)
    assert silence.find_silence() == 1
    assert [alert["resolution"] for alert in alerts_of(alice)] == ["cleared"]


def test_a_device_that_never_spoke_is_silent_too(alice, sensor, quiet_rule):
    assert silence.find_silence() == 1


def test_silence_in_maintenance_is_nothing(alice, sensor, quiet_rule):
    set_status(devices=[sensor.device], status="maintenance", actor="")
    assert silence.find_silence() == 0
    set_status(devices=[sensor.device], status="active", actor="")
    assert silence.find_silence() == 0  # it is given time to speak again


def test_a_new_rule_gives_time(alice, sensor, quiet_rule):
    AlertRule.objects.update(begun_at=timezone.now())
    assert silence.find_silence() == 0


# --- Away -----------------------------------------------------------------------------------------
def test_what_could_not_be_delivered_goes_there_once(alice, sensor, open_alert):
    Alert.objects.all().delete()
    LiveAlert.objects.update(delivered=0)
    assert alerts.deliver_all() == 1
    assert alerts.deliver_all() == 0
    assert [alert["id"] for alert in alerts_of(alice)] == [open_alert["id"]]


def test_an_older_writing_of_an_alert_does_not_undo_a_newer_one(alice, sensor, open_alert):
    old = LiveAlert.objects.get().document
    alice.api.post(f"/alerts/{open_alert['id']}/acknowledge", {})
    sinks.keep_alerts([old])
    [alert] = alerts_of(alice)
    assert (alert["status"], alert["seq"]) == ("acknowledged", 2)


def test_an_alert_outlives_its_end_by_the_time_that_events_have(alice, sensor, open_alert):
    later = timezone.now() + timedelta(days=1)
    assert sinks.purge_alerts(later) == 0  # it is open
    say(sensor, 20)
    assert sinks.purge_alerts(timezone.now() - timedelta(days=1)) == 0
    assert sinks.purge_alerts(later) == 1
    assert alerts_of(alice) == []


def test_a_value_that_only_a_float_holds_is_told_as_it_was(alice, sensor):
    """PostgreSQL's jsonb gives it back as a whole number, of more than 64 bits."""
    make_rule(alice, device_id=sensor.device.pk)
    say(sensor, 1e25)
    [alert] = alerts_of(alice)
    assert alert["details"]["raised"]["value"] == 1e25
    assert alice.api.post(f"/alerts/{alert['id']}/acknowledge", {}).status == 200
    outbox.relay_all()
    [event] = EventLog.objects.filter(kind="alert.raised")
    assert event.payload["value"] == 1e25
    say(sensor, 20)
    [alert] = alerts_of(alice)
    assert alert["status"] == "resolved"
