"""The second factor of staff: setting it up, being asked for it, losing it."""

import re
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import second_factor, views
from accounts.models import Token
from events.models import EventLog
from tests.api import Api

KEY = "3132333435363738393031323334353637383930"
WRONG = "12345x"
DASHBOARD, CODE, OWN = "/admin/", "/admin/code/", "/admin/second-factor/"
RECOVERY = re.compile(r"<code>(\w{4}-\w{4}-\w{4})</code>")


def code(later: int = 0, key: str = KEY) -> str:
    """What the app shows now, or some steps later: no step's code is taken twice."""
    return f"{totp(bytes.fromhex(key), drift=later):06d}"


def browser(name: str = "staff") -> Client:
    """Somebody who has given their password to the admin site."""
    client = Client()
    answer = client.post("/admin/login/", {"username": name, "password": "swordfish 17"})
    assert answer.status_code == 302
    return client


def kinds() -> list[str]:
    return list(EventLog.objects.order_by("time").values_list("kind", flat=True))


def is_led_to(client: Client, page: str, path: str = DASHBOARD) -> bool:
    answer = client.get(path)
    return answer.status_code == 302 and answer.headers["Location"].startswith(page)


@pytest.fixture
def patient(settings) -> None:
    """A wrong code makes nobody wait for the next."""
    settings.OTP_TOTP_THROTTLE_FACTOR = settings.OTP_STATIC_THROTTLE_FACTOR = 0


@pytest.fixture
def codes(staff) -> list[str]:
    """Recovery codes of `staff`, who has a second factor."""
    enrolled = second_factor.enrol(user=staff.user, key=KEY, code=code())
    assert enrolled is not None
    return enrolled[1]


class TestSettingUp:
    def test_a_code_of_the_key_that_was_shown_proves_the_app_has_it(self, staff):
        client = browser()
        page = client.get(OWN)
        assert "no-store" in page.headers["Cache-Control"]
        assert "<svg" in page.content.decode()
        key = client.session["totp_key"]
        assert "is wrong" in client.post(OWN, {"code": WRONG}).content.decode()
        assert not TOTPDevice.objects.exists()
        before = client.cookies["sessionid"].value
        shown = RECOVERY.findall(client.post(OWN, {"code": code(0, key)}).content.decode())
        assert len(set(shown)) == 10
        assert client.cookies["sessionid"].value != before
        assert client.get(DASHBOARD).status_code == 200
        assert "user.totp_enrolled" in kinds()

    def test_recovery_codes_are_shown_once_and_kept_as_digests(self, staff, codes):
        client = browser()
        client.post(CODE, {"code": code(1)})
        assert RECOVERY.findall(client.get(OWN).content.decode()) == []
        kept = list(StaticToken.objects.values_list("token", flat=True))
        assert len(kept) == 10
        for shown in codes:
            assert not {shown, shown.replace("-", "")} & {text.lower() for text in kept}

    def test_tokens_from_before_end(self, staff, codes):
        assert not Token.objects.filter(user=staff.user).exists()
        assert staff.api.get("/devices").status == 401

    def test_their_models_have_no_page_that_would_show_the_key(self, staff):
        client = browser()
        for path in ("otp_totp/totpdevice/", "otp_static/staticdevice/"):
            assert client.get(f"/admin/{path}").status_code == 404


