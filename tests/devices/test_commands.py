"""Commands: from a user to the device and back, whatever comes twice, late, or not at all."""

import threading
import time
import uuid
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from devices import commands, services
from devices.models import ApiKey, Command, Device
from events.models import EventLog
from iotflow.lib.errors import Conflict

REBOOT = {"name": "reboot", "params": {"delay": 5}}


def give(who, thing, **fields):
    answer = who.api.post(f"/devices/{thing.id}/commands", {**REBOOT, **fields})
    assert answer.status == 201, answer.text
    return answer.json["command"]


def seen(who, command):
    return who.api.get(f"/commands/{command['id']}").json["command"]


def taken(thing, **query):
    answer = thing.api.get("/devices/commands", **query)
    assert answer.status == 200, answer.text
    return answer.json["commands"]


def said(thing, command, step, body=None):
    return thing.api.post(f"/devices/commands/{command['id']}/{step}", body)


@contextmanager
def listening(thing, seconds):
    """A device that has its stream open; at the end, the text of it."""
    texts = []

    def listen():
        texts.append(thing.api.get("/devices/commands/stream", seconds=seconds).text)
        connections.close_all()

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(1)  # it is open by then
    yield texts
    thread.join(timeout=seconds + 15)


def over():
    """Have everything expire."""
    Command.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def kinds():
    events = EventLog.objects.filter(kind__startswith="command.").order_by("time")
    return [event.kind.removeprefix("command.") for event in events]


# --- The way there and back -----------------------------------------------------------------------
def test_a_command_goes_to_the_device_and_its_result_comes_back(alice, sensor):
    command = give(alice, sensor)
    assert (command["status"], command["times_sent"]) == ("queued", 0)
    assert (command["created_by"], command["params"]) == ("user:alice", {"delay": 5})
    [got] = taken(sensor)
    assert got.keys() == {"id", "name", "params", "times_sent", "created_at", "expires_at"}
    assert (got["id"], got["name"], got["params"]) == (command["id"], "reboot", {"delay": 5})
    assert seen(alice, command)["status"] == "sent"
    assert said(sensor, command, "acknowledge").json["command_status"] == "acknowledged"
    assert taken(sensor) == []
    answer = said(sensor, command, "result", {"status": "succeeded", "result": {"uptime": 3}})
    assert (answer.status, answer.json["command_status"]) == (200, "succeeded")
    done = seen(alice, command)
    assert (done["status"], done["result"]) == ("succeeded", {"uptime": 3})
    assert done["created_at"] <= done["sent_at"] <= done["acknowledged_at"] <= done["finished_at"]


def test_each_step_is_an_event_without_what_may_be_secret(alice, sensor):
    command = give(alice, sensor, params={"password": "hunter2"})
    taken(sensor)
    taken(sensor)
    said(sensor, command, "acknowledge")
    said(sensor, command, "result", {"status": "failed", "result": {"secret": "hunter2"}})
    assert kinds() == ["created", "sent", "acknowledged", "failed"]
    events = list(EventLog.objects.filter(kind__startswith="command."))
    assert "hunter2" not in str([vars(event) for event in events])
    assert {event.payload["command_id"] for event in events} == {command["id"]}
    assert {event.actor for event in events} == {"user:alice", "system", f"device:{sensor.id}"}
    assert {event.user_id for event in events} == {alice.user.pk}


def test_what_is_not_acknowledged_comes_again(alice, sensor):
    give(alice, sensor)
    assert [taken(sensor)[0]["times_sent"] for _ in range(3)] == [1, 2, 3]


def test_who_waits_is_not_sent_the_same_at_once(alice, sensor):
    command = give(alice, sensor)
    assert len(taken(sensor, wait=1)) == 1
    assert taken(sensor, wait=1) == []
    Command.objects.update(sent_at=timezone.now() - commands.REST)
    assert [one["id"] for one in taken(sensor, wait=1)] == [command["id"]]


def test_commands_come_in_their_order_and_a_few_at_a_time(alice, sensor):
    given = [give(alice, sensor, name=f"step {n}")["id"] for n in range(commands.HANDED_MAX + 3)]
    first = [one["id"] for one in taken(sensor, wait=1)]
    assert first == given[: commands.HANDED_MAX]
    assert [one["id"] for one in taken(sensor, wait=1)] == given[commands.HANDED_MAX :]


