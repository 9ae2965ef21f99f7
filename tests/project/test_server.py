"""The real server process, over a real socket: what a test client does not go through."""

import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection

import httpx
import pytest

from iotflow.lib.child import LIMITS, answers, free_port, server
from tests.environment import CHOICES, ROOT
from tests.server import running


@pytest.fixture(scope="module")
def key(url: str) -> str:
    api = f"{url}/api/v1"
    who = {"username": "alice", "email": "alice@example.org", "password": "swordfish 17"}
    assert httpx.post(f"{api}/auth/register", json=who).status_code == 201
    token = httpx.post(f"{api}/auth/login", json=who).json()["token"]
    answer = httpx.post(
        f"{api}/devices/register",
        json={"name": "sensor"},
        headers={"Authorization": f"Bearer {token}"},
    )
    return answer.json()["device"]["api_key"]


def submit(url: str, key: str, content, **headers: str) -> httpx.Response:
    headers = {"X-API-Key": key, "Content-Type": "application/json", **headers}
    return httpx.post(f"{url}/api/v1/telemetry", content=content, headers=headers, timeout=30)


def test_ten_megabytes_are_read_and_answered_413(url, key):
    answer = submit(url, key, b"x" * 10_000_000)
    assert answer.status_code == 413
    assert answer.json()["error"] == "body_too_large"


def test_a_chunked_body_is_a_body(url, key):
    answer = submit(url, key, iter([b'{"data":', b' {"a": 1}}']))
    assert answer.status_code == 201


def test_a_chunked_body_that_never_ends_is_413(url, key):
    answer = submit(url, key, iter([b"x" * 65_536] * 40))
    assert answer.status_code == 413


def test_pages_and_their_files_are_served_without_another_host(url):
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        for path in ("/", "/admin/", "/api/docs", "/favicon.ico"):
            assert browser.get(path, headers={"Accept": "text/html"}).status_code == 200
        page = browser.get("/admin/login/").text
        assert "/static/unfold/css/styles.css" in page
        assert browser.get("/static/unfold/css/styles.css").status_code == 200


def test_many_devices_at_once_lose_nothing(url, key):
    """Forty submissions from eight threads: each is answered 201 and each is there."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        bodies = [f'{{"data": {{"n": {n}}}}}' for n in range(40)]
        answers_ = list(threads.map(lambda body: submit(url, key, body), bodies))
    assert {answer.status_code for answer in answers_} == {201}
    device = answers_[0].json()["device_id"]
    history = httpx.get(
        f"{url}/api/v1/telemetry/{device}?limit=1000&fields=n", headers={"X-API-Key": key}
    )
    assert sorted(r["measurements"]["n"] for r in history.json()["data"]) == list(range(40))


def test_it_does_not_serve_on_settings_that_are_wrong(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"VAR_DIR": str(tmp_path), "TRUSTED_PROXIES": "nonsense"}
    child = server(free_port(), tmp_path / "server.log", environment)
    try:
        assert not answers("http://127.0.0.1:1", child, 60)
        assert "TRUSTED_PROXIES has" in child.obituary()
    finally:
        child.stop()


def test_a_connection_survives_an_answer_that_needed_no_body(url):
    """A refusal is made from the headers; what the client sends after them is still taken."""
    address = httpx.URL(url)
    connection = HTTPConnection(address.host, address.port, timeout=10)
    connection.connect()
    connection.auto_open = 0  # a closed one stays closed
    body = b'{"data": {"a": 1}}'
    for _ in range(3):
        connection.putrequest("POST", "/api/v1/telemetry")
        connection.putheader("X-API-Key", "wrong")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        time.sleep(0.2)
        connection.send(body)
        answer = connection.getresponse()
        assert answer.status == 401
        answer.read()
    connection.close()


def test_a_head_that_is_too_large_is_refused(url):
    assert httpx.get(f"{url}/health", headers={"X": "a" * 200_000}).status_code == 431
    many = {f"X-{n}": "a" for n in range(120)}
    assert httpx.get(f"{url}/health", headers=many).status_code == 431


def test_silent_clients_hold_no_thread_and_are_shown_out(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"VAR_DIR": str(tmp_path), "GRANIAN_HTTP1_HEADER_READ_TIMEOUT": "3000"}
    setup = [sys.executable, "manage.py", "setup_stores"]
    subprocess.run(setup, cwd=ROOT, env=environment, check=True, timeout=120)
    with running(tmp_path / "server.log", environment) as url:
        address = httpx.URL(url)
        silent = [socket.create_connection((address.host, address.port), 60) for _ in range(70)]
        for connection in silent[::2]:
            connection.sendall(b"POST /api/v1/telemetry HTTP/1.1\r\nHost: local")
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        for connection in silent:
            assert connection.recv(1) == b"", "it is closed, and nothing was answered"
            connection.close()


def test_the_server_has_the_same_limits_wherever_it_is_started():
    makefile, image = (ROOT / "Makefile").read_text(), (ROOT / "Dockerfile").read_text()
    for name, value in LIMITS.items():
        assert f"export {name} ?= {value}\n" in makefile
        assert f" {name}={value}" in image