class TestBeingAsked:
    @pytest.mark.parametrize(
        "path",
        [
            "",
            "devices/device/",
            "events/eventlog/",
            "search/?s=a",
            "dashboard/",
            "password_change/",
        ],
    )
    def test_no_page_opens_before_the_code_is_given(self, staff, codes, path):
        client = browser()
        assert is_led_to(client, CODE, f"/admin/{path}")
        assert client.post(f"/admin/{path}").headers["Location"].startswith(CODE)
        assert is_led_to(client, CODE, OWN)

    def test_the_session_is_nobodys_to_the_api_before(self, staff, codes):
        client = browser()
        assert client.get("/api/v1/devices").status_code == 401
        assert "version" not in str(client.get("/health?detailed=true").json()["stores"])
        client.post(CODE, {"code": code(1)})
        assert client.get("/api/v1/devices").status_code == 200

    def test_a_right_code_leads_on_to_what_was_wanted_under_another_session(self, staff, codes):
        client = browser()
        before = client.cookies["sessionid"].value
        wanted = "/admin/devices/device/?q=boiler"
        asked = client.get(wanted).headers["Location"]
        assert asked == f"{CODE}?next={quote(wanted, safe='')}"
        assert 'autocomplete="one-time-code"' in client.get(asked).content.decode()
        answer = client.post(CODE, {"code": f" {code(1)[:3]} {code(1)[3:]}", "next": wanted})
        assert answer.headers["Location"] == wanted
        assert client.cookies["sessionid"].value != before
        assert client.get(wanted).status_code == 200

    @pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example", "javascript:1"])
    def test_nobody_is_sent_to_another_site(self, staff, codes, wanted):
        answer = browser().post(CODE, {"code": code(1), "next": wanted})
        assert answer.headers["Location"] == DASHBOARD

    def test_a_code_is_good_once(self, staff, codes, patient):
        assert browser().post(CODE, {"code": code(1)}).status_code == 302
        assert browser().post(CODE, {"code": code(1)}).status_code == 200
        assert browser().post(CODE, {"code": code(2)}).status_code == 302

    def test_a_recovery_code_is_good_once_and_is_an_event(self, staff, codes, patient):
        assert browser().post(CODE, {"code": codes[0].upper()}).status_code == 302
        assert browser().post(CODE, {"code": codes[0]}).status_code == 200
        event = EventLog.objects.get(kind="user.recovery_code_used")
        assert event.payload == {"left": 9}

    def test_wrong_codes_are_events_and_count_as_failed_log_ins(
        self, staff, codes, settings, patient
    ):
        settings.RATE_LOGIN_FAILED_ACCOUNT = "3/min"
        client = browser()
        for text in ("12345", "", "not-a-code-of"):
            assert client.post(CODE, {"code": text}).status_code == 200
        refused = client.post(CODE, {"code": code(1)})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert is_led_to(client, CODE)
        assert kinds().count("user.totp_failed") == 3
        assert all(code(1) not in str(event) for event in EventLog.objects.values())

    def test_a_wrong_code_makes_the_next_wait_wherever_it_comes_from(self, staff, codes, settings):
        settings.OTP_TOTP_THROTTLE_FACTOR = 600
        browser().post(CODE, {"code": WRONG}, REMOTE_ADDR="203.0.113.7")
        refused = browser().post(CODE, {"code": code(1)})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 500

    def test_logging_out_is_possible_before(self, staff, codes):
        client = browser()
        client.post("/admin/logout/")
        assert is_led_to(client, "/admin/login/")

    def test_those_without_are_not_asked(self, staff):
        assert browser().get(DASHBOARD).status_code == 200

    def test_nobody_is_asked_where_it_is_off(self, staff, codes, settings):
        settings.ADMIN_TOTP = "off"
        client = browser()
        assert client.get(DASHBOARD).status_code == 200
        assert client.get(OWN).status_code == 404
        assert log_in().status == 200


class TestRequired:
    @pytest.fixture(autouse=True)
    def required(self, settings) -> None:
        settings.ADMIN_TOTP = "required"

    def test_staff_without_one_can_set_it_up_and_nothing_else(self, staff, sensor):
        client = browser()
        for path in ("", "devices/device/", "password_change/"):
            assert is_led_to(client, OWN, f"/admin/{path}")
        client.post(f"/admin/devices/device/{sensor.id}/rotate_key/")
        assert sensor.api.get("/devices/status").status == 200
        assert client.get("/api/v1/devices").status_code == 401
        assert "go on when it is set up" in client.get(OWN).content.decode()
        client.post(OWN, {"code": code(0, client.session["totp_key"])})
        assert client.get(DASHBOARD).status_code == 200

    def test_staff_get_no_token_before(self, staff):
        refused = log_in()
        assert refused.status == 401
        assert "set up their second factor" in refused.json["message"]

    def test_others_are_not_staff(self, alice):
        assert log_in(name="alice").status == 200


