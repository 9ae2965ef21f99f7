"""The pages that staff have besides the forms: dashboard, devices, groups, users, search."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver
from django.urls.resolvers import RoutePattern
from django.utils import timezone

from accounts.models import Token
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from events import log
from events.kinds import Kind, Severity
from events.models import EventLog
from iotflow.admin import device
from iotflow.admin.navigation import PAGES
from iotflow.admin.roles import ROLES
from telemetry.models import RetentionPolicy

PASSWORD = "swordfish 99"


@pytest.fixture
def site(staff) -> Client:
    client = Client()
    client.force_login(staff.user)
    return client


@pytest.fixture
def greenhouse(alice, sensor) -> DeviceGroup:
    found = DeviceGroup.objects.create(owner=alice.user, name="Greenhouse")
    GroupMembership.objects.create(group=found, device=sensor.device)
    return found


def page(site: Client, path: str, **query) -> str:
    response = site.get(f"/admin/{path}", query)
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def kinds() -> list[str]:
    return list(EventLog.objects.order_by("time").values_list("kind", flat=True))


class TestDashboard:
    def test_it_says_how_everything_is(self, site, sensor):
        sensor.api.post("/telemetry", {"data": {"a": 1}})
        Client().post("/admin/login/", {"username": "staff", "password": "wrong"})
        text = page(site, "")
        for part in ("sensor submitted", "user.login_failed", "Busiest devices", "Stores"):
            assert part in text
        assert page(site, "dashboard/")

    def test_many_events_are_not_sorted_to_show_the_newest(self, site):
        def shown() -> list[str]:
            return re.findall(r"error (\d+)", page(site, "dashboard/"))

        for n in range(20):
            log.record(Kind.USER_LOGIN, f"error {n}", severity=Severity.ERROR)
        with CaptureQueriesContext(connections["events"]) as asked:
            assert shown() == [str(n) for n in range(19, 11, -1)]
        of_errors = [
            query["sql"]
            for query in asked.captured_queries
            if "error" in query["sql"] and ("ORDER BY" in query["sql"] or "$sort" in query["sql"])
        ]
        assert of_errors
        for query in of_errors:
            assert "BETWEEN" in query or "$lte" in query  # one slice of the day

    def test_its_queries_do_not_grow_with_devices_or_events(
        self, site, alice, sensor, django_assert_max_num_queries
    ):
        """Session, user; five of devices and the outbox; at most 23 of events; one of the store."""
        Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n}") for n in range(200))
        page(site, "dashboard/")
        with django_assert_max_num_queries(31):
            page(site, "dashboard/")


class TestDevice:
    def test_every_tab_answers(self, site, sensor):
        sensor.api.post("/telemetry", {"data": {"temperature": 21.5, "door": "open"}})
        expected = {
            "overview": "21.5",
            "telemetry": "open",
            "events": "telemetry.submitted",
            "keys": "valid",
            "configuration": "No configuration yet",
        }
        for tab, part in expected.items():
            assert part in page(site, f"devices/device/{sensor.id}/{tab}/"), tab

    def test_it_says_in_which_groups_it_is(self, site, sensor, greenhouse):
        text = page(site, f"devices/device/{sensor.id}/overview/")
        assert f'/admin/devices/devicegroup/{greenhouse.pk}/latest/">Greenhouse' in text

    def test_a_device_that_was_silent_says_how_it_can_speak(self, site, sensor):
        assert "No readings yet" in page(site, f"devices/device/{sensor.id}/overview/")

    def test_a_device_that_is_not_there(self, site):
        for tab in device.PAGES:
            assert site.get(f"/admin/devices/device/987654/{tab.name}/").status_code == 404

    def test_nonsense_is_named(self, site, sensor):
        for tab, query in (("telemetry", {"start_time": "x"}), ("events", {"severity": "loud"})):
            text = page(site, f"devices/device/{sensor.id}/{tab}/", **query)
            assert f"{next(iter(query))}: " in text

    def test_a_key_is_made_shown_once_and_ended(self, site, sensor, alice):
        path = f"/admin/devices/device/{sensor.id}/keys/"
        answer = site.post(path, {"label": "spare"})
        secret = answer.context["secret"]
        assert secret in answer.content.decode()
        assert "no-store" in answer["Cache-Control"]
        assert secret not in page(site, f"devices/device/{sensor.id}/keys/")
        made = ApiKey.objects.get(label="spare")
        site.post(path, {"revoke": made.pk})
        made.refresh_from_db()
        assert made.revoked_at is not None
        assert kinds()[-2:] == ["device.key_created", "device.key_revoked"]
        assert secret not in json.dumps(list(EventLog.objects.values()), default=str)

    def test_of_many_keys_all_that_open_and_the_newest_are_shown(self, site, sensor, monkeypatch):
        monkeypatch.setattr("iotflow.admin.device.keys.ENDED_SHOWN", 2)
        ApiKey.objects.bulk_create(
            ApiKey(device=sensor.device, digest=f"{n}", prefix=f"old{n}", revoked_at=timezone.now())
            for n in range(5)
        )
        text = page(site, f"devices/device/{sensor.id}/keys/")
        assert "Of 5 keys that have ended, the newest 2." in text
        assert [f"old{n}…" in text for n in range(5)] == [False, False, False, True, True]
        assert f"{ApiKey.objects.order_by('pk')[0]}" in text

    @pytest.mark.parametrize("key", ["x", "9" * 30, "0"])
    def test_a_key_of_nobody_is_not_ended(self, site, sensor, key):
        path = f"/admin/devices/device/{sensor.id}/keys/"
        assert site.post(path, {"revoke": key}).status_code == 404

    def test_it_is_switched_off_and_on(self, site, sensor):
        path = f"/admin/devices/device/{sensor.id}/status/"
        for status in ("inactive", "maintenance", "active", "nonsense"):
            site.post(path, {"status": status})
        assert Device.objects.get(pk=sensor.id).status == "active"
        assert kinds().count("device.status_changed") == 3

    def test_what_a_deletion_takes_is_said_first(self, site, staff, sensor):
        staff.user.is_superuser = True
        staff.user.save()
        assert "All readings" in page(site, f"devices/device/{sensor.id}/delete/")


class TestGroup:
    def test_every_tab_answers(self, site, sensor, greenhouse):
        sensor.api.post("/telemetry", {"data": {"temperature": 21.5}})
        for tab, part in {"latest": "21.5", "compare": "temperature", "members": "sensor"}.items():
            assert part in page(site, f"devices/devicegroup/{greenhouse.pk}/{tab}/"), tab

    def test_devices_join_by_name_or_number_and_strangers_are_named(
        self, site, alice, bob, greenhouse
    ):
        one, two = (Device.objects.create(owner=alice.user, name=name) for name in ("one", "two"))
        other = Device.objects.create(owner=bob.user, name="bobs")
        path = f"/admin/devices/devicegroup/{greenhouse.pk}/members/"
        pasted = f"one\n {two.pk}\nsensor\n\nbobs\n{other.pk}\n{'9' * 30}\n"
        text = site.post(path, {"pasted": pasted}, follow=True).content.decode()
        assert "2 device(s) joined, 1 were in it." in text
        assert "for 3 line(s): bobs" in text
        assert set(greenhouse.devices.values_list("name", flat=True)) == {"sensor", "one", "two"}
        site.post(path, {"remove": one.pk})
        assert set(greenhouse.devices.values_list("name", flat=True)) == {"sensor", "two"}

    def test_more_names_than_a_page_shows_are_counted(self, site, sensor, greenhouse, monkeypatch):
        from iotflow.admin import measurements

        monkeypatch.setattr(measurements, "SHOWN_MAX", 2)
        sensor.api.post("/telemetry", {"data": {"a": 1, "b": 2, "c": 3}})
        device, group = f"device/{sensor.id}", f"devicegroup/{greenhouse.pk}"
        for path in (f"{device}/overview", f"{device}/telemetry", f"{group}/latest"):
            text = page(site, f"devices/{path}/")
            assert "1 more measurement is not shown" in text

    def test_many_change_with_few_queries(
        self, site, alice, make_device, django_assert_max_num_queries
    ):
        from devices.services import set_status

        devices = [make_device(alice, f"d{n}").device for n in range(30)]
        with django_assert_max_num_queries(16):
            assert set_status(devices=devices, status="inactive", actor="test") == 30
        found = EventLog.objects.filter(kind="device.status_changed")
        assert {event.payload["after"] for event in found} == {"inactive"}
        assert found.count() == 30

    def test_a_ticked_device_is_not_one_that_is_named_like_its_number(
        self, site, alice, greenhouse
    ):
        one = Device.objects.create(owner=alice.user, name="one")
        Device.objects.create(owner=alice.user, name=str(one.pk))
        path = f"/admin/devices/devicegroup/{greenhouse.pk}/members/"
        site.post(path, {"add": one.pk})
        assert set(greenhouse.devices.values_list("name", flat=True)) == {"sensor", "one"}

    def test_a_line_with_nul_names_nothing(self, site, greenhouse):
        path = f"/admin/devices/devicegroup/{greenhouse.pk}/members/"
        posted = {"pasted": "a\0b\nsensor", "add": "\0"}
        text = site.post(path, posted, follow=True).content.decode()
        assert "0 device(s) joined, 1 were in it." in text
        assert "for 1 line(s)" in text

    def test_all_of_them_change_in_steps(self, site, alice, greenhouse, monkeypatch):
        monkeypatch.setattr("iotflow.admin.group.bulk.CHUNK", 2)
        more = Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n}") for n in range(4))
        greenhouse.devices.add(*more)
        path, after, steps = f"/admin/devices/devicegroup/{greenhouse.pk}/bulk/", 0, []
        while after is not None:
            answer = site.post(path, {"status": "maintenance", "after": after}).json()
            steps.append(answer["changed"])
            after = answer["after"]
        assert steps == [2, 2, 1]
        assert set(greenhouse.devices.values_list("status", flat=True)) == {"maintenance"}
        for status, after in (("x", "0"), ("active", "9" * 5000), ("active", "²")):
            posted = {"status": status, "after": after}
            assert site.post(path, posted).status_code == 400


class TestUser:
    def test_what_they_own_and_did(self, site, alice, sensor, greenhouse):
        text = page(site, f"accounts/user/{alice.user.pk}/overview/")
        for part in ("sensor", "Greenhouse", "1 token"):
            assert part in text
        assert "API keys" in page(site, f"accounts/user/{alice.user.pk}/removal/")

    def test_what_they_did_to_others_things_is_theirs_and_what_others_did_is_not(
        self, site, alice, staff, sensor
    ):
        site.post(f"/admin/devices/device/{sensor.id}/status/", {"status": "maintenance"})
        change = EventLog.objects.get(kind="device.status_changed")
        link = f"/admin/events/eventlog/{change.pk}/change/"
        assert link in page(site, f"accounts/user/{staff.user.pk}/overview/")
        assert link not in page(site, f"accounts/user/{alice.user.pk}/overview/")

    def test_their_tokens_end(self, site, alice):
        Token.objects.create(alice.user)
        path = f"/admin/accounts/user/{alice.user.pk}/overview/"
        site.post(path, {"end": Token.objects.filter(user=alice.user).first().pk})
        assert Token.objects.filter(user=alice.user).count() == 1
        site.post(path, {"end": "all"})
        assert not Token.objects.filter(user=alice.user).exists()
        assert EventLog.objects.filter(kind="user.tokens_ended", actor="user:staff").count() == 2

    def test_they_are_deactivated_and_back(self, site, alice, staff):
        path = f"/admin/accounts/user/{alice.user.pk}/overview/"
        for wanted, is_active in (("no", False), ("yes", True)):
            site.post(path, {"active": wanted})
            alice.user.refresh_from_db()
            assert alice.user.is_active is is_active
        site.post(f"/admin/accounts/user/{staff.user.pk}/overview/", {"active": "no"})
        staff.user.refresh_from_db()
        assert staff.user.is_active


class TestDeletion:
    """All of it is said in counts, and none of it read; who may not take it is refused."""

    ASKED = {"action": "delete_selected"}

    @pytest.fixture
    def fleet(self, alice, sensor, greenhouse) -> list[int]:
        Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n:03}") for n in range(600))
        found = Device.objects.exclude(pk=sensor.id)
        GroupMembership.objects.bulk_create(
            GroupMembership(group=greenhouse, device=device) for device in found
        )
        return [device.pk for device in found]

    def test_of_a_user(self, site, alice, fleet, django_assert_max_num_queries):
        path = f"/admin/accounts/user/{alice.user.pk}/delete/"
        with django_assert_max_num_queries(15):
            text = site.get(path).content.decode()
        assert "d001" not in text
        for part in ("Devices: 601", "API keys: 1", "Groups: 1", "Memberships: 601", "Tokens: 1"):
            assert part in " ".join(text.split()), part
        assert site.post(path, {"post": "yes"}).status_code == 302
        assert not Device.objects.exists()

    def test_of_many_devices(self, site, fleet):
        posted = {**self.ASKED, "_selected_action": fleet[:20]}
        text = " ".join(site.post("/admin/devices/device/", posted).content.decode().split())
        for part in ("Device: d009", "… and 10 more", "Memberships: 20", "All readings"):
            assert part in text
        assert "Device: d010" not in text
        site.post("/admin/devices/device/", {**posted, "post": "yes"})
        assert Device.objects.count() == 581

    def test_of_more_than_go_at_once(self, site, fleet):
        posted = {**self.ASKED, "_selected_action": fleet[:1], "select_across": "1", "post": "yes"}
        text = site.post("/admin/devices/device/", posted, follow=True).content.decode()
        assert "At most 500 are deleted at once." in text
        assert Device.objects.count() == 601

    def test_of_what_one_may_not_delete_too(self, make_user, alice, staff, sensor, greenhouse):
        clerk = make_user("clerk", is_staff=True).user
        allowed = ("view_user", "change_user", "delete_user", "view_device", "delete_devicegroup")
        clerk.user_permissions.set(Permission.objects.filter(codename__in=allowed))
        client = Client()
        client.force_login(clerk)
        path = f"/admin/accounts/user/{alice.user.pk}/delete/"
        text = client.get(path).content.decode()
        assert "your account doesn't have permission to delete" in html.unescape(text)
        assert client.post(path, {"post": "yes"}).status_code == 403
        both = {"_selected_action": [staff.user.pk, clerk.pk], "post": "yes"}
        assert client.post("/admin/accounts/user/", {**self.ASKED, **both}).status_code == 403
        assert alice.user.devices.exists()


class TestSearch:
    def found(self, site: Client, term: str) -> str:
        return site.get("/admin/search/", {"s": term, "extended": 1}).content.decode()

    def test_everything_that_has_a_name_is_found(self, site, alice, sensor, greenhouse):
        event = EventLog.objects.first()
        for term, part in (
            ("sens", f"/device/{sensor.id}/overview/"),
            (str(sensor.id), f"/device/{sensor.id}/overview/"),
            ("alice", f"/user/{alice.user.pk}/overview/"),
            ("GREEN", f"/devicegroup/{greenhouse.pk}/latest/"),
            ("login_f", "kind=user.login_failed"),
            (str(event.pk) if event else "user.login", "/events/eventlog/"),
        ):
            assert part in self.found(site, term), term
        for nonsense in ("", "\0", "%", "9" * 40, "x" * 5000):
            assert "/overview/" not in self.found(site, nonsense)

    def test_nobody_finds_what_they_may_not_look_at(self, make_user, sensor, greenhouse):
        client = Client()
        client.force_login(make_user("clerk", is_staff=True).user)
        for term in ("sensor", "Greenhouse", "alice", "user.login"):
            assert "href=" not in self.found(client, term)


class TestRoles:
    @pytest.fixture
    def roles(self, db) -> None:
        call_command("setup_roles", verbosity=0)

    def test_making_them_twice_is_making_them_once(self, roles, capsys):
        call_command("setup_roles")
        said = capsys.readouterr().out
        assert said.count("as it should be") == len(ROLES)

    def test_a_dry_run_makes_nothing(self, db, capsys):
        call_command("setup_roles", dry_run=True)
        assert "would be made" in capsys.readouterr().out
        assert not Group.objects.exists()

    @pytest.mark.parametrize("role", ["Viewers", None])
    def test_who_may_only_look_changes_nothing_by_any_address(
        self, roles, make_user, alice, sensor, greenhouse, role
    ):
        """Everything is posted to every address of the site, for things of somebody else."""
        viewer = make_user("viewer", is_staff=True).user
        if role:
            viewer.groups.add(Group.objects.get(name=role))
        sensor.api.post("/telemetry", {"data": {"a": 1}})
        RetentionPolicy.objects.create(measurement="a", days=3)
        ids = {
            "device": sensor.id,
            "devicegroup": greenhouse.pk,
            "user": alice.user.pk,
            "group": Group.objects.all()[0].pk,
            "retentionpolicy": RetentionPolicy.objects.get().pk,
            "eventlog": EventLog.objects.all()[0].pk,
        }
        client = Client()
        client.force_login(viewer)
        before = everything()
        asked = {*addresses(ids)} - {"/admin/password_change/", "/admin/logout/"}
        assert len(asked) > 60
        for path in asked:
            for posted in POSTED:
                assert (
                    client.post(path, {"_selected_action": [*ids.values()], **posted}).status_code
                    < 500
                )
        assert everything() == before
        assert client.get("/admin/").status_code == 200  # and was logged in all the time

    def test_admins_make_nobody_more_than_they_are(self, roles, make_user, staff, alice):
        staff.user.is_superuser = True
        staff.user.save()
        chief = make_user("chief", is_staff=True).user
        chief.groups.add(Group.objects.get(name="Admins"))
        client = Client()
        client.force_login(chief)
        role = Group.objects.get(name="Viewers").pk
        form = {"is_active": "on", "is_staff": "on", "is_superuser": "on", "groups": [role]}
        for one in (alice.user, chief):
            who = {"username": one.username, "email": one.email, "first_name": "Changed"}
            path = f"/admin/accounts/user/{one.pk}/change/"
            assert client.post(path, {**form, **who}).status_code == 302
            one.refresh_from_db()
            assert (one.first_name, one.is_superuser) == ("Changed", False)
        assert not alice.user.groups.exists()
        password = {"usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
        path = f"/admin/accounts/user/{staff.user.pk}/"
        assert client.post(f"{path}password/", password).status_code == 403
        assert client.post(f"{path}delete/", {"post": "yes"}).status_code == 403
        client.post(f"{path}overview/", {"active": "no"})
        chosen = {"action": "deactivate", "_selected_action": staff.user.pk}
        client.post("/admin/accounts/user/", chosen)
        staff.user.refresh_from_db()
        assert staff.user.is_active
        staff.user.is_active = False
        staff.user.save()
        client.post("/admin/accounts/user/", {**chosen, "action": "activate"})
        staff.user.refresh_from_db()
        assert not staff.user.is_active

    def test_every_change_says_by_whom_and_from_what_to_what(
        self, roles, site, staff, alice, greenhouse
    ):
        staff.user.is_superuser = True
        staff.user.save()
        role = Group.objects.get(name="Viewers")
        who = {"username": "alice", "email": "new@example.org", "is_active": "on"}
        site.post(f"/admin/accounts/user/{alice.user.pk}/change/", {**who, "groups": [role.pk]})
        form = {"name": "Glass house", "color": "#000000"}
        site.post(f"/admin/devices/devicegroup/{greenhouse.pk}/change/", form)
        kept = role.permissions.all()[0]
        site.post(
            f"/admin/auth/group/{role.pk}/change/", {"name": "Viewers", "permissions": [kept.pk]}
        )
        found = {event.kind: event for event in EventLog.objects.filter(actor="user:staff")}
        changes = found["user.changed"].payload["changes"]
        assert changes == {
            "email": [alice.user.email, "new@example.org"],
            "groups": ["", "Viewers"],
        }
        assert found["group.changed"].payload["changes"]["name"] == ["Greenhouse", "Glass house"]
        assert "devices.view_device" in found["role.changed"].payload["taken"]
        assert found["role.changed"].severity == "warning"

    def test_a_role_says_what_it_was_called_and_nothing_when_nothing_changed(self, site):
        path = "/admin/auth/group/"
        site.post(f"{path}add/", {"name": "Night shift"})
        role = Group.objects.get()
        for name in ("Night shift", "Day shift"):
            assert site.post(f"{path}{role.pk}/change/", {"name": name}).status_code == 302
        made, changed = EventLog.objects.filter(kind="role.changed").order_by("time")
        assert made.message == "Role Night shift made"
        assert changed.payload["changes"] == {"name": ["Night shift", "Day shift"]}

    def test_operators_run_the_fleet_and_leave_people_alone(self, roles, make_user, alice, sensor):
        operator = make_user("operator", is_staff=True).user
        operator.groups.add(Group.objects.get(name="Operators"))
        client = Client()
        client.force_login(operator)
        client.post(f"/admin/devices/device/{sensor.id}/status/", {"status": "maintenance"})
        assert Device.objects.get(pk=sensor.id).status == "maintenance"
        client.post(f"/admin/accounts/user/{alice.user.pk}/overview/", {"active": "no"})
        alice.user.refresh_from_db()
        assert alice.user.is_active

    @pytest.mark.parametrize("role", ["Viewers", "Operators", "Admins", None])
    def test_nobody_is_led_to_what_is_refused(
        self, roles, make_user, alice, staff, sensor, greenhouse, role
    ):
        client, somebody = Client(), make_user("somebody", is_staff=True).user
        sensor.api.post("/telemetry", {"data": {"a": 1}})
        if role:
            somebody.groups.add(Group.objects.get(name=role))
        else:
            Device.objects.update(owner=somebody)
            DeviceGroup.objects.update(owner=somebody)
        client.force_login(somebody)
        things = [(PAGES["devices.device"], "devices/device", sensor.id)]
        things += [(PAGES["devices.devicegroup"], "devices/devicegroup", greenhouse.pk)]
        for user in (alice.user, staff.user, somebody) if role else ():
            things += [(PAGES["accounts.user"], "accounts/user", user.pk)]
        shown = {f"/admin/{path}/" for _, path, _ in things}
        for pages, path, pk in things:
            shown |= {f"/admin/{path}/{pk}/{page.name}/" for page in pages if page.title}
        links = {
            html.unescape(link)
            for path in shown
            for link in re.findall(r'href="(/admin/[^"]+)"', client.get(path).content.decode())
        }
        assert len(links - shown) > 3
        for link in sorted(links):
            assert client.get(link).status_code < 400, link
        text = page(client, f"devices/devicegroup/{greenhouse.pk}/members/")
        assert ('id="bulk"' in text) == (role != "Viewers")

    def test_staff_in_no_role_look_after_their_own(self, make_user, sensor, greenhouse):
        clerk = make_user("clerk", is_staff=True).user
        own = Device.objects.create(owner=clerk, name="mine")
        client = Client()
        client.force_login(clerk)
        text = page(client, "devices/device/")
        assert "mine" in text
        assert f"/device/{sensor.id}/" not in text
        client.post(f"/admin/devices/device/{own.pk}/status/", {"status": "maintenance"})
        own.refresh_from_db()
        assert own.status == "maintenance"
        rotated = client.post(f"/admin/devices/device/{own.pk}/rotate_key/")
        assert rotated.context["secret"]
        for path in (
            f"device/{sensor.id}/overview",
            f"device/{sensor.id}/rotate_key",
            "device/abc/rotate_key",
            f"devicegroup/{greenhouse.pk}/latest",
        ):
            assert client.get(f"/admin/devices/{path}/").status_code == 404
        assert client.get(f"/admin/accounts/user/{clerk.pk}/overview/").status_code == 403

    def test_their_dashboard_names_nothing_of_others(self, make_user, site, sensor, anybody):
        clerk = make_user("clerk", is_staff=True).user
        sensor.api.post("/telemetry", {"data": {"temperature": 20}})
        anybody.post("/auth/login", {"username": "mallory", "password": "x"})
        client = Client()
        client.force_login(clerk)
        for path in ("", "dashboard/"):
            for name in (f"device/{sensor.id}/", "A log-in failed"):
                assert name in page(site, path)
                assert name not in page(client, path)


POSTED = (
    {"label": "x"},
    {"revoke": "1"},
    {"status": "inactive", "after": "0"},
    {"pasted": "sensor", "add": "1"},
    {"remove": "1"},
    {"end": "all"},
    {"active": "no"},
    {"post": "yes"},
    {"name": "x", "username": "x", "email": "x@example.org", "color": "#000000", "days": "1"},
    {"usable_password": "true", "password1": "swordfish 99", "password2": "swordfish 99"},
    *(
        {"action": action, "post": "yes"}
        for action in ("activate", "deactivate", "maintain", "delete_selected")
    ),
)
PARAMETER = re.compile(r"<(?:\w+:)?\w+>")


def addresses(ids: dict[str, Any]) -> Iterator[str]:
    """Every address of the admin site, about these things where it is about one."""
    for route in routes(admin.site.get_urls(), ""):
        model = route.split("/")[1] if route.count("/") > 2 else ""
        yield f"/admin/{PARAMETER.sub(str(ids.get(model, 1)), route)}"


def routes(patterns: list[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern.pattern, RoutePattern):
            yield route


def everything() -> dict[str, list]:
    """All rows of all tables but what looking itself leaves behind."""
    apart = {"session", "eventlog", "outbox", "logentry"}
    return {
        model._meta.label: sorted(map(str, model.objects.values_list()))
        for model in apps.get_models()
        if model._meta.managed and model._meta.model_name not in apart
    }


IDS = ("abc", "+1", " 1", "0", "99999999999999999999", "%F0%9F", "1.5")
QUERIES = ("q=%00", "_popup=1&_to_field=x", "_changelist_filters=%25", "page=abc", "owner=abc")
LISTED = (  # asked of lists alone
    *("p=abc", "p=-1", "p=99999999", "o=abc", "o=99.-99", "all=", "e=1"),
    *("foo=1", "foo__bar=1", "id__exact=abc", "id=99999999999999999999", "pk__in=a,b"),
    *("last_seen__gte=abc", "last_seen__year=0", "created_at__date=x", "date_joined__year=0"),
    *("name__regex=(", "username__iregex=(", "message__regex=(", "kind__regex=("),
    *("cursor=x", "device_id=x", "owner__id__exact=abc", "_facets=x"),
)
JUNK = (
    {"action": "delete_selected", "_selected_action": "abc", "post": "yes"},
    {"action": "deactivate", "_selected_action": ["9" * 30, "²"], "index": "0"},
    {"action": "\0", "_selected_action": "1"},
    {"pasted": "a\0b", "add": ["\0", "x"], "remove": "-1"},
    {"status": "\0", "after": "9" * 5000, "revoke": "²", "end": "1.5"},
    {
        "name": "\0",
        "username": "\0",
        "email": "\0",
        "owner": "abc",
        "group": "abc",
        "groups": "x",
        "days": "²",
    },
)


class TestNonsense:
    @pytest.fixture
    def site(self, staff, sensor, greenhouse) -> Client:
        client = Client()
        client.force_login(staff.user)
        return client

    @pytest.mark.parametrize(
        "route",
        sorted(
            route.removeprefix("admin/")
            for route in {*routes(get_resolver().url_patterns, "")}
            if route.startswith("admin/")
        ),
    )
    def test_no_address_fails_at_it(self, site, route, alice, sensor, greenhouse):
        if route in ("logout/", "password_change/"):
            return
        for number in IDS if PARAMETER.search(route) else IDS[:1]:
            self.answers(site.get, f"/admin/{PARAMETER.sub(number, route)}")
        ids = {"device": sensor.id, "devicegroup": greenhouse.pk, "user": alice.user.pk}
        model = route.split("/")[1] if "/" in route else ""
        path = f"/admin/{PARAMETER.sub(str(ids.get(model, 1)), route)}"
        is_list = route.endswith("/export/") or (model and route.count("/") == 2)
        for query in (*QUERIES, *(LISTED if is_list else ())):
            self.answers(site.get, f"{path}?{query}")
        for junk in JUNK:
            self.answers(site.post, path, junk)

    def answers(self, ask, path: str, *posted) -> None:
        """Below 500, whether a store is embedded or not; a store that is away is 503."""
        assert ask(path, *posted).status_code < 500, (path, posted)

    def test_a_list_that_cannot_be_asked_for_leads_back_to_itself(self, site):
        for path in ("devices/device/", "devices/device/export/", "accounts/user/", "auth/group/"):
            for query in ("foo=1", "id__exact=abc", "name__regex=(", "last_login__year=0"):
                answer = site.get(f"/admin/{path}?{query}")
                assert answer.headers.get("Location") == f"/admin/{path}?e=1", (path, query)