def test_a_group_has_one_for_each_device_or_none(alice, make_device, settings):
    things = [make_device(alice) for _ in range(3)]
    group = alice.api.post("/groups", {"name": "g"}).json["group"]
    for thing in things:
        alice.api.post(f"/groups/{group['id']}/devices", {"device_id": thing.id})
    answer = alice.api.post(f"/groups/{group['id']}/commands", REBOOT)
    assert answer.status == 201
    assert [one["device_id"] for one in answer.json["commands"]] == [thing.id for thing in things]
    assert [len(taken(thing)) for thing in things] == [1, 1, 1]
    settings.COMMANDS_OPEN_MAX = 2
    give(alice, things[1])
    refused = alice.api.post(f"/groups/{group['id']}/commands", REBOOT)
    assert refused.status == 409
    assert str(things[1].id) in refused.json["message"]
    assert Command.objects.count() == 4


def test_what_became_of_a_groups_commands_is_listed(alice, bob, make_device):
    inside, outside = make_device(alice), make_device(alice)
    group = services.create_group(owner=alice.user, fields={"name": "g"}, actor="test")
    services.add_to_group(group=group, device=inside.device, actor="test")
    path = f"/groups/{group.pk}/commands"
    done, waits = give(alice, inside), give(alice, inside)
    give(alice, outside)
    assert said(inside, done, "result", {"status": "succeeded"}).status == 200
    assert [one["id"] for one in alice.api.get(path).json["commands"]] == [waits["id"], done["id"]]
    [found] = alice.api.get(path, status="succeeded").json["commands"]
    assert found["id"] == done["id"]
    assert alice.api.get(path, status="lost").fields() == {"status"}
    assert bob.api.get(path).status == 404


def test_a_group_may_be_too_large_for_one_call(alice, make_device, monkeypatch):
    monkeypatch.setattr(commands, "DEVICES_MAX", 1)
    group = services.create_group(owner=alice.user, fields={"name": "g"}, actor="test")
    path = f"/groups/{group.pk}/commands"
    services.add_to_group(group=group, device=make_device(alice).device, actor="test")
    assert alice.api.post(path, REBOOT).status == 201
    services.add_to_group(group=group, device=make_device(alice).device, actor="test")
    assert alice.api.post(path, REBOOT).status == 409
    assert Command.objects.count() == 1


def test_there_is_no_head_which_would_have_them_sent_to_nobody(alice, sensor):
    give(alice, sensor)
    for path in ("/devices/commands", "/devices/commands/stream"):
        answer = Client().head(f"/api/v1{path}", **sensor.api._headers())
        assert answer.status_code == 405
    assert [one["times_sent"] for one in taken(sensor)] == [1]