def log_in(name: str = "staff", **more: str):
    return Api().post("/auth/login", {"username": name, "password": "swordfish 17", **more})


def test_a_log_in_by_the_api_needs_the_code_too(staff, codes, patient):
    for more in ({}, {"code": WRONG}, {"code": "x" * 12}):
        refused = log_in(**more)
        assert refused.status == 401
        assert "`code`" in refused.json["message"]
    assert not Token.objects.exists()
    token = log_in(code=code(1)).json["token"]
    assert Api(token=token).get("/devices").status == 200
    assert log_in(code=codes[3]).status == 200


def test_a_log_in_without_a_code_is_none_once_there_is_a_second_factor(staff, monkeypatch, patient):
    """It is set up between the look at the password and the token."""
    check, tokens = views.demand, Token.objects.count()

    def meanwhile(*arguments):
        had_code = check(*arguments)
        TOTPDevice.objects.create(user=staff.user, name="app")
        return had_code

    monkeypatch.setattr(views, "demand", meanwhile)
    assert log_in().status == 401
    assert Token.objects.count() == tokens


class TestLosingIt:
    def test_removing_ones_own_takes_a_code(self, staff, codes, patient):
        client = browser()
        client.post(CODE, {"code": code(1)})
        assert client.post(OWN, {"remove": "yes", "code": WRONG}).status_code == 200
        assert TOTPDevice.objects.exists()
        assert client.post(OWN, {"remove": "yes", "code": code(2)}).status_code == 302
        assert not TOTPDevice.objects.exists()
        assert not StaticToken.objects.exists()
        assert kinds()[-1] == "user.totp_removed"

    def test_new_recovery_codes_end_those_before(self, staff, codes, patient):
        client = browser()
        client.post(CODE, {"code": code(1)})
        shown = RECOVERY.findall(client.post(OWN, {"code": code(2)}).content.decode())
        assert len(shown) == 10
        assert browser().post(CODE, {"code": codes[0]}).status_code == 200
        assert browser().post(CODE, {"code": shown[0]}).status_code == 302

    def test_a_superuser_takes_it_away_and_nobody_else(self, staff, make_user):
        other = make_user("other", is_staff=True)
        other.user.user_permissions.set(permissions())
        admin = make_user("colleague", is_staff=True)
        admin.user.user_permissions.set(permissions())
        second_factor.enrol(user=other.user, key=KEY, code=code())
        path = f"/admin/accounts/user/{other.user.pk}/overview/"
        assert browser("colleague").post(path, {"reset": "yes"}).status_code == 403
        assert "Reset the second factor" in browser().get(path).content.decode()
        assert browser().post(path, {"reset": "yes"}).status_code == 302
        assert not TOTPDevice.objects.exists()
        event = EventLog.objects.get(kind="user.totp_removed")
        assert (event.actor, event.user_id) == ("user:staff", other.user.pk)

    def test_a_command_takes_it_away(self, staff, codes, capsys):
        call_command("reset_totp", "staff@example.org")
        assert "has no second factor any more" in capsys.readouterr().out
        assert browser().get(DASHBOARD).status_code == 200
        call_command("reset_totp", "staff")
        assert "staff has no second factor." in capsys.readouterr().out
        with pytest.raises(CommandError, match="no user"):
            call_command("reset_totp", "nobody")


def permissions():
    return Permission.objects.filter(content_type__model="user")
