"""Every error of the API has one shape, whatever raised it."""

import json

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from iotflow.urls import handler400, handler403, handler404, handler500  # noqa: F401
from iotflow.urls import urlpatterns as real_urlpatterns


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/nothing/at/all", 404),
        ("GET", "/api/v1/telemetry/1/", 404),
        ("GET", f"/api/v1/telemetry/{2**63}", 404),
        ("GET", "/api/v1/devices/register", 401),
        ("DELETE", "/api/v1/auth/login", 405),
        ("PATCH", "/health", 405),
        ("GET", "/health?detailed=perhaps", 400),
        ("POST", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1", 405),
        ("POST", "/", 405),
        ("GET", "/api/v1/devices?search=%00", 400),
        ("POST", "/api/v1/auth/login", 415),
    ],
)
def test_errors_are_json_with_code_and_message(method, path, status):
    response = Client().generic(method, path, b"x", content_type="text/plain")
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    body = json.loads(response.content)
    assert set(body) <= {"error", "message", "details"}
    assert body["error"].islower()
    assert body["message"].endswith(".")


def test_a_large_body_is_413_everywhere():
    client = Client()
    client.cookies["csrftoken"] = "c" * 32
    response = client.post("/admin/login/", {"username": "x" * 2_000_000})
    assert response.status_code == 413


def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a defect")


# The URL conf of the test below: the server's, and a view that fails.
urlpatterns = [path("api/v1/fails", fails), *real_urlpatterns]

EVIL = {"host": "evil.example"}
JSON = {"content-type": "application/json"}


@pytest.mark.urls("tests.project.test_errors")
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/api/v1", b"", {}, 200),
        ("GET", "/api/nothing", b"", {}, 404),
        ("GET", "/api/v1/devices/nonsense/status", b"", {}, 404),
        ("DELETE", "/api/v1/auth/login", b"", {}, 405),
        ("PUT", "/api/v1", b"", {}, 405),
        ("GET", "/api/v1/devices", b"", EVIL, 400),
        ("POST", "/api/v1/auth/login", b"{", JSON, 400),
        ("POST", "/api/v1/auth/login", b"x" * 1_100_000, JSON, 413),
        ("POST", "/api/v1/auth/login", b"x", {"content-type": "text/plain"}, 415),
        ("GET", "/api/v1/fails", b"", {}, 500),
    ],
)
def test_nothing_under_api_is_a_page(debug, method, path, body, headers, status, settings):
    settings.DEBUG = debug
    client = Client(raise_request_exception=False, headers={"accept": "text/html,*/*", **headers})
    kind = headers.get("content-type", "")
    response = client.generic(method, path, body, content_type=kind)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert ("error" in json.loads(response.content)) == (status >= 400)


def test_405_names_what_is_allowed():
    assert Client().delete("/api/v1/auth/login").headers["Allow"] == "POST, OPTIONS"


def test_a_host_that_is_not_ours_is_400():
    response = Client(headers={"host": "evil.example"}).get("/health")
    assert response.status_code == 400
    assert json.loads(response.content)["error"] == "validation_error"


def test_a_staff_session_needs_the_csrf_token(staff, sensor):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff.user)
    path = f"/api/v1/admin/devices/{sensor.id}/status"
    response = client.put(path, {"status": "inactive"}, content_type="application/json")
    assert response.status_code == 403
    assert json.loads(response.content)["error"] == "forbidden"
    assert client.get("/api/v1/devices").status_code == 200


def test_a_session_of_somebody_who_is_not_staff_is_nobody(alice):
    client = Client()
    client.force_login(alice.user)
    assert client.get("/api/v1/devices").status_code == 401


def test_a_page_that_is_not_there_is_a_page():
    response = Client().get("/nothing")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


def test_a_request_is_named_in_its_answer():
    assert Client().get("/health", headers={"x-request-id": "abc-1"})["X-Request-ID"] == "abc-1"
    made_up = Client().get("/health", headers={"x-request-id": "bad id\u00fc"})["X-Request-ID"]
    assert len(made_up) == 32