# --- Again, late, and in contradiction ------------------------------------------------------------
def test_the_same_request_again_makes_no_second_command(alice, sensor, make_device):
    path, once = f"/devices/{sensor.id}/commands", {"idempotency_key": "k-1"}
    first, again = (alice.api.post(path, REBOOT, **once) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert first.json["command"]["id"] == again.json["command"]["id"]
    other = alice.api.post(path, {"name": "explode"}, **once)
    assert (other.status, other.fields()) == (409, {"Idempotency-Key"})
    elsewhere = alice.api.post(f"/devices/{make_device(alice).id}/commands", REBOOT, **once)
    assert elsewhere.status == 201
    assert Command.objects.count() == 2
    assert kinds() == ["created", "created"]


def test_what_a_device_says_again_changes_nothing(alice, sensor):
    command = give(alice, sensor)
    done = {"status": "succeeded", "result": {"n": 1}}
    answers = [said(sensor, command, "acknowledge"), said(sensor, command, "acknowledge")]
    answers += [said(sensor, command, "result", done), said(sensor, command, "result", done)]
    answers.append(said(sensor, command, "acknowledge"))
    assert {answer.status for answer in answers} == {200}
    assert kinds() == ["created", "acknowledged", "succeeded"]
    for other in ({"status": "failed", "result": {"n": 1}}, {"status": "succeeded"}):
        assert said(sensor, command, "result", other).status == 409
    assert seen(alice, command)["result"] == {"n": 1}


def test_an_expired_command_is_never_handed_out(alice, sensor):
    """Even while no worker runs."""
    command = give(alice, sensor)
    over()
    assert taken(sensor) == []
    assert seen(alice, command)["status"] == "expired"
    assert said(sensor, command, "acknowledge").status == 409
    assert said(sensor, command, "result", {"status": "succeeded"}).status == 409
    path = f"/devices/{sensor.id}/commands"
    assert len(alice.api.get(path, status="expired").json["commands"]) == 1
    assert alice.api.get(path, status="queued").json["commands"] == []
    assert commands.expire() == 1
    assert commands.expire() == 0
    assert kinds() == ["created", "expired"]


def test_a_cancelled_command_is_not_handed_out_and_not_answered(alice, sensor):
    command = give(alice, sensor)
    path = f"/commands/{command['id']}/cancel"
    assert [alice.api.post(path).status for _ in range(2)] == [200, 200]
    assert taken(sensor) == []
    assert said(sensor, command, "result", {"status": "succeeded"}).status == 409
    done = give(alice, sensor)
    said(sensor, done, "result", {"status": "succeeded"})
    assert alice.api.post(f"/commands/{done['id']}/cancel").status == 409
    assert kinds() == ["created", "cancelled", "created", "succeeded"]


def test_only_so_many_may_wait(alice, sensor, settings):
    settings.COMMANDS_OPEN_MAX = 2
    first, _ = give(alice, sensor), give(alice, sensor)
    path = f"/devices/{sensor.id}/commands"
    assert alice.api.post(path, REBOOT).status == 409
    said(sensor, first, "result", {"status": "succeeded"})
    assert alice.api.post(path, REBOOT).status == 201


# --- Who may --------------------------------------------------------------------------------------
def test_nobody_else_sees_or_gives_them(alice, bob, staff, sensor, make_device):
    command = give(alice, sensor)
    other = make_device(bob)
    assert bob.api.get(f"/commands/{command['id']}").status == 404
    assert bob.api.post(f"/commands/{command['id']}/cancel").status == 404
    assert bob.api.get(f"/devices/{sensor.id}/commands").status == 404
    assert bob.api.post(f"/devices/{sensor.id}/commands", REBOOT).status == 404
    assert taken(other) == []
    for step, body in (("acknowledge", None), ("result", {"status": "succeeded"})):
        assert said(other, command, step, body).status == 404
    assert alice.api.get("/devices/commands").status in (401, 403)
    assert sensor.api.post(f"/devices/{sensor.id}/commands", REBOOT).status in (401, 403)
    assert staff.api.get(f"/commands/{command['id']}").status == 200
    assert seen(alice, command)["status"] == "queued"


def test_staff_without_the_permission_give_and_cancel_none(alice, make_user, sensor):
    viewer = make_user("viewer", is_staff=True)
    command = give(alice, sensor)
    assert viewer.api.get(f"/commands/{command['id']}").status == 200
    assert viewer.api.post(f"/devices/{sensor.id}/commands", REBOOT).status == 403
    assert viewer.api.post(f"/commands/{command['id']}/cancel").status == 403


def test_a_device_that_changed_hands_does_not_hear_of_what_it_was_told(
    alice, bob, sensor, settings
):
    answer = alice.api.post(f"/devices/{sensor.id}/commands", REBOOT, idempotency_key="k")
    command = answer.json["command"]
    Device.objects.filter(pk=sensor.id).update(owner=bob.user)
    assert taken(sensor) == []
    assert bob.api.get(f"/commands/{command['id']}").status == 404
    assert bob.api.get(f"/devices/{sensor.id}/commands").json["commands"] == []
    assert alice.api.get(f"/commands/{command['id']}").status == 404
    assert said(sensor, command, "result", {"status": "succeeded"}).status == 404
    settings.COMMANDS_OPEN_MAX = 1
    own = bob.api.post(f"/devices/{sensor.id}/commands", REBOOT, idempotency_key="k")
    assert (own.status, own.json["command"]["created_by"]) == (201, "user:bob")


def test_large_numbers_come_back_as_they_were(alice, sensor):
    """To jsonb they are whole numbers, of more than 64 bits."""
    numbers = {"a": 1e23, "b": 1e300, "c": 2**63 - 1, "d": -(2**63), "e": -1e19, "f": 0.1}
    path, once = f"/devices/{sensor.id}/commands", {"idempotency_key": "k"}
    for _ in range(2):
        answer = alice.api.post(path, {"name": "x", "params": numbers}, **once)
        assert (answer.status, answer.json["command"]["params"]) == (201, numbers)
    command = answer.json["command"]
    assert taken(sensor)[0]["params"] == numbers
    for _ in range(2):
        body = {"status": "succeeded", "result": numbers}
        assert said(sensor, command, "result", body).status == 200
    assert seen(alice, command)["result"] == numbers


def test_a_device_that_is_switched_off_takes_none(alice, sensor):
    give(alice, sensor)
    alice.api.put(f"/devices/{sensor.id}", {"status": "inactive"})
    assert sensor.api.get("/devices/commands").status == 403


@pytest.mark.parametrize("whose", ["device", "owner"])
def test_one_that_is_switched_off_while_it_listens_hears_no_more(whose, alice, sensor, settings):
    settings.STREAM_CHECK_SECONDS = 3
    with listening(sensor, seconds=15) as texts:
        if whose == "device":
            Device.objects.filter(pk=sensor.id).update(status=Device.Status.INACTIVE)
        else:
            type(alice.user).objects.filter(pk=alice.user.pk).update(is_active=False)
        given = {"name": "x", "params": {}, "expires_in": timedelta(hours=1), "actor": ""}
        commands.create(devices=[sensor.device], **given)
    [text] = texts
    assert "event: command" not in text
    assert text.endswith('event: end\ndata: {"reason":"permission"}\n\n')
    assert commands.waiting({sensor.id: timezone.now()}) == []


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, {"name"}),
        ({"name": "x" * 101}, {"name"}),
        ({"params": []}, {"params"}),
        ({"params": {"x": "y" * 9000}}, {"params"}),
        ({"params": {"x": "\0"}}, {"params"}),
        ({"expires_seconds": 0}, {"expires_seconds"}),
        ({"expires_seconds": 10**9}, {"expires_seconds"}),
    ],
)
def test_what_is_no_command_is_refused(alice, sensor, fields, wrong):
    answer = alice.api.post(f"/devices/{sensor.id}/commands", {**REBOOT, **fields})
    assert (answer.status, answer.fields()) == (400, wrong)


