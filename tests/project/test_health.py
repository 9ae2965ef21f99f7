import os
import subprocess
import sys

import httpx
import pytest
from django.test import Client

from iotflow import __version__
from iotflow.readiness import Readiness
from telemetry import ingest
from tests.environment import CHOICES, ROOT, STORES
from tests.server import running
from tests.services import eventually


def test_liveness_asks_no_store(anybody, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = anybody.get("/health")
    assert answer.status == 200
    assert answer.json["status"] == "healthy"
    assert answer.json["version"] == __version__


def test_details_for_the_public_are_up_or_down_and_no_more(anybody):
    for path in ("/health", "/api/v1/health"):
        answer = anybody.get(path, detailed="true")
        assert answer.status == 200
        assert answer.json["status"] == "healthy"
        assert answer.json["stores"] == {
            name: {"status": "up"} for name in ("database", "telemetry", "cache", "events")
        }


def test_staff_see_versions_and_latencies(staff):
    answer = staff.api.get("/health", detailed="true")
    versions = {name: store["version"] for name, store in answer.json["stores"].items()}
    expected = (
        ("PostgreSQL", "Apache Cassandra", "Redis", ("MongoDB", "SecantusDB"))
        if STORES == "real"
        else ("SQLite", "SQLite", "fakeredis", "SQLite")
    )
    for version, name in zip(versions.values(), expected, strict=True):
        assert version.startswith(name)
    assert all(store["latency_ms"] >= 0 for store in answer.json["stores"].values())
    assert answer.json["outbox_seconds"] == 0


def test_a_bad_proof_is_nobodys_and_no_error():
    from tests.api import Api

    answer = Api(token="nonsense").get("/health", detailed="true")
    assert answer.status == 200
    assert answer.json["stores"]["database"] == {"status": "up"}


def test_a_dead_committer_is_not_healthy(anybody, monkeypatch):
    from iotflow import health
    from telemetry import ingest

    dead = ingest.Committer()
    dead.stop()
    monkeypatch.setattr(ingest, "_committer", dead)
    monkeypatch.setattr(health, "_remembered", None)
    answer = anybody.get("/health", detailed="true")
    assert answer.status == 503
    assert answer.json["status"] == "unhealthy"
    monkeypatch.setattr(health, "_remembered", None)


def test_a_probe_of_life_asks_no_store(anybody, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = anybody.get("/health/live")
    assert answer.status == 200
    assert answer.json == {"status": "alive", "version": __version__}


def test_a_process_with_its_stores_and_tables_is_ready(anybody):
    answer = anybody.get("/health/ready")
    assert answer.status == 200
    assert answer.json == {"status": "ready", "version": __version__}


class Committer:
    is_alive = is_ending = False


@pytest.mark.parametrize(
    ("is_ending", "reason"),
    [(True, "The server is ending."), (False, "Nothing commits readings any more.")],
)
def test_a_process_that_ends_or_commits_nothing_is_not_ready(
    anybody, monkeypatch, is_ending, reason
):
    committer = Committer()
    committer.is_ending = is_ending
    monkeypatch.setattr(ingest, "_committer", committer)
    answer = anybody.get("/health/ready")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {"error": "store_unavailable", "message": reason}
    assert anybody.get("/health/live").status == 200


def test_a_store_that_goes_away_later_leaves_a_process_ready(monkeypatch):
    from iotflow import health

    readiness = Readiness()
    assert readiness.warm_up()
    monkeypatch.setattr(health, "stores", dict)
    assert readiness.reason() == ""
    assert Readiness().reason() == "The telemetry store does not answer yet, or has no tables."


def embedded(var_dir, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return {**kept, "VAR_DIR": str(var_dir), **more}


def probe(url: str, what: str) -> httpx.Response:
    return httpx.get(f"{url}/health/{what}", trust_env=False, timeout=30)


@pytest.mark.timeout(400)
def test_a_server_lives_at_once_and_is_ready_when_its_tables_are_there(tmp_path):
    environment = embedded(tmp_path, ALLOW_HTTP="0")
    with running(tmp_path / "server.log", environment) as url:
        assert probe(url, "live").status_code == 200
        cold = probe(url, "ready")
        assert cold.status_code == 503
        assert cold.json()["message"] == "The database lacks migrations: setup_stores applies them."
        subprocess.run(
            [sys.executable, "manage.py", "setup_stores"],
            cwd=ROOT,
            env=environment,
            check=True,
            timeout=100,
        )
        eventually(lambda: probe(url, "ready").status_code == 200, 60)
        # Nothing else is answered without HTTPS.
        assert httpx.get(f"{url}/status", trust_env=False).status_code == 301


@pytest.mark.timeout(400)
def test_a_server_whose_telemetry_store_is_away_lives_and_is_not_ready(tmp_path):
    nowhere = embedded(tmp_path, CASSANDRA_HOSTS="127.0.0.1", CASSANDRA_PORT="9")
    with running(tmp_path / "server.log", nowhere, "/health/live") as url:
        answer = probe(url, "ready")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["message"] in (
        "The stores are being connected to.",
        "The telemetry store does not answer yet, or has no tables.",
    )


def test_the_systems_status(anybody):
    answer = anybody.get("/status")
    assert answer.status == 200
    assert set(answer.json["stores"].values()) == {"up"}


def test_the_front_page_is_html_for_a_browser_and_json_for_a_client():
    html = Client().get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert "<h1>IoTFlow</h1>" in html.content.decode()
    for accept in ("application/json", "*/*", ""):
        answer = Client().get("/", headers={"accept": accept}).json()
        assert set(answer) == {"name", "version", "endpoints", "docs"}


def test_the_schema_is_openapi_and_its_page_needs_no_other_host(anybody):
    import re

    schema = Client().get("/api/schema", headers={"accept": "application/json"}).json()
    assert schema["openapi"].startswith("3.1")
    assert "/api/v1/telemetry/{device_id}/latest" in schema["paths"]
    assert set(schema["components"]["securitySchemes"]) == {
        "deviceKey",
        "userToken",
        "staffSession",
    }
    page = Client().get("/api/docs").content.decode()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
