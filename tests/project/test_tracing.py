"""Spans of a submission, as a collector receives them over OTLP/HTTP."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from iotflow.lib import tracing
from iotflow.lib.breaker import Breaker
from iotflow.lib.errors import StoreAway
from tests.environment import CHOICES, ROOT, STORES
from tests.server import real_environment, running
from tests.services import eventually

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Takes what is exported to /v1/traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Span] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def within(self, parent: Span) -> set[str]:
        """The names of the spans directly within another."""
        return {span.name for span in self.spans if span.parent_span_id == parent.span_id}


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def traced(collector, tmp_path) -> Iterator[str]:
    """The API of a server that exports to the collector: on the real stores, or on its own."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "127.0.0.1",
    }
    if STORES == "embedded":
        kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
        environment = {**kept, "VAR_DIR": str(tmp_path)}
        setup = [sys.executable, "manage.py", "setup_stores"]
        subprocess.run(
            setup, cwd=ROOT, env=environment, check=True, timeout=60, capture_output=True
        )
    else:
        environment = real_environment()
    with running(tmp_path / "server.log", {**environment, **variables}) as url:
        yield f"{url}/api/v1"


def attributes(span: Span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def a_device(api: httpx.Client) -> dict[str, str]:
    """The header of a device's key."""
    who = {"username": "ann", "email": "ann@example.org", "password": "correct horse 42"}
    assert api.post("/auth/register", json=who).status_code == 201
    token = api.post("/auth/login", json=who).json()["token"]
    mine = {"Authorization": f"Bearer {token}"}
    answer = api.post("/devices/register", json={"name": "boiler"}, headers=mine)
    return {"X-API-Key": answer.json()["device"]["api_key"]}


def test_a_submission_is_a_span_linked_to_its_group_with_a_span_for_each_store(traced, collector):
    with httpx.Client(base_url=traced, timeout=30, trust_env=False) as api:
        key = a_device(api)
        assert api.post("/telemetry", json={"data": {"a": 1}}, headers=key).status_code == 201
        caller = {**key, "traceparent": CALLER, "X-Request-ID": "traced-1"}
        answer = api.post("/telemetry", json={"data": {"a": 1}}, headers=caller)
        assert answer.status_code == 201

    def requests() -> list[Span]:
        found = collector.named("POST api/v1/telemetry")
        return [span for span in found if span.trace_id.hex() == CALLER[3:35]]

    def groups() -> list[Span]:
        wanted = [span.trace_id for span in requests()]
        found = collector.named("group")
        return [span for span in found if any(link.trace_id in wanted for link in span.links)]

    eventually(lambda: bool(requests() and groups()), seconds=60)
    [request] = requests()
    assert request.parent_span_id.hex() == CALLER[36:52]
    assert request.kind == Span.SPAN_KIND_SERVER
    said = attributes(request)
    assert said["http.request.method"] == "POST"
    assert said["http.route"] == "api/v1/telemetry"
    assert said["http.response.status_code"] == 201
    assert said["iotflow.request_id"] == "traced-1"
    assert "wait for the group" in collector.within(request)
    [group] = groups()
    stores = {"redis", "cassandra writes", "mongodb"}
    eventually(lambda: collector.within(group) >= expected(stores), seconds=60)
    assert key["X-API-Key"] not in str(collector.spans)


def expected(stores: set[str]) -> set[str]:
    return stores if STORES != "embedded" else {"redis", "database"}


def test_an_error_of_the_server_is_one_in_the_trace_and_a_refusal_is_none(traced, collector):
    with httpx.Client(base_url=traced, timeout=30, trust_env=False) as api:
        assert api.post("/telemetry", json={}).status_code == 401
    eventually(lambda: bool(collector.named("POST api/v1/telemetry")), seconds=60)
    [request] = collector.named("POST api/v1/telemetry")
    assert request.status.code == Status.STATUS_CODE_UNSET


def test_of_what_fails_the_kind_is_told_and_never_the_text(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    with pytest.raises(StoreAway), Breaker("Some store", OSError).guard():
        raise OSError("alice@example.org")
    [span] = exporter.get_finished_spans()
    assert span.name == "some store"
    assert (span.status.is_ok, span.status.description) == (False, "OSError")
    assert "alice" not in span.to_json()


def test_without_the_variable_nothing_of_it_is_loaded(tmp_path):
    """Redis' driver loads the API by itself where it is installed; no SDK, and no exporter."""
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    code = f"import sys, iotflow.wsgi; print([m for m in sys.modules if m.startswith({ours})])"
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
