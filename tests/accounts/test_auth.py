"""Registering, logging in, logging out."""

from datetime import timedelta

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.utils import timezone

from accounts import views
from accounts.models import Token, User
from accounts.services import change_user, set_active
from events.models import EventLog
from tests.api import Api

PASSWORD = "swordfish 17"


class CountingHasher(MD5PasswordHasher):
    """Counts how often a password is hashed, which is what takes time."""

    count = 0

    def encode(self, password, salt):
        CountingHasher.count += 1
        return super().encode(password, salt)


def register(anybody, **fields):
    body = {"username": "carol", "email": "carol@example.org", "password": PASSWORD, **fields}
    return anybody.post("/auth/register", body)


def kinds() -> list[str]:
    return sorted(EventLog.objects.values_list("kind", flat=True))


def test_a_user_registers_and_is_told_who_they_are(anybody):
    answer = register(anybody)
    assert answer.status == 201
    user = answer.json["user"]
    assert set(user) == {
        "id",
        "user_id",
        "username",
        "email",
        "is_active",
        "is_admin",
        "created_at",
        "last_login",
    }
    assert user["username"] == "carol"
    assert not user["is_admin"]
    assert PASSWORD not in answer.text
    assert kinds() == ["user.registered"]


def test_nobody_registers_themselves_as_staff(anybody):
    register(anybody, is_staff=True, is_superuser=True, is_admin=True)
    user = User.objects.get()
    assert not user.is_staff
    assert not user.is_superuser


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"email": "other@example.org"}, {"username"}),
        ({"username": "CAROL", "email": "other@example.org"}, {"username"}),
        ({"username": "other"}, {"email"}),
        ({"username": "other", "email": "Carol@Example.org"}, {"email"}),
        ({}, {"username", "email"}),
    ],
)
def test_what_is_taken_is_a_conflict_that_says_what(anybody, fields, taken):
    register(anybody)
    answer = register(anybody, **fields)
    assert answer.status == 409
    assert answer.fields() == taken
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"password": "short"}, {"password"}),
        ({"password": "12345678901"}, {"password"}),
        ({"password": "password"}, {"password"}),
        ({"password": "carol@example.org"}, {"password"}),
        ({"email": "nonsense"}, {"email"}),
        ({"username": "carol@example.org"}, {"username"}),
        ({"username": "ca rol"}, {"username"}),
        ({"username": "alıce", "email": "alıce@example.org"}, {"username", "email"}),
        ({"username": "car\0l", "email": "\ud800@x"}, {"username", "email"}),
        ({"username": None, "email": 5, "password": []}, {"username", "email", "password"}),
        ({"username": "x" * 151}, {"username"}),
    ],
)
def test_every_bad_field_of_a_registration_is_named(anybody, fields, wrong):
    answer = register(anybody, **fields)
    assert answer.status == 400
    assert answer.fields() == wrong
    assert not User.objects.exists()


@pytest.mark.parametrize("login", ["carol", "CAROL", "carol@example.org", "Carol@Example.org"])
def test_username_or_email_and_password_give_a_token(anybody, login):
    register(anybody)
    answer = anybody.post("/auth/login", {"username": login, "password": PASSWORD})
    assert answer.status == 200
    assert answer.json["token"].startswith("iotu_")
    assert answer.json["expires_at"].endswith("Z")
    assert answer.json["user"]["last_login"] is not None
    assert kinds() == ["user.login", "user.registered"]


@pytest.mark.parametrize("levels", [280, 960, 1015, 100_000])
def test_whatever_is_nested_is_refused(anybody, levels):
    nested = b"[" * levels + b"]" * levels
    body = b'{"username": %s, "email": %s, "password": %s}' % (nested, nested, nested)
    for path in ("/auth/login", "/auth/register"):
        assert anybody.post(path, body).status == 400