def test_what_is_no_request_is_refused(alice, sensor):
    command = give(alice, sensor)
    assert sensor.api.get("/devices/commands", wait=61).fields() == {"wait"}
    assert alice.api.get(f"/devices/{sensor.id}/commands", status="x").fields() == {"status"}
    assert said(sensor, command, "result", {"status": "queued"}).fields() == {"status"}
    assert said(sensor, {"id": uuid.uuid4()}, "acknowledge").status == 404
    bad = alice.api.post(f"/devices/{sensor.id}/commands", REBOOT, idempotency_key="a b")
    assert (bad.status, bad.fields()) == (400, {"Idempotency-Key"})


# --- In the admin site ----------------------------------------------------------------------------
LIST = "/admin/devices/command/"


def chosen(*commands):
    return {"action": "cancel", "_selected_action": [one["id"] for one in commands]}


def logged_in(user):
    client = Client()
    client.force_login(user)
    return client


def test_staff_look_at_them_and_take_back_those_that_are_not_over(alice, staff, sensor):
    waits, done = give(alice, sensor), give(alice, sensor, params={"x": "<b>"})
    said(sensor, done, "result", {"status": "succeeded", "result": {"n": 1}})
    site = logged_in(staff.user)
    assert "Succeeded" in site.get(LIST).content.decode()
    page = site.get(f"{LIST}{done['id']}/change/").content.decode()
    assert "&lt;b&gt;" in page
    assert "_save" not in page
    assert site.post(f"{LIST}{done['id']}/change/", {"name": "x"}).status_code == 403
    told = site.post(LIST, chosen(waits, done), follow=True).content.decode()
    assert "1 command(s) cancelled" in told
    assert "1 command(s) were over already" in told
    assert [seen(alice, one)["status"] for one in (waits, done)] == ["cancelled", "succeeded"]


def test_staff_without_the_permission_only_look(alice, make_user, sensor):
    viewer = make_user("viewer", is_staff=True)
    viewer.user.user_permissions.add(Permission.objects.get(codename="view_command"))
    command = give(alice, sensor)
    site = logged_in(viewer.user)
    assert "reboot" in site.get(LIST).content.decode()
    site.post(LIST, chosen(command))
    assert seen(alice, command)["status"] == "queued"


# --- Waiting --------------------------------------------------------------------------------------
def test_who_waits_has_a_command_within_a_second(alice, sensor):
    found, began = [], time.monotonic()

    def wait():
        found.extend(taken(sensor, wait=20))
        found.append(time.monotonic())
        connections.close_all()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(1.5)
    given = time.monotonic()
    command = give(alice, sensor)
    thread.join(timeout=25)
    got, ended = found
    assert got["id"] == command["id"]
    assert given - began > 1
    assert ended - given < 1


