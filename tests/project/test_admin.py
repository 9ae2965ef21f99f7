"""The admin site, as staff use it."""

import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import Token, User
from devices.models import ApiKey, Device, DeviceGroup, GroupMembership
from events import browse, context, log
from events.kinds import Kind, Severity
from events.models import DeviceConfig, EventLog
from iotflow.lib.errors import StoreAway
from tests.api import Api


@pytest.fixture
def site(staff) -> Client:
    client = Client()
    client.force_login(staff.user)
    return client


def page(site: Client, path: str, **query) -> str:
    response = site.get(f"/admin/{path}", query, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def kinds() -> list[str]:
    return list(EventLog.objects.order_by("time").values_list("kind", flat=True))


def test_its_door_is_shut_to_those_who_are_not_staff(alice):
    client = Client()
    client.force_login(alice.user)
    assert client.get("/admin/devices/device/").status_code == 302


def test_logging_in_by_the_form_is_an_event(staff):
    answer = Client().post(
        "/admin/login/", {"username": "staff", "password": "swordfish 17", "next": "/admin/"}
    )
    assert answer.status_code == 302
    Client().post("/admin/login/", {"username": "staff", "password": "wrong"})
    assert kinds() == ["user.login", "user.login_failed"]


def test_every_list_and_every_form_answers_with_content(site, alice, sensor):
    group = DeviceGroup.objects.create(owner=alice.user, name="Greenhouse")
    GroupMembership.objects.create(group=group, device=sensor.device)
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    event = EventLog.objects.get(kind="telemetry.submitted")
    for path, content in (
        ("", "Devices"),
        ("accounts/user/", "alice"),
        (f"accounts/user/{alice.user.pk}/change/", "alice@example.org"),
        ("accounts/user/add/", "E-mail address"),
        ("devices/device/", "sensor"),
        (f"devices/device/{sensor.id}/change/", "Greenhouse"),
        ("devices/device/add/", "Name"),
        ("devices/devicegroup/", "Greenhouse"),
        (f"devices/devicegroup/{group.pk}/change/", "sensor"),
        ("events/eventlog/", "telemetry.submitted"),
        (f"events/eventlog/{event.pk}/change/", "measurements"),
        ("events/outbox/", "outbox"),
        ("events/alert/", "alert"),
        ("telemetry/alertrule/", "alert rule"),
        ("telemetry/alertrule/add/", "Hysteresis"),
        ("events/deviceconfig/", "device config"),
        ("events/reportedconfig/", "reported config"),
    ):
        assert content in page(site, path), path


def test_a_version_of_a_configuration_shows_what_changed(site, alice, sensor):
    for config in ({"a": 1, "b": "<b>"}, {"a": 1, "c": {"d": 2}}):
        alice.api.put(f"/devices/{sensor.id}/config", {"config": config})
    first, second = DeviceConfig.objects.order_by("version")
    text = page(site, f"events/deviceconfig/{second.pk}/change/")
    assert "user:alice" in text
    assert "&quot;op&quot;: &quot;remove&quot;" in text
    assert "&quot;path&quot;: &quot;/b&quot;" in text
    text = page(site, f"events/deviceconfig/{first.pk}/change/")
    assert "&lt;b&gt;" in text
    assert "<b>&quot;" not in text
    assert site.post(f"/admin/events/deviceconfig/{first.pk}/delete/").status_code == 403
    sensor.api.post("/devices/config/reported", {"version": 2, "message": "it runs"})
    assert "it runs" in page(site, "events/reportedconfig/", device_id=sensor.id)
    assert "it runs" in page(site, f"events/reportedconfig/{sensor.id}/change/")


class TestPermissions:
    @pytest.mark.parametrize(
        ("model", "action"), [("devices/device", "deactivate"), ("accounts/user", "deactivate")]
    )
    def test_staff_who_may_only_look_change_nothing(self, make_user, alice, sensor, model, action):
        viewer = make_user("viewer", is_staff=True)
        viewer.user.user_permissions.add(
            *Permission.objects.filter(codename__in=["view_device", "view_user"])
        )
        client = Client()
        client.force_login(viewer.user)
        pk = sensor.id if model == "devices/device" else alice.user.pk
        client.post(f"/admin/{model}/", {"action": action, "_selected_action": [pk]})
        assert sensor.api.get("/devices/status").json["status"] == "active"
        assert sensor.api.post("/devices/heartbeat").status == 200
        assert client.post(f"/admin/devices/device/{sensor.id}/rotate_key/").status_code == 403


class TestDevices:
    def add(self, site, alice) -> str:
        response = site.post(
            "/admin/devices/device/add/",
            {
                "name": "New one",
                "device_type": "sensor",
                "owner": alice.user.pk,
                "status": "active",
                "keys-TOTAL_FORMS": 0,
                "keys-INITIAL_FORMS": 0,
                "memberships-TOTAL_FORMS": 0,
                "memberships-INITIAL_FORMS": 0,
            },
        )
        assert response.status_code == 200
        assert "no-store" in response.headers["Cache-Control"]
        return re.search(r"iotd_[\w-]{43}", response.content.decode())[0]

    def test_a_device_made_here_shows_its_key_once(self, site, alice):
        key = self.add(site, alice)
        assert Api(key=key).get("/devices/status").json["name"] == "New one"
        device = Device.objects.get()
        assert key not in page(site, f"devices/device/{device.pk}/change/")
        assert kinds()[-1] == "device.registered"

    def test_rotating_asks_first_and_shows_the_new_key_once(self, site, sensor):
        path = f"/admin/devices/device/{sensor.id}/rotate_key"
        asked = site.get(path, follow=True)
        assert asked.status_code == 200
        assert sensor.api.get("/devices/status").status == 200
        answer = site.post(asked.request["PATH_INFO"])
        key = re.search(r"iotd_[\w-]{43}", answer.content.decode())[0]
        assert sensor.api.get("/devices/status").status == 401
        assert Api(key=key).get("/devices/status").status == 200
        assert ApiKey.objects.count() == 2
        assert "device.key_rotated" in kinds()
        assert all(key not in str(event) for event in EventLog.objects.values())

    def test_a_devices_keys_are_shown_with_label_and_validity(self, site, alice, sensor):
        for fields in ({"label": "gateway", "valid_from": "2999-01-01"}, {"label": "spare"}):
            assert alice.api.post(f"/devices/{sensor.id}/keys", fields).status == 201
        text = page(site, f"devices/device/{sensor.id}/keys/")
        for shown in ("gateway", "spare", "pending", "valid", "2999"):
            assert shown in text

    @pytest.mark.parametrize(
        ("action", "status"),
        [("activate", "active"), ("deactivate", "inactive"), ("maintain", "maintenance")],
    )
    def test_bulk_actions_change_the_status_and_caches_follow(
        self, site, alice, make_device, action, status
    ):
        devices = [make_device(alice) for _ in range(3)]
        for device in devices:
            device.api.post("/telemetry", {"data": {"a": 1}})
        site.post(
            "/admin/devices/device/",
            {"action": action, "_selected_action": [device.id for device in devices]},
        )
        for device in devices:
            assert device.api.get("/devices/status").json["status"] == status
            expected = 403 if status == "inactive" else 201
            assert device.api.post("/telemetry", {"data": {"a": 1}}).status == expected
        changed = 0 if status == "active" else 3
        assert kinds().count("device.status_changed") == changed

    def test_a_change_in_the_form_acts_on_the_next_request(self, site, sensor):
        sensor.api.get("/devices/status")
        site.post(
            f"/admin/devices/device/{sensor.id}/change/",
            {
                "name": "renamed",
                "device_type": "sensor",
                "status": "inactive",
                "keys-TOTAL_FORMS": 0,
                "keys-INITIAL_FORMS": 0,
                "memberships-TOTAL_FORMS": 0,
                "memberships-INITIAL_FORMS": 0,
            },
        )
        assert sensor.api.get("/devices/status").json["name"] == "renamed"
        assert sensor.api.post("/devices/heartbeat").status == 403
        assert sorted(kinds()[-2:]) == ["device.changed", "device.status_changed"]

    def test_deleting_in_bulk_ends_keys_and_is_an_event_each(self, site, alice, make_device):
        devices = [make_device(alice) for _ in range(2)]
        site.post(
            "/admin/devices/device/",
            {
                "action": "delete_selected",
                "_selected_action": [device.id for device in devices],
                "post": "yes",
            },
        )
        assert not Device.objects.exists()
        assert [device.api.get("/devices/status").status for device in devices] == [401, 401]
        assert kinds().count("device.deleted") == 2

    def test_filters_and_search(self, site, alice, make_device):
        make_device(alice, "kitchen", device_type="thermometer")
        make_device(alice, "cellar", device_type="hygrometer")
        found = page(site, "devices/device/", q="kitch")
        assert "kitchen" in found
        assert "cellar" not in found
        found = page(site, "devices/device/", device_type="hygrometer", status__exact="active")
        assert "cellar" in found
        assert "kitchen" not in found

    def test_the_list_costs_the_same_for_any_number_of_devices(
        self, site, alice, make_device, django_assert_max_num_queries
    ):
        for _ in range(12):
            make_device(alice)
        page(site, "devices/device/")
        # Session and user; the count; the devices with their owners; the types for the filter;
        # and what the filters' own widgets ask. None of them grows with the devices.
        with django_assert_max_num_queries(8):
            page(site, "devices/device/")


class TestGroups:
    def test_groups_are_joined_by_a_devices_form_and_owners_are_not_mixed(
        self, site, alice, bob, sensor
    ):
        group, foreign = (
            DeviceGroup.objects.create(owner=owner.user, name="Hall") for owner in (alice, bob)
        )

        def save(group_id):
            return site.post(
                f"/admin/devices/device/{sensor.id}/change/",
                {
                    "name": "sensor",
                    "device_type": "sensor",
                    "status": "active",
                    "memberships-TOTAL_FORMS": 1,
                    "memberships-INITIAL_FORMS": 0,
                    "memberships-0-device": sensor.id,
                    "memberships-0-group": group_id,
                },
            )

        assert save(foreign.pk).status_code == 200
        assert not foreign.devices.exists()
        assert save(group.pk).status_code == 302
        assert list(group.devices.all()) == [sensor.device]
        assert "group.device_added" in kinds()


class TestUsers:
    def test_deactivating_in_bulk_ends_tokens_and_refuses_devices(self, site, alice, sensor, staff):
        assert sensor.api.post("/devices/heartbeat").status == 200
        site.post(
            "/admin/accounts/user/",
            {"action": "deactivate", "_selected_action": [alice.user.pk, staff.user.pk]},
        )
        assert alice.api.get("/devices").status == 401
        assert sensor.api.post("/devices/heartbeat").status == 403
        assert User.objects.get(username="staff").is_active  # nobody locks themselves out
        assert Token.objects.filter(user=alice.user).count() == 0
        assert "user.deactivated" in kinds()

    def test_nobody_deletes_or_deactivates_themselves(self, site, staff, alice):
        path = f"/admin/accounts/user/{staff.user.pk}"
        assert site.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
        both = [staff.user.pk, alice.user.pk]
        site.post(
            "/admin/accounts/user/",
            {"action": "delete_selected", "_selected_action": both, "post": "yes"},
        )
        form = {"username": "staff", "email": "staff@example.org", "is_staff": "on"}
        assert site.post(f"{path}/change/", {**form, "is_superuser": "on"}).status_code == 302
        assert User.objects.filter(is_active=True).count() == 2

    def test_changing_a_password_ends_the_users_tokens(self, site, alice, anybody):
        new = "swordfish 99"
        response = site.post(
            f"/admin/accounts/user/{alice.user.pk}/password/",
            {"usable_password": "true", "password1": new, "password2": new},
        )
        assert response.status_code == 302
        assert alice.api.get("/devices").status == 401
        login = {"username": "alice", "password": new}
        assert anybody.post("/auth/login", login).status == 200
        assert "user.changed" in kinds()

    def test_a_user_made_here_can_log_in(self, site, anybody):
        response = site.post(
            "/admin/accounts/user/add/",
            {
                "username": "dora",
                "email": "dora@example.org",
                "usable_password": "true",
                "password1": "swordfish 18",
                "password2": "swordfish 18",
            },
        )
        assert response.status_code == 302
        login = {"username": "dora", "password": "swordfish 18"}
        assert anybody.post("/auth/login", login).status == 200


class TestEvents:
    @pytest.fixture
    def many(self, alice) -> None:
        for n in range(120):
            log.record(
                Kind.DEVICE_CHANGED if n % 2 else Kind.DEVICE_REGISTERED,
                f"something ({n:03})",
                severity=Severity.WARNING if n % 3 == 0 else Severity.INFO,
                device_id=n % 4,
                user_id=alice.user.pk,
            )

    def shown(self, site, **query) -> set[int]:
        text = page(site, "events/eventlog/", **query)
        return {int(n) for n in re.findall(r"something \((\d+)\)", text)}

    def test_filters_narrow_the_list(self, site, many, alice):
        assert self.shown(site) == set(range(70, 120))
        kind, severity = "device.registered", "warning"
        expected = {n for n in range(120) if n % 2 == 0 and n % 3 == 0}
        assert self.shown(site, kind=kind, severity=severity) == expected
        expected = {n for n in range(120) if n % 4 == 3}
        assert self.shown(site, device_id=3) == expected
        assert self.shown(site, device_id=3, user_id=alice.user.pk) == expected
        assert self.shown(site, user_id=alice.user.pk + 1) == set()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("device_id", number) for number in ("x", "²", 2**63, "9" * 5000)),
            ("severity", "loud"),
            ("kind", "nothing"),
            ("start_time", "yesteryear"),
            ("cursor", "x"),
        ],
    )
    def test_nonsense_is_named(self, site, many, name, value):
        assert f"{name}: " in page(site, "events/eventlog/", **{name: value})

    def test_pages_follow_each_other_without_a_number(self, site, many):
        seen, query = [], "device_id=1"
        while query:
            text = page(site, f"events/eventlog/?{query}")
            seen += re.findall(r"something \((\d+)\)", text)
            found = re.search(r'href="\?([^"]+)" rel="next"', text)
            query = found[1].replace("&amp;", "&") if found else ""
        assert seen == [f"{n:03}" for n in range(117, -1, -4)]

    def test_a_range_of_time_is_asked_for_in_words_or_numbers(self, site, many):
        assert len(self.shown(site, start_time="-1h")) == 50
        assert self.shown(site, start_time="2001-01-01", end_time="2001-01-02") == set()

    @pytest.mark.parametrize(
        ("text", "found"),
        [("something (007)", {7}), ("(01", set(range(10, 20))), (".*", set()), ("\\", set())],
    )
    def test_search_takes_text_as_it_is(self, site, many, text, found):
        assert self.shown(site, q=text) == found

    def test_a_payload_is_shown_as_readable_json_and_escaped(self, site):
        log.record(Kind.DEVICE_ERASED, "erased", payload={"rows": {"text": "<b>ü</b>"}})
        event = EventLog.objects.get(kind="device.erased")
        text = page(site, f"events/eventlog/{event.pk}/change/")
        assert "&quot;rows&quot;: {\n" in text
        assert "<b>ü</b>" not in text
        assert "&lt;b&gt;ü&lt;/b&gt;" in text

    def test_nothing_is_ever_counted(self, site, many, monkeypatch):
        from django.db.models import QuerySet

        counted = []
        count = QuerySet.count

        def noted(queryset):
            counted.append(queryset.model)
            return count(queryset)

        monkeypatch.setattr(QuerySet, "count", noted)
        page(site, "events/eventlog/")
        assert EventLog not in counted

    def test_a_text_is_looked_for_in_the_newest_events_only_and_it_says_so(
        self, site, many, monkeypatch
    ):
        monkeypatch.setattr(browse, "SEARCHED_MAX", 30)
        text = page(site, "events/eventlog/", q="something")
        assert "There are more than 30 events in this range" in text
        found = {int(n) for n in re.findall(r"something \((\d+)\)", text)}
        assert len(found) >= 15
        assert found <= set(range(90, 120))

    def test_the_next_and_the_one_before_are_of_those_asked_for(self, site, many):
        event = EventLog.objects.get(message="something (050)")
        text = page(site, f"events/eventlog/{event.pk}/change/", device_id=2)
        for message, rel in (("something (054)", "prev"), ("something (046)", "next")):
            beside = EventLog.objects.get(message=message)
            assert f'rel="{rel}" href="/admin/events/eventlog/{beside.pk}/change/' in text

    def test_an_old_event_leads_to_all_that_its_request_did(self, site):
        time = timezone.now() - timedelta(days=40)
        for n, name in enumerate(("one", "one", "other")):
            origin = context.Origin("192.0.2.1", name)
            moment = time + timedelta(seconds=n)
            happened = log.event(
                uuid4(), Kind.USER_LOGIN, f"something ({n})", actor="x", time=moment, origin=origin
            )
            EventLog.objects.create(**happened)
        event = EventLog.objects.get(message="something (0)")
        text = page(site, f"events/eventlog/{event.pk}/change/")
        [query] = re.findall(r'eventlog/\?(request_id=[^"]+)"', text)
        found = page(site, f"events/eventlog/?{unescape(query)}")
        assert re.findall(r"something \((\d)\)", found) == ["1", "0"]

    def beside(self, site, n: int, **query) -> set[str]:
        event = EventLog.objects.get(message=f"something ({n:03})")
        text = page(site, f"events/eventlog/{event.pk}/change/", **query)
        found = re.findall(r'rel="(?:prev|next)" href="/admin/events/eventlog/([^/]+)/', text)
        return set(EventLog.objects.filter(pk__in=found).values_list("message", flat=True))

    def test_what_no_index_finds_is_looked_for_beside_an_event_in_the_range_of_its_list(
        self, site, many, monkeypatch
    ):
        EventLog.objects.exclude(device_id=None).update(address="192.0.2.1")
        EventLog.objects.filter(message="something (000)").update(
            time=timezone.now() - timedelta(days=2)
        )
        beside = self.beside(site, 1, kind="device.registered")
        assert beside == {"something (000)", "something (002)"}
        for query in ({"q": "something ("}, {"address": "192.0.2.1"}):
            assert self.beside(site, 1, **query) == {"something (002)"}
        monkeypatch.setattr(browse, "SEARCHED_MAX", 30)
        [found] = self.beside(site, 1, q="something")
        assert found >= "something (090)"

    def test_an_event_is_shown_where_its_neighbours_cannot_be_known(self, site, many, monkeypatch):
        def away(*arguments):
            raise StoreAway("MongoDB")

        event = EventLog.objects.get(message="something (050)")
        monkeypatch.setattr(browse, "neighbours", away)
        text = page(site, f"events/eventlog/{event.pk}/change/", q="050")
        assert "something (050)" in text
        assert "Which events are beside it is not known now" in text

    @pytest.mark.parametrize("form", ["csv", "ndjson"])
    def test_all_that_is_asked_for_goes_into_a_file(self, site, many, form, monkeypatch):
        from events import admin

        monkeypatch.setattr(admin, "EXPORT_PAGE", 7)
        answer = site.get(f"/admin/events/eventlog/export/?format={form}&device_id=1")
        lines = b"".join(answer.streaming_content).decode().strip().splitlines()
        assert len(lines) == 30 + (form == "csv")
        assert "something (117)" in lines[form == "csv"]

    def test_a_file_of_another_format_is_refused(self, site):
        assert site.get("/admin/events/eventlog/export/?format=xml").status_code == 400

    def test_nobody_adds_changes_or_deletes(self, site, many):
        event = EventLog.objects.first()
        assert site.get("/admin/events/eventlog/add/").status_code == 403
        path = f"/admin/events/eventlog/{event.pk}"
        assert site.post(f"{path}/change/", {"message": "x"}).status_code == 403
        assert site.post(f"{path}/delete/", {"post": "yes"}).status_code == 403

    @pytest.mark.parametrize("number", ["x", "0" * 32, "6f9619ff-8b86-4011-b42d-00c04fc964ff"])
    def test_an_event_that_is_not_there(self, site, number):
        response = site.get(f"/admin/events/eventlog/{number}/change/")
        assert response.status_code in (302, 404)