@pytest.mark.parametrize("change", ["password", "deactivated", "deleted"])
def test_no_token_is_made_after_what_ends_tokens(anybody, alice, monkeypatch, change):
    """It comes between the look at the password and the token."""

    def meanwhile(*_):
        match change:
            case "password":
                change_user(user=alice.user, fields={"password": "another 18"}, actor=alice.user)
            case "deactivated":
                set_active(users=[alice.user], active=False, actor=None)
            case "deleted":
                User.objects.filter(pk=alice.user.pk).delete()
        return False

    monkeypatch.setattr(views, "demand", meanwhile)
    answer = anybody.post("/auth/login", {"username": "alice", "password": PASSWORD})
    assert answer.status == 401
    assert not Token.objects.exists()


def test_the_token_is_stored_as_a_digest_only(anybody):
    register(anybody)
    token = anybody.post("/auth/login", {"username": "carol", "password": PASSWORD}).json["token"]
    stored = Token.objects.get()
    assert token not in {stored.digest, stored.token_key}
    assert all(token not in str(event) for event in EventLog.objects.values())


@pytest.mark.parametrize(
    "body",
    [
        {"username": "carol", "password": "wrong"},
        {"username": "nobody", "password": PASSWORD},
        {"email": "nobody@example.org", "password": PASSWORD},
    ],
)
def test_a_failed_log_in_says_no_more_than_that(anybody, body):
    register(anybody)
    answer = anybody.post("/auth/login", body)
    assert answer.status == 401
    assert "WWW-Authenticate" in answer.headers
    assert answer.json == {
        "error": "not_authenticated",
        "message": "Username or password is wrong.",
    }
    assert kinds() == ["user.login_failed", "user.registered"]


def test_a_failed_log_in_by_a_long_address_names_whose_it_is(anybody):
    email = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.org"
    assert register(anybody, email=email).status == 201
    assert anybody.post("/auth/login", {"email": email, "password": "wrong"}).status == 401
    assert EventLog.objects.get(kind="user.login_failed").payload == {"login": "carol"}


def test_a_password_typed_as_username_is_not_in_the_event(anybody):
    anybody.post("/auth/login", {"username": "my secret", "password": "x"})
    [event] = EventLog.objects.all()
    assert event.payload == {"login": "unknown"}


def test_a_deactivated_user_cannot_log_in_nor_use_a_token(anybody, alice):
    set_active(users=[alice.user], active=False, actor=None)
    answer = anybody.post("/auth/login", {"username": "alice", "password": PASSWORD})
    assert answer.status == 401
    assert alice.api.get("/groups").status == 401


def test_logging_out_ends_this_token_and_no_other(anybody, alice):
    other = Token.objects.create(alice.user)[1]
    assert alice.api.post("/auth/logout").status == 200
    assert alice.api.get("/groups").status == 401
    assert Api(token=other).get("/groups").status == 200
    assert "user.logout" in kinds()


@pytest.mark.parametrize("token", ["", "x", "iotu_" + "0" * 64, "a b", "\xff" * 20])
def test_a_bad_token_is_401(token):
    answer = Api(token=token or " ").get("/groups")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_is_401(alice):
    Token.objects.update(expiry=timezone.now())
    assert alice.api.get("/groups").status == 401


def test_using_a_token_renews_it_but_writes_at_most_once_an_hour(alice, django_assert_num_queries):
    Token.objects.update(expiry=timezone.now() + timedelta(days=5))
    alice.api.get("/groups")
    assert Token.objects.get().expiry > timezone.now() + timedelta(days=29)
    # The token with its user; the number of groups; the groups.
    with django_assert_num_queries(3):
        alice.api.get("/groups")


@pytest.mark.parametrize(
    ("password", "reasons"),
    [
        ("12345", ["too short", "too common", "entirely numeric"]),
        ("carol", ["too similar to the username", "too short"]),
    ],
)
def test_every_rule_that_a_password_breaks_is_named(anybody, password, reasons):
    details = register(anybody, password=password).json["details"]
    assert len(details["password"]) >= len(reasons)
    for reason in reasons:
        assert any(reason in said for said in details["password"])