def test_nothing_is_the_answer_when_the_time_is_over(sensor):
    began = time.monotonic()
    assert taken(sensor, wait=1) == []
    assert 0.9 < time.monotonic() - began < 3


def test_a_stream_tells_of_each_and_ends(alice, sensor):
    first, second = give(alice, sensor), give(alice, sensor, name="second")
    answer = sensor.api.get("/devices/commands/stream", seconds=0)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.text.count("event: command\n") == 2
    assert answer.text.index(first["id"]) < answer.text.index(second["id"])
    assert answer.text.endswith('event: end\ndata: {"reason":"time"}\n\n')
    again = sensor.api.get("/devices/commands/stream", seconds=0)
    assert "event: command" not in again.text


def test_a_stream_is_told_what_comes_while_it_is_open(alice, sensor):
    with listening(sensor, seconds=4) as texts:
        given = [give(alice, sensor)["id"] for _ in range(3)]
    [text] = texts
    assert [text.count(one) for one in given] == [1, 1, 1]


# --- What is over, and what is gone ---------------------------------------------------------------
def test_what_is_over_is_kept_as_long_as_events(alice, sensor, settings):
    old, done, waits = (give(alice, sensor) for _ in range(3))
    for one in (old, done):
        said(sensor, one, "result", {"status": "succeeded"})
    long_ago = timezone.now() - timedelta(days=settings.EVENT_RETENTION_DAYS, seconds=1)
    Command.objects.filter(pk=old["id"]).update(created_at=long_ago, finished_at=long_ago)
    Command.objects.filter(pk=waits["id"]).update(created_at=long_ago)
    commands.purge(timezone.now())
    left = set(Command.objects.values_list("pk", flat=True))
    assert left == {uuid.UUID(done["id"]), uuid.UUID(waits["id"])}


def test_commands_go_with_their_device(alice, sensor, make_device):
    gone = make_device(alice)
    give(alice, sensor)
    give(alice, gone)
    assert alice.api.delete(f"/devices/{sensor.id}").status == 200
    assert Command.objects.count() == 1
    ApiKey.objects.filter(device=gone.id).delete()
    Device.objects.filter(pk=gone.id)._raw_delete("default")  # as the version before does
    commands.purge(timezone.now())
    assert not Command.objects.exists()


# --- In any order ---------------------------------------------------------------------------------
STEPS = st.lists(
    st.sampled_from(["take", "acknowledge", "succeed", "fail", "cancel", "pass", "expire"]),
    max_size=12,
)


def reference(steps):
    """What docs/commands.md says becomes of a command, in its words alone."""
    status, is_late, trail = "queued", False, ["created"]

    def move(to):
        nonlocal status
        status = to
        trail.append(to)

    for step in steps:
        is_open = status in ("queued", "sent", "acknowledged")
        if step == "pass":
            is_late = True
        elif step == "expire" and is_open and is_late:
            move("expired")
        elif not is_open or is_late:
            continue
        elif step == "take" and status == "queued":
            move("sent")
        elif step == "acknowledge" and status != "acknowledged":
            move("acknowledged")
        elif step in ("succeed", "fail"):
            move(f"{step}ed")
        elif step == "cancel":
            move("cancelled")
    return status, trail


@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_any_order_of_steps_ends_as_a_plain_reference_says(steps, alice, sensor):
    Command.objects.all().delete()
    EventLog.objects.filter(kind__startswith="command.").delete()
    [command] = commands.create(
        devices=[sensor.device],
        name="x",
        params={},
        expires_in=timedelta(hours=1),
        actor="alice",
    )
    of_device = {"device_id": sensor.id, "command_id": command.pk}
    acts = {
        "take": lambda: commands.hand_out(sensor.id, commands.NO_REST),
        "acknowledge": lambda: commands.acknowledge(**of_device),
        "succeed": lambda: commands.finish(**of_device, status="succeeded", result=None),
        "fail": lambda: commands.finish(**of_device, status="failed", result=None),
        "cancel": lambda: commands.cancel(command=command, actor="alice"),
        "pass": over,
        "expire": commands.expire,
    }
    for step in steps:
        with suppress(Conflict):
            acts[step]()
    status, trail = reference(steps)
    command.refresh_from_db()
    assert command.status == status
    assert kinds() == trail
