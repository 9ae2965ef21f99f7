"""Every error of the API has one shape, whatever raised it."""

import json

import pytest
from django.test import Client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/nothing/at/all", 404),
        ("GET", "/api/v1/telemetry/1/", 404),
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


def test_nothing_under_api_is_a_page():
    response = Client().get("/api/v1", headers={"accept": "text/html"})
    assert response.headers["Content-Type"] == "application/json"


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