def test_a_failed_log_in_costs_one_hashing_whoever_it_names(anybody, make_user, settings):
    """So that nobody learns by a clock which users there are, or which are deactivated."""
    settings.PASSWORD_HASHERS = ["tests.accounts.test_auth.CountingHasher"]
    make_user("carol")
    set_active(users=[make_user("dave").user], active=False, actor=None)
    answers = []
    for login, password in (
        ("carol", "wrong"),
        ("carol@example.org", "wrong"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("dave", PASSWORD),
        ("dave", "wrong"),
    ):
        before = CountingHasher.count
        answers.append(anybody.post("/auth/login", {"username": login, "password": password}))
        assert CountingHasher.count == before + 1, login
    assert {answer.status for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


class TestTokens:
    @pytest.fixture
    def other(self, alice) -> Api:
        return Api(token=Token.objects.create(alice.user)[1])

    def test_ones_tokens_are_listed_without_themselves(
        self, alice, bob, other, django_assert_num_queries
    ):
        # The token with its user; how many tokens; the tokens.
        with django_assert_num_queries(3):
            answer = alice.api.get("/auth/tokens")
        assert answer.status == 200
        assert answer.json["meta"]["total"] == 2
        newer, older = answer.json["tokens"]
        assert set(older) == {*("id", "prefix", "created_at", "expires_at", "last_used", "current")}
        assert (newer["current"], older["current"]) == (False, True)
        assert alice.api.token.startswith(older["prefix"])
        assert alice.api.token not in answer.text
        assert len(bob.api.get("/auth/tokens").json["tokens"]) == 1
        assert alice.api.get("/auth/tokens", limit=1).json["meta"]["returned"] == 1
        Token.objects.filter(pk=newer["id"]).update(expiry=timezone.now())
        assert alice.api.get("/auth/tokens").json["meta"]["total"] == 1

    def test_a_token_says_when_it_was_last_used(self, alice, django_assert_num_queries):
        assert alice.api.get("/auth/tokens").json["tokens"][0]["last_used"] is None
        Token.objects.update(expiry=timezone.now() + timedelta(days=5))
        alice.api.get("/devices")
        [token] = alice.api.get("/auth/tokens").json["tokens"]
        assert token["last_used"] > token["created_at"]
        assert token["expires_at"] > token["last_used"]

    def test_one_is_ended_and_the_others_go_on(self, alice, other):
        newer, older = alice.api.get("/auth/tokens").json["tokens"]
        path = f"/auth/tokens/{newer['id']}"
        assert alice.api.delete(path).status == 200
        assert other.get("/devices").status == 401
        assert alice.api.delete(path).status == 404
        assert alice.api.get("/devices").status == 200
        assert kinds() == ["user.token_refused", "user.tokens_ended"]
        assert alice.api.delete(f"/auth/tokens/{older['id']}").status == 200
        assert alice.api.get("/devices").status == 401

    def test_somebody_elses_token_is_not_there_even_for_staff(self, alice, bob, staff, sensor):
        [his] = alice.api.get("/auth/tokens").json["tokens"]
        for who in (bob, staff):
            assert who.api.delete(f"/auth/tokens/{his['id']}").status == 404
        assert sensor.api.get("/auth/tokens").status == 401
        assert staff.api.delete(f"/auth/tokens/{'9' * 30}").status == 404
        assert alice.api.get("/devices").status == 200

    def test_logging_out_everywhere_ends_all_of_them(self, alice, bob, other):
        answer = alice.api.post("/auth/logout-all")
        assert (answer.status, answer.json["ended"]) == (200, 2)
        for api in (alice.api, other):
            assert api.get("/devices").status == 401
        assert bob.api.get("/devices").status == 200
        assert EventLog.objects.get(kind="user.tokens_ended").user_id == alice.user.pk

    def test_nobody_logs_out_without_a_token(self, anybody, sensor):
        for api in (anybody, sensor.api):
            assert api.post("/auth/logout-all").status == 401
