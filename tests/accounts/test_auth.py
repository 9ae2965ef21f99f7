"""Registering, logging in, logging out."""

import pytest

from accounts.models import Token, User
from events.models import EventLog

PASSWORD = "swordfish 17"


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


def test_a_password_typed_as_username_is_not_in_the_event(anybody):
    anybody.post("/auth/login", {"username": "my secret", "password": "x"})
    [event] = EventLog.objects.all()
    assert event.payload == {"login": "unknown"}


def test_a_deactivated_user_cannot_log_in_nor_use_a_token(anybody, alice):
    from accounts.services import set_active

    set_active(users=[alice.user], active=False, actor=None)
    answer = anybody.post("/auth/login", {"username": "alice", "password": PASSWORD})
    assert answer.status == 401
    assert alice.api.get("/groups").status == 401


def test_logging_out_ends_this_token_and_no_other(anybody, alice):
    other = Token.objects.create(alice.user)[1]
    assert alice.api.post("/auth/logout").status == 200
    assert alice.api.get("/groups").status == 401
    from tests.api import Api

    assert Api(token=other).get("/groups").status == 200
    assert "user.logout" in kinds()


@pytest.mark.parametrize("token", ["", "x", "iotu_" + "0" * 64, "a b", "\xff" * 20])
def test_a_bad_token_is_401(token):
    from tests.api import Api

    answer = Api(token=token or " ").get("/groups")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_is_401(alice):
    from django.utils import timezone

    Token.objects.update(expiry=timezone.now())
    assert alice.api.get("/groups").status == 401


def test_using_a_token_renews_it_but_writes_at_most_once_an_hour(alice, django_assert_num_queries):
    from datetime import timedelta

    from django.utils import timezone

    Token.objects.update(expiry=timezone.now() + timedelta(days=5))
    alice.api.get("/groups")
    assert Token.objects.get().expiry > timezone.now() + timedelta(days=29)
    # The token with its user; the number of groups; the groups.
    with django_assert_num_queries(3):
        alice.api.get("/groups")
