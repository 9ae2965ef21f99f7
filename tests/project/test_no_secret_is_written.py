"""A server that logs all it can does a full tour; then no secret of it is in anything it wrote."""

import os
import re
import secrets
import sqlite3
import subprocess
import sys
from base64 import b32decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from django_otp.oath import totp

from tests.environment import CHOICES, ROOT
from tests.server import running
from tests.services import eventually

FORM_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
DEVICE_KEY = re.compile(r"iotd_[\w-]{43}")
COOKIES = ("sessionid", "csrftoken")


def password() -> str:
    return f"pass {secrets.token_hex(8)}"


@dataclass
class Tour:
    """What was done with the server, and every secret that was seen or sent, by what it is."""

    url: str
    admin_password: str
    secrets: dict[str, str] = field(default_factory=dict)
    # What has to be kept as it is, in its own table, and nowhere else.
    kept: dict[str, str] = field(default_factory=dict)

    def secret(self, what: str, value: str) -> str:
        self.secrets[f"{what} {len(self.secrets)}"] = value
        return value

    def api(self, method: str, path: str, token: str = "", key: str = "", **more) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"X-API-Key": key} if key else {}
        return httpx.request(
            method, f"{self.url}/api/v1{path}", headers=headers, timeout=30, trust_env=False, **more
        )

    def users(self) -> str:
        """Registering, logging in and failing to, changing the password; a token that is good."""
        first, then = (self.secret("password", password()) for _ in range(2))
        who = {"username": "ada", "email": "ada@example.org"}
        assert self.api("POST", "/auth/register", json={**who, "password": first}).is_success
        self.api("POST", "/auth/register", json={**who, "password": first})
        answer = self.api("POST", "/auth/login", json={**who, "password": first}).json()
        token = self.secret("token", answer["token"])
        for name in ("ada", self.secret("password as a name", password())):
            wrong = {"username": name, "password": self.secret("wrong password", password())}
            assert self.api("POST", "/auth/login", json=wrong).status_code == 401
        path = f"/users/{answer['user']['user_id']}"
        assert self.api("PUT", path, token, json={"password": then}).is_success
        login = self.api("POST", "/auth/login", json={"username": "ada", "password": then})
        other = self.secret("token", login.json()["token"])
        assert self.api("POST", "/auth/logout", other).is_success
        for bad in (other, self.secret("bad token", f"iotu_{secrets.token_hex(32)}")):
            assert self.api("GET", "/devices", bad).status_code == 401
        return token

    def devices(self, token: str) -> int:
        """Keys made, rotated, revoked and wrong; readings, configurations, and errors."""
        made = self.api("POST", "/devices/register", token, json={"name": "Boiler"}).json()
        device, key = made["device"]["id"], self.secret("key", made["device"]["api_key"])
        self.api("POST", "/telemetry", key=key, json={"data": {"a": 1}})
        another = self.api("POST", f"/devices/{device}/keys", token, json={"label": "spare"})
        spare = self.secret("key", DEVICE_KEY.search(another.text)[0])
        rotated = self.api("POST", f"/devices/{device}/rotate-key", token, json={})
        now = self.secret("key", DEVICE_KEY.search(rotated.text)[0])
        bad = self.secret("bad key", f"iotd_{secrets.token_urlsafe(32)}")
        for one, status in ((now, 201), (now, 201), (spare, 401), (key, 401), (bad, 401)):
            answer = self.api("POST", "/telemetry", key=one, json={"data": {"a": 2}})
            assert answer.status_code == status
        self.kept["configuration"] = secrets.token_hex(16)
        config = {"config": {"wifi": {"password": self.kept["configuration"]}}}
        assert self.api("PUT", f"/devices/{device}/config", token, json=config).is_success
        assert self.api("GET", "/devices/config", key=now).is_success
        for method, path, more in (
            ("POST", "/telemetry", {"content": b"{broken"}),
            ("POST", "/telemetry", {"content": b"x" * 2_000_000}),
            ("POST", "/telemetry/batch", {"json": {"readings": "none"}}),
            ("DELETE", "/telemetry", {}),
            ("GET", "/nothing%00", {}),
        ):
            assert self.api(method, path, key=now, **more).status_code >= 400
        return device

    def webhook(self, token: str) -> None:
        """A channel whose URL is a secret too: made, with a new secret, and tried."""
        self.kept["URL of a webhook"] = secrets.token_hex(16)
        fields = {"name": "ops", "kind": "webhook"}
        fields["address"] = f"https://hooks.invalid/{self.kept['URL of a webhook']}"
        made = self.api("POST", "/notification-channels", token, json=fields).json()
        path = f"/notification-channels/{made['channel']['id']}"
        rotated = self.api("POST", f"{path}/rotate-secret", token, json={}).json()
        for one in (made, rotated):
            self.secret("secret of a webhook", one["secret"].removeprefix("whsec_"))
        assert self.api("POST", f"{path}/test", token).status_code == 202
        eventually(lambda: '"attempts":1' in self.api("GET", f"{path}/deliveries", token).text)

    def site(self, device: int) -> None:
        """Logging in by the form, pages and lists, a key, users and a second factor."""
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as browser:
            self.page(browser, "/admin/login/")
            wrong = self.secret("wrong password", password())
            for one in (wrong, self.admin_password):
                self.send(browser, "/admin/login/", username="admin", password=one)
            self.page(browser, "/admin/")
            for path in (
                "devices/device/",
                f"devices/device/{device}/keys/",
                f"devices/device/{device}/configuration/",
                "devices/device/?owner__regex=(",
                "events/eventlog/",
                "accounts/user/",
                "search/?s=boiler",
                "nothing/",
            ):
                self.page(browser, f"/admin/{path}")
            path = f"/admin/devices/device/{device}/rotate_key/"
            self.secret("key", DEVICE_KEY.search(self.send(browser, path).text)[0])
            path = f"/admin/devices/device/{device}/keys/"
            self.secret("key", DEVICE_KEY.search(self.send(browser, path, label="new").text)[0])
            one = self.secret("password", password())
            path = "/admin/accounts/user/add/"
            who = {"username": "bob", "email": "bob@example.org", "usable_password": "true"}
            made = self.send(browser, path, **who, password1=one, password2=one)
            assert made.status_code == 302, made.text
            browser.post("/admin/accounts/user/add/", data={"csrfmiddlewaretoken": "x" * 64})
            self.second_factor(browser)
            self.send(browser, "/admin/logout/", "/admin/")

    def second_factor(self, browser: httpx.Client) -> None:
        path = "/admin/second-factor/"
        shown = re.search(r'id="key" [^>]*value="(\w+)"', self.page(browser, path).text)[1]
        self.kept |= {"TOTP key": shown, "TOTP key, as kept": b32decode(shown).hex()}
        self.send(browser, path, code="wrong")
        done = self.send(browser, path, code=f"{totp(b32decode(shown)):06d}")
        codes = re.findall(r"<code>(\w{4}-\w{4}-\w{4})</code>", done.text)
        assert len(codes) == 10
        for code in codes:
            self.secret("recovery code", code)
            self.secret("recovery code", code.replace("-", ""))
        assert self.send(browser, path, code=codes[0]).status_code == 200

    def page(self, browser: httpx.Client, path: str) -> httpx.Response:
        answer = browser.get(path)
        for token in FORM_TOKEN.findall(answer.text):
            self.secret("form token", token)
        for name in COOKIES:
            if name in browser.cookies:
                self.secret(name, browser.cookies[name])
        return answer

    def send(self, browser: httpx.Client, path: str, form: str = "", **fields) -> httpx.Response:
        """Fill in the form of a page, or of another one that has such a form too."""
        token = FORM_TOKEN.search(self.page(browser, form or path).text)[1]
        answer = browser.post(path, data={**fields, "csrfmiddlewaretoken": token})
        for name in COOKIES:
            if name in browser.cookies:
                self.secret(name, browser.cookies[name])
        return answer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loud")


