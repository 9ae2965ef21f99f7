"""/metrics with real servers: several processes as one, and stores that are away."""

import json
import time
from pathlib import Path

import httpx
import pytest
from django.test import Client

from tests.project.test_metrics import samples, value
from tests.server import real_environment, running
from tests.services import eventually, hung, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
TOKEN = "a token for two processes"


@pytest.fixture
def scraped(settings):
    settings.METRICS_LOOPBACK = True

    def scrape() -> dict[str, dict[frozenset, float]]:
        answer = Client().get("/metrics")
        assert answer.status_code == 200
        return samples(answer.content.decode())

    return scrape


def test_two_processes_are_scraped_as_one(sensor, tmp_path):
    environment = real_environment(VAR_DIR=str(tmp_path), METRICS_TOKEN=TOKEN)
    with running(tmp_path / "server.log", environment, workers=2) as url:
        sent = 0

        def submit() -> None:
            nonlocal sent
            for _ in range(20):  # each on a connection of its own, which either may take
                answer = httpx.post(
                    f"{url}/api/v1/telemetry",
                    headers={"X-API-Key": sensor.key},
                    json={"data": {"a": sent}},
                    timeout=30,
                    trust_env=False,
                )
                assert answer.status_code in (201, 429)
                sent += answer.status_code == 201

        def both_have_written() -> bool:
            submit()
            return len([one for one in written(tmp_path).values() if one]) == 2

        def scrape() -> dict[str, dict[frozenset, float]]:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            answer = httpx.get(f"{url}/metrics", headers=headers, timeout=30, trust_env=False)
            assert answer.status_code == 200
            return samples(answer.text)

        eventually(both_have_written, seconds=120)
        eventually(lambda: value(scrape(), "iotflow_messages_total") == sent, seconds=60)
        found = scrape()
        route = {"method": "POST", "route": "api/v1/telemetry", "status": "2xx"}
        assert value(found, "iotflow_request_seconds_count", **route) == sent
        assert value(found, "iotflow_group_submissions_sum") == sent
        assert value(found, "iotflow_events_total", kind="telemetry.submitted") == sent
        assert value(found, "iotflow_breaker_open", store="cassandra", calls="writes") == 0
        for store, calls in (("redis", "all"), ("mongodb", "all"), ("cassandra", "writes")):
            labels = {"store": store, "calls": calls}
            assert value(found, "iotflow_store_call_seconds_count", **labels) > 0, labels
        assert value(found, "iotflow_store_call_seconds_count", store="database", calls="all") > 0
        pids = {dict(labels)["pid"] for labels in found["process_resident_memory_bytes"]}
        assert pids == set(written(tmp_path))


def written(var_dir: Path) -> dict[str, float]:
    """How many messages each process has said to have written, by its pid."""
    found = {}
    for file in var_dir.glob("metrics/*/*.json"):
        rows = json.loads(file.read_text())["iotflow_messages_total"]
        found[file.stem] = rows[0][1][0]
    return found


def test_a_dead_redis_shows_and_what_only_it_knows_is_left_out(scraped, sensor):
    def redis(found, name: str) -> float:
        return value(found, name, store="redis", calls="all")

    before = scraped()
    with killed("redis"):
        for _ in range(3):
            assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 201
        found = scraped()
        assert redis(found, "iotflow_breaker_open") == 1
        failures = "iotflow_store_failures_total"
        assert redis(found, failures) > redis(before, failures)
        assert "iotflow_job_success_timestamp_seconds" not in found
        assert value(found, "iotflow_devices", status="active") == 1

    def is_back() -> bool:
        sensor.api.get("/devices/status")
        return redis(scraped(), "iotflow_breaker_open") == 0

    eventually(is_back)


def test_a_database_that_hangs_holds_up_no_scrape(scraped, sensor):
    assert "iotflow_outbox_events" in scraped()
    with hung("postgres"):
        began = time.monotonic()
        found = scraped()
        assert time.monotonic() - began < 30
        assert "iotflow_outbox_events" not in found
        assert "iotflow_queue_submissions" in found
    eventually(lambda: "iotflow_outbox_events" in scraped(), seconds=60)


def test_a_cassandra_that_hangs_shows_and_refused_submissions_are_counted(scraped, sensor):
    def unstored(found) -> float:
        reasons = ("store_away", "timed_out")
        name = "iotflow_submissions_unstored_total"
        return sum(value(found, name, reason=reason) for reason in reasons)

    before = scraped()
    with hung("cassandra"):
        for _ in range(4):
            assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 503
        found = scraped()
    assert unstored(found) == unstored(before) + 4
    name, reason = "iotflow_requests_rejected_total", "store_unavailable"
    assert value(found, name, reason=reason) == value(before, name, reason=reason) + 4

    def is_stored() -> bool:
        return sensor.api.post("/telemetry", {"data": {"a": 2}}).status == 201

    eventually(is_stored, seconds=60)
