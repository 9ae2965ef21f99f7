"""GET /metrics: who may, what is there, and that nobody can make it grow."""

import json
import os
import re
import threading
import time

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from iotflow import exposition
from iotflow.lib import metrics, siblings
from iotflow.worker import Worker
from telemetry.mqtt import figures
from telemetry.mqtt.figures import Figures
from tests.environment import ROOT
from tests.listening import once
from tests.project.test_worker import run_due

TOKEN = "scrape-scrape-scrape"
BEARER = {"authorization": f"Bearer {TOKEN}"}
FAMILIES = ROOT / "docs" / "operations.md"


@pytest.fixture
def scraped(settings):
    """What /metrics says: `{name: {labels: number}}` of samples, labels as a frozenset of pairs."""
    settings.METRICS_LOOPBACK = True

    def scrape() -> dict[str, dict[frozenset, float]]:
        answer = Client().get("/metrics")
        assert answer.status_code == 200
        return samples(answer.content.decode())

    return scrape


def samples(text: str) -> dict[str, dict[frozenset, float]]:
    found: dict[str, dict[frozenset, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(found, name: str, **labels: str) -> float:
    return found.get(name, {}).get(frozenset(labels.items()), 0)


def documented() -> set[str]:
    """The families in the table of docs/operations.md."""
    rows = FAMILIES.read_text().split("### Families\n")[1].split("\n#")[0].splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


# --- Who may ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("token", "loopback", "address", "headers", "status"),
    [
        ("", False, "127.0.0.1", {}, 404),
        ("", False, "127.0.0.1", BEARER, 404),
        ("", False, "127.0.0.1", {"authorization": "Bearer "}, 404),
        (TOKEN, False, "203.0.113.9", BEARER, 200),
        (TOKEN, False, "203.0.113.9", {}, 401),
        (TOKEN, False, "127.0.0.1", {}, 401),
        (TOKEN, False, "203.0.113.9", {"authorization": f"Bearer {TOKEN}x"}, 401),
        (TOKEN, False, "203.0.113.9", {"authorization": "Bearer \u00e9"}, 401),
        (TOKEN, False, "203.0.113.9", {"authorization": TOKEN}, 401),
        ("", True, "127.0.0.1", {}, 200),
        ("", True, "::1", {}, 200),
        ("", True, "203.0.113.9", {}, 404),
        ("", True, "nonsense", {}, 404),
        ("", True, "127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, 404),
        ("", True, "127.0.0.1", {"forwarded": "for=203.0.113.9"}, 404),
        (TOKEN, True, "127.0.0.1", {}, 200),
        (TOKEN, True, "203.0.113.9", BEARER, 200),
        (TOKEN, True, "203.0.113.9", {}, 401),
    ],
)
def test_who_may_scrape(settings, token, loopback, address, headers, status):
    settings.METRICS_TOKEN, settings.METRICS_LOOPBACK = token, loopback
    answer = Client(REMOTE_ADDR=address).get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer["Content-Type"].startswith("text/plain")
    else:
        assert set(answer.json()) == {"error", "message"}
        assert ("WWW-Authenticate" in answer) == (status == 401)


def test_a_user_a_device_or_staff_may_not_for_being_that(settings, staff, alice, sensor):
    settings.METRICS_TOKEN = TOKEN
    for somebody in (staff, alice, sensor):
        assert somebody.api.get("/metrics").status == 401


def test_it_is_read_and_not_redirected_to_https(settings):
    settings.METRICS_LOOPBACK, settings.SECURE_SSL_REDIRECT = True, True
    assert Client().get("/metrics").status_code == 200
    answer = Client().post("/metrics")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


# --- What is there ------------------------------------------------------------------------------
BRIDGE = {  # what only a bridge counts
    *("iotflow_mqtt_connected", "iotflow_mqtt_dropped_total", "iotflow_mqtt_held_messages"),
    *("iotflow_mqtt_messages_total", "iotflow_mqtt_noted_timestamp_seconds"),
    "iotflow_mqtt_retries_total",
}
FAULTS = {  # which nothing but a fault, or the end of a live stream, makes more of
    "iotflow_breaker_refusals_total",
    "iotflow_rewritten_batches_total",
    "iotflow_store_failures_total",
    "iotflow_stream_breaks_total",
    "iotflow_stream_ends_total",
    "iotflow_submissions_unstored_total",
}
TYPE = re.compile(r"^# TYPE (\w+) ", re.MULTILINE)


def test_every_documented_family_is_there_after_traffic_and_no_other(
    scraped, alice, sensor, anybody, settings
):
    settings.RATE_ANONYMOUS = "2/min"
    for _ in range(4):
        anybody.get("/devices")
    rule = {"name": "r", "device_id": sensor.id, "measurement": "a", "kind": "above"}
    assert alice.api.post("/alert-rules", {**rule, "threshold": 0}).status == 201
    assert sensor.api.post("/telemetry", {"data": {"a": 1, "b": 2}}).status == 201
    batch = {"readings": [{"data": {"a": n}, "timestamp": f"-{n}s"} for n in range(1, 4)]}
    assert sensor.api.post("/telemetry/batch", batch).status == 201
    assert alice.api.get(f"/telemetry/{sensor.id}/latest").status == 200
    once(f"/telemetry/{sensor.id}/stream", alice.api, "0")
    run_due(Worker(), time.monotonic())
    text = Client().get("/metrics").content.decode()
    assert set(TYPE.findall(text)) == documented()
    found = {re.sub("_(bucket|count|sum)$", "", name) for name in scraped()}
    assert documented() - found <= FAULTS | BRIDGE


def test_what_a_bridge_notes_is_told(scraped):
    figures.note(
        "bridge", Figures(is_connected=True, held=3, settled={"stored": 7}, retries=1, dropped=2)
    )
    found = scraped()
    assert value(found, "iotflow_mqtt_messages_total", bridge="bridge", outcome="stored") == 7
    for name, number in (
        ("connected", 1),
        ("held_messages", 3),
        ("retries_total", 1),
        ("dropped_total", 2),
    ):
        assert value(found, f"iotflow_mqtt_{name}", bridge="bridge") == number
    assert time.time() - value(found, "iotflow_mqtt_noted_timestamp_seconds", bridge="bridge") < 60


def test_a_submission_a_batch_and_a_refusal_are_counted_once(scraped, sensor, anybody):
    before = scraped()

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert sensor.api.post("/telemetry", {"data": {"a": 1, "b": 2}}).status == 201
    batch = {"readings": [{"data": {"a": n}, "timestamp": f"-{n}s"} for n in range(1, 4)]}
    assert sensor.api.post("/telemetry/batch", batch).status == 201
    assert anybody.post("/telemetry", {"data": {"a": 1}}).status == 401
    after = scraped()
    assert more("iotflow_messages_total") == 2
    assert more("iotflow_readings_total") == 4
    assert more("iotflow_values_total") == 5
    assert more("iotflow_events_total", kind="telemetry.submitted") == 2
    assert more("iotflow_batch_readings_count") == 1
    assert more("iotflow_batch_readings_sum") == 3
    assert more("iotflow_group_submissions_sum") == 1
    assert more("iotflow_group_seconds_count") == 1
    assert more("iotflow_requests_rejected_total", reason="not_authenticated") == 1
    for path, answer, times in (("", "2xx", 1), ("", "4xx", 1), ("/batch", "2xx", 1)):
        route = {"method": "POST", "route": f"api/v1/telemetry{path}", "status": answer}
        assert more("iotflow_request_seconds_count", **route) == times, route
        assert more("iotflow_request_seconds_bucket", le="+Inf", **route) == times
    assert more("iotflow_store_call_seconds_count", store="redis", calls="all") >= 2


def test_known_keys_are_counted_by_the_same_route_on_the_short_way(scraped, sensor):
    for _ in range(3):
        assert sensor.api.get(f"/telemetry/{sensor.id}/latest").status == 200
    route = "api/v1/telemetry/<id:device_id>/latest"
    found = scraped()
    assert (
        value(found, "iotflow_request_seconds_count", method="GET", route=route, status="2xx") >= 3
    )


def test_what_the_devices_the_outbox_and_the_worker_say(scraped, sensor, make_device, alice):
    make_device(alice, status="inactive")
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    began = time.time()
    run_due(Worker(), time.monotonic())
    found = scraped()
    assert value(found, "iotflow_devices", status="active") == 1
    assert value(found, "iotflow_devices", status="inactive") == 1
    assert value(found, "iotflow_devices_online") == 1
    assert value(found, "iotflow_outbox_events") == 0
    assert "iotflow_outbox_age_seconds" in found
    for job in Worker()._jobs:
        at = value(found, "iotflow_job_success_timestamp_seconds", job=job.name)
        assert began - 1 <= at <= time.time(), job.name
    assert value(found, "process_resident_memory_bytes", pid=str(os.getpid())) > 10_000_000
    [[version, one]] = found["iotflow_build_info"].items()
    assert {"version", "python", "telemetry"} == {name for name, _ in version}
    assert one == 1


def test_a_job_that_fails_has_not_succeeded(scraped):
    worker = Worker()

    def fails() -> None:
        raise RuntimeError

    worker._jobs[0].run = fails
    run_due(worker, time.monotonic())
    jobs = {dict(labels)["job"] for labels in scraped()["iotflow_job_success_timestamp_seconds"]}
    assert jobs == {job.name for job in worker._jobs[1:]}


def test_a_question_without_an_answer_is_left_out_and_holds_up_nothing(scraped, monkeypatch):
    """It is not asked again while it is open: scrapes do not pile up behind it."""
    answered, asked = threading.Event(), []

    def silent():
        asked.append(1)
        answered.wait(60)
        return ()

    monkeypatch.setattr(exposition, "QUESTIONS", (silent, exposition._outbox))
    try:
        for _ in range(3):
            found = scraped()
            assert "iotflow_outbox_events" in found
            assert "iotflow_devices_online" not in found
        assert asked == [1]
    finally:
        answered.set()


# --- What it may cost ---------------------------------------------------------------------------
def test_hostile_paths_and_methods_make_no_families_and_hardly_a_series(scraped, anybody, settings):
    settings.RATE_ANONYMOUS = ""
    for path in ("", "/api/v1", "/admin"):
        Client().get(f"{path}/nowhere")
    Client().generic("WHATEVER", "/nowhere")
    before = scraped()
    client = Client(raise_request_exception=False)
    for n in range(100):
        client.get(f"/nowhere/{n}/%F0%9F%90%99")
        client.get(f"/api/v1/telemetry/{n}")
        client.get(f"/api/v1/nowhere/{n}?x={n}")
        client.get(f"/admin/nowhere/{n}")
        client.get(f"/static/{n}.js")
        client.generic(f"M{n}", f"/nowhere/{n}")
    after = scraped()
    assert set(after) - set(before) == set()
    series = {name: len(after[name]) - len(before[name]) for name in after}
    assert series["iotflow_request_seconds_count"] <= 4
    assert "nowhere" not in str(after)
    methods = {dict(labels)["method"] for labels in after["iotflow_request_seconds_count"]}
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"}


def test_threads_that_count_at_once_lose_nothing():
    counter = metrics.Counter("iotflow_test_total", "A test's.", ("who",))
    histogram = metrics.Histogram("iotflow_test_seconds", "A test's.", ("who",))
    try:

        def work() -> None:
            for n in range(20_000):
                counter.add("a")
                histogram.observe(n % 7, "a")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.cells()["a",] == [160_000]
        assert sum(histogram.cells()["a",][:-1]) == 160_000
    finally:
        del metrics.families["iotflow_test_total"], metrics.families["iotflow_test_seconds"]


# --- Other processes of the server --------------------------------------------------------------
@pytest.fixture
def sibling(monkeypatch, tmp_path):
    """Writes what another process would have saved."""
    monkeypatch.setattr(siblings, "_directory", lambda: tmp_path)

    def save(pid: int, families: dict, age: float = 0) -> None:
        file = tmp_path / f"{pid}.json"
        file.write_text(json.dumps(families))
        os.utime(file, (time.time() - age,) * 2)

    return save


def test_processes_are_added_up_and_an_ended_one_keeps_its_counts_but_no_state(scraped, sibling):
    alone = scraped()
    buckets = [0.0] * len(metrics.SECONDS)
    row = [["GET", "a", "2xx"], [*buckets, 1, 20.0]]
    said = {
        "iotflow_messages_total": [[[], [10]]],
        "iotflow_request_seconds": [row],
        "iotflow_queue_submissions": [[[], [7]]],
        "iotflow_breaker_open": [[["redis", "all"], [1]]],
    }
    sibling(4_000_001, said)
    sibling(4_000_002, said, age=siblings.LIVE_SECONDS + 60)
    found = scraped()
    before = value(alone, "iotflow_messages_total")
    assert value(found, "iotflow_messages_total") == before + 20
    labels = {"method": "GET", "route": "a", "status": "2xx"}
    assert value(found, "iotflow_request_seconds_sum", **labels) == 40
    assert value(found, "iotflow_request_seconds_bucket", le="10.0", **labels) == 0
    assert value(found, "iotflow_request_seconds_bucket", le="+Inf", **labels) == 2
    assert value(found, "iotflow_queue_submissions") == 7
    assert value(found, "iotflow_breaker_open", store="redis", calls="all") == 1


def test_what_is_saved_is_what_another_process_reads(scraped, sibling, sensor, tmp_path):
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    siblings.save()
    [own] = tmp_path.glob("*.json")
    before = value(scraped(), "iotflow_messages_total")
    own.rename(tmp_path / "4000001.json")
    assert value(scraped(), "iotflow_messages_total") == 2 * before


def test_what_servers_left_long_ago_is_removed_and_nothing_else(monkeypatch, tmp_path):
    own = tmp_path / "own"
    monkeypatch.setattr(siblings, "_directory", lambda: own)
    for name, age in (("left", siblings.LEFT_SECONDS + 60), ("running", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.json").write_text("{}")
        for path in (tmp_path / name / "1.json", tmp_path / name):
            os.utime(path, (time.time() - age,) * 2)
    siblings._remove_left()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["running"]
