"""What is in the log of a server, and what is not."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from events.context import Origin, _origin
from iotflow.access import Access
from iotflow.logs import Json, Line
from tests.environment import CHOICES, ROOT
from tests.server import running
from tests.services import eventually

PASSWORD = "correct horse 42"


# --- A line -------------------------------------------------------------------------------------
def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("a.logger", logging.WARNING, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def request_id() -> Iterator[str]:
    token = _origin.set(Origin("127.0.0.1", "req-1"))
    yield "req-1"
    _origin.reset(token)


def test_a_json_line_has_what_is_known_and_nothing_that_is_not_meant_for_it(request_id):
    line = Json().format(record("%d readings of %s", 3, "“Boiler”\n", status=201, api_key="iotk_x"))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "logger": "a.logger",
        "message": "3 readings of “Boiler”\n",
        "request_id": request_id,
        "status": 201,
    }


def test_a_line_for_people_is_one_line_and_ends_with_the_request(request_id):
    line = Line().format(record("a\r\nb"))
    assert line.endswith("WARNING a.logger a\\r\\nb [req-1]")


def test_what_no_request_asked_for_has_no_request_id():
    assert Line().format(record("a")).endswith("WARNING a.logger a")
    assert "request_id" not in json.loads(Json().format(record("a")))


@pytest.mark.parametrize("formatter", [Json(), Line()])
def test_an_exception_comes_with_its_traceback(formatter):
    try:
        raise ValueError("no")
    except ValueError:
        made = record("it failed")
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    text = json.loads(line)["exception"] if isinstance(formatter, Json) else line
    assert "Traceback" in text
    assert "ValueError: no" in text


def test_half_a_surrogate_pair_is_no_reason_to_lose_a_line():
    assert json.loads(Json().format(record("\ud800 %s", "b")))["message"] == "? b"


# --- A server's log -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server that logs every request as JSON, and its log."""
    var_dir = tmp_path_factory.mktemp("logged")
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"VAR_DIR": str(var_dir), "LOG_FORMAT": "json", "ACCESS_LOG": "all"}
    environment |= {"LOG_LEVEL": "DEBUG"}
    setup = [sys.executable, "manage.py", "setup_stores"]
    subprocess.run(setup, cwd=ROOT, env=environment, check=True, timeout=60, capture_output=True)
    log = var_dir / "server.log"
    with running(log, environment) as url:
        yield url, log


def lines(log: Path) -> list[dict]:
    """The program's own; the server writes some before."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_requests_are_logged_with_their_ids_and_without_secrets(served):
    url, log = served
    api = httpx.Client(base_url=f"{url}/api/v1", timeout=30, trust_env=False)
    who = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
    assert api.post("/auth/register", json=who).status_code == 201
    token = api.post("/auth/login", json=who).json()["token"]
    mine = {"Authorization": f"Bearer {token}"}
    device = api.post("/devices/register", json={"name": "Boiler"}, headers=mine).json()["device"]
    key = {"X-API-Key": device["api_key"]}
    for _ in range(3):
        submitted = api.post("/telemetry", json={"data": {"a": 1}}, headers=key)
        assert submitted.status_code == 201
    refused = api.get("/devices", params={"token": "tok-in-query"}, headers={"Cookie": "sid=cooky"})
    assert refused.status_code == 401

    def found(answer: httpx.Response) -> list[dict]:
        name = answer.headers["X-Request-ID"]
        return [line for line in lines(log) if line.get("request_id") == name]

    eventually(lambda: bool(found(refused)))
    [line] = [line for line in found(submitted) if line["logger"] == "iotflow.access"]
    assert line["level"] == "INFO"
    assert (line["method"], line["status"]) == ("POST", 201)
    assert line["route"] == line["path"].removeprefix("/") == "api/v1/telemetry"
    assert line["address"] == "127.0.0.1"
    assert line["device_id"] == device["id"]
    assert 0 < line["milliseconds"] < 60_000
    [line] = [line for line in found(refused) if line["logger"] == "iotflow.access"]
    assert (line["path"], line["status"]) == ("/api/v1/devices", 401)
    name = submitted.headers["X-Request-ID"]
    events = api.get("/events", params={"request_id": name}, headers=mine).json()["events"]
    assert [event["kind"] for event in events] == ["telemetry.submitted"]
    text = log.read_text()
    secrets = [PASSWORD, token, device["api_key"], "tok-in-query", "sid=cooky"]
    assert [secret for secret in secrets if secret in text] == []


def test_access_is_logged_as_far_as_asked_for(settings, caplog):
    caplog.set_level(logging.INFO, "iotflow.access")
    logged = {}
    for wanted in ("off", "errors", "all"):
        settings.ACCESS_LOG = wanted
        caplog.clear()
        for status in (200, 404, 503):
            access = Access(lambda request, status=status: HttpResponse(status=status))
            access(RequestFactory().get("/x"))
        logged[wanted] = [one.status for one in caplog.records]
    assert logged == {"off": [], "errors": [503], "all": [200, 404, 503]}