@pytest.fixture(scope="module")
def tour(place: Path) -> Iterator[Tour]:
    made = {name: secrets.token_urlsafe(40) for name in ("SECRET_KEY", "API_KEY_PEPPER")}
    admin = password()
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {**made, "VAR_DIR": str(place / "var"), "DJANGO_SETTINGS_MODULE": "tests.loud"}
    environment |= {"WORKER_THREAD": "1", "DJANGO_SUPERUSER_PASSWORD": admin}
    naming = ("--username", "admin", "--email", "admin@example.org")
    with (place / "commands.log").open("wb") as log:

        def manage(*command: str) -> None:
            subprocess.run(
                [sys.executable, "manage.py", *command],
                cwd=ROOT, env=environment, stdout=log, stderr=log, check=True, timeout=60,
            )  # fmt: skip

        manage("setup_stores")
        manage("createsuperuser", "--noinput", *naming)
        with running(place / "server.log", environment) as url:
            tour = Tour(url, admin, {**made, "password of the admin": admin})
            token = tour.users()
            device = tour.devices(token)
            tour.webhook(token)
            tour.site(device)
        manage("key_peppers")
        manage("reset_totp", "admin")
    return tour


def found(secrets_: dict[str, str], content: bytes) -> list[str]:
    return [what for what, value in secrets_.items() if value.encode() in content]


def test_no_secret_is_in_a_log_that_tells_all(tour, place):
    for log in ("server.log", "commands.log"):
        content = (place / log).read_bytes()
        assert found({**tour.secrets, **tour.kept}, content) == [], log
    said = (place / "server.log").read_bytes()
    assert b"Unauthorized: /api/v1/auth/login" in said, "the log does not tell of all there was"


def test_no_secret_is_in_the_databases(tour, place):
    files = sorted((place / "var").glob("*.sqlite3*"))
    assert {"iotflow.sqlite3", "events.sqlite3"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        assert found(tour.secrets, content) == [], file.name
    everything = b"".join(file.read_bytes() for file in files)
    assert b"ada@example.org" in everything, "the search finds what is there"


def test_no_secret_is_in_an_event(tour, place):
    with sqlite3.connect(place / "var" / "events.sqlite3") as database:
        rows = database.execute("SELECT * FROM event_logs").fetchall()
    assert len(rows) > 20
    assert found({**tour.secrets, **tour.kept}, str(rows).encode()) == []
