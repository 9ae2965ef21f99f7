from django.test import Client

from iotflow import __version__
from tests.environment import STORES


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
