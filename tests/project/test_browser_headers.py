"""What answers tell a browser: nothing of another's runs in a page of ours, nor ours in another's.

That the pages work under it is tried in a real one: tests/browser.
"""

import pytest
from django.conf import settings as django_settings
from django.test import Client

from iotflow.browser import ADMIN, DOCS, NOTHING, PLAIN
from tests.project.test_settings import manage

HTML = {"accept": "text/html"}


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/", PLAIN),
        ("/nothing-here", PLAIN),
        ("/api/docs", DOCS),
        ("/admin/login/", ADMIN),
        ("/admin/", ADMIN),
        ("/admin/devices/device/import/", ADMIN),
        ("/admin/devices/device/export/", ADMIN),
        ("/admin/accounts/user/0/overview/", ADMIN),
    ],
)
def test_every_page_has_a_policy_and_is_shown_in_no_frame(staff, path, policy):
    client = Client()
    if path != "/admin/login/":
        client.force_login(staff.user)
    headers = client.get(path, headers=HTML).headers
    assert headers["Content-Type"].startswith("text/html")
    assert headers["Content-Security-Policy"] == policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


@pytest.mark.parametrize("policy", [ADMIN, DOCS, PLAIN, NOTHING])
def test_no_policy_lets_anything_in_from_elsewhere(policy):
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for name in ("default-src", "base-uri", "frame-ancestors"):
        assert directives[name] == "'none'", name
    assert set(directives["form-action"].split()) <= {"'none'", "'self'"}
    assert "'unsafe-inline'" not in directives.get("script-src", "")
    sources = {source for text in directives.values() for source in text.split()}
    keywords = {source for source in sources if source.startswith("'")}
    assert sources - keywords <= {"data:"}


def test_what_is_no_page_may_do_nothing(alice, sensor):
    answers = [
        sensor.api.post("/telemetry", {"data": {"a": 1}}),
        sensor.api.post("/telemetry", {"data": {"a": 1}}),  # by the short way
        sensor.api.get(f"/telemetry/{sensor.id}/latest"),
        alice.api.get("/devices"),
        alice.api.get("/nothing"),
        alice.api.get("/health"),
    ]
    for answer in answers:
        assert answer.headers["Content-Security-Policy"] == NOTHING
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    script = Client().get("/static/iotflow/admin/forms.js")
    assert script.headers["Content-Security-Policy"] == NOTHING


def test_no_template_of_ours_holds_a_script_a_style_or_a_handler():
    for template in django_settings.BASE_DIR.glob("*/templates/**/*.html"):
        text = template.read_text()
        for word in ("<style", "style=", "javascript:", " onclick=", " onsubmit=", " onfocus="):
            assert word not in text, f"{template.name}: {word}"
        assert text.count("<script") == text.count("<script src="), template.name


def test_cookies_belong_to_this_host_and_to_https(tmp_path):
    names = [
        "SESSION_COOKIE_NAME",
        "CSRF_COOKIE_NAME",
        *(
            f"{kind}_COOKIE_{what}"
            for kind in ("SESSION", "CSRF")
            for what in ("SECURE", "HTTPONLY", "SAMESITE")
        ),
        "SECURE_HSTS_SECONDS",
        "SECURE_SSL_REDIRECT",
    ]
    ask = f"from django.conf import settings; print([getattr(settings, n) for n in {names}])"
    said = manage(tmp_path, "shell", "-v", "0", "-c", ask, ALLOW_HTTP="0").stdout
    assert said.strip() == str(
        ["__Host-sessionid", "__Host-csrftoken", *([True, True, "Lax"] * 2), 31_536_000, True]
    )


def test_a_session_of_staff_is_in_a_cookie_that_scripts_do_not_see(staff):
    answer = Client().post("/admin/login/", {"username": "staff", "password": "swordfish 17"})
    for name in (django_settings.SESSION_COOKIE_NAME, django_settings.CSRF_COOKIE_NAME):
        cookie = answer.cookies[name]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
        assert not cookie["domain"]
