"""The pages that staff have besides the forms: dashboard, devices, groups, users, search."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.urls import URLResolver
from django.urls.resolvers import RoutePattern

from accounts.models import Token
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from events.models import EventLog
from iotflow.admin import device
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

    def test_its_queries_do_not_grow_with_devices_or_events(
        self, site, alice, sensor, django_assert_max_num_queries
    ):
        """Session, user; five of devices and the outbox; nine of events; one of the store."""
        Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n}") for n in range(200))
        page(site, "dashboard/")
        with django_assert_max_num_queries(20):
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
        assert site.post(path, {"status": "x"}).status_code == 400


class TestUser:
    def test_what_they_own_and_did(self, site, alice, sensor, greenhouse):
        text = page(site, f"accounts/user/{alice.user.pk}/overview/")
        for part in ("sensor", "Greenhouse", "1 token"):
            assert part in text
        assert "Keys of devices" in page(site, f"accounts/user/{alice.user.pk}/removal/")

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
        for path in (f"device/{sensor.id}/overview", f"devicegroup/{greenhouse.pk}/latest"):
            assert client.get(f"/admin/devices/{path}/").status_code == 404
        assert client.get(f"/admin/accounts/user/{clerk.pk}/overview/").status_code == 403


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
