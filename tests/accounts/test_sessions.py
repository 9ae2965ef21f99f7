"""Sessions are kept so that the database alone opens none."""

from django.contrib.sessions.models import Session
from django.test import Client

from accounts.sessions import SessionStore, digest


def log_in(client: Client) -> str:
    client.post("/admin/login/", {"username": "staff", "password": "swordfish 17"})
    return client.cookies["sessionid"].value


def test_the_database_holds_no_id_that_opens_a_session(staff):
    client = Client()
    key = log_in(client)
    kept = Session.objects.get().session_key
    assert kept == digest(key)
    client.cookies["sessionid"] = kept
    assert client.get("/admin/").status_code == 302
    client.cookies["sessionid"] = key
    assert client.get("/admin/").status_code == 200


def test_a_session_has_another_id_after_the_log_in(staff):
    client = Client()
    before = SessionStore()
    before["seen"] = True
    before.create()
    client.cookies["sessionid"] = before.session_key
    assert log_in(client) != before.session_key
    assert not SessionStore().exists(before.session_key)


def test_logging_out_ends_it_at_the_server(staff):
    client = Client()
    key = log_in(client)
    client.post("/admin/logout/")
    assert not Session.objects.exists()
    client.cookies["sessionid"] = key
    assert client.get("/admin/").status_code == 302


def test_a_session_lives_on_and_can_be_changed(staff):
    store = SessionStore()
    store["n"] = 1
    store.create()
    again = SessionStore(store.session_key)
    assert again["n"] == 1
    again["n"] = 2
    again.save()
    assert SessionStore(store.session_key)["n"] == 2
    again.cycle_key()
    assert SessionStore(store.session_key).get("n") is None
    assert SessionStore(again.session_key)["n"] == 2
    again.flush()
    assert not Session.objects.exists()
