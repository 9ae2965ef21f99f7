"""A client of the API, as tests speak to it."""

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.test import Client

from devices.models import Device


@dataclass(frozen=True)
class Answer:
    """What came back: its status, its JSON, its headers."""

    status: int
    json: Any
    headers: Any
    text: str

    def fields(self) -> set[str]:
        """The fields that an error names."""
        return set(self.json.get("details", {}))


@dataclass(frozen=True)
class Api:
    """Speaks as a device (`key`), as a user (`token`) or as nobody."""

    key: str | None = None
    token: str | None = None

    def get(self, path: str, **query: Any) -> Answer:
        return self._answer(self._client().get(self._url(path), query, **self._headers()))

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._send("POST", path, body, headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._send("PUT", path, body, headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._send("PATCH", path, body, headers)

    def delete(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._send("DELETE", path, body, headers)

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        return self._send(method, path, body, {})

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        content_type = headers.pop("content_type", "application/json")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        extra = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        response = self._client().generic(
            method,
            self._url(path),
            b"" if body is None else data,
            content_type=content_type,
            **self._headers(),
            **extra,
        )
        return self._answer(response)

    def _client(self) -> Client:
        return Client(raise_request_exception=False)

    def _url(self, path: str) -> str:
        at_root = path == "/" or path.startswith(("/api", "/health", "/status", "/metrics"))
        return path if at_root else f"/api/v1{path}"

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self.key:
            headers["HTTP_X_API_KEY"] = self.key
        if self.token:
            headers["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        return headers

    def _answer(self, response: HttpResponse) -> Answer:
        content = b"".join(response) if response.streaming else response.content
        text = content.decode()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        answer = Answer(
            response.status_code, json.loads(text) if is_json else None, response.headers, text
        )
        if answer.status >= 400:
            check_error(answer)
        return answer


def check_error(answer: Answer) -> None:
    """What holds for every error of the API: one shape, and a bad request names its fields."""
    if answer.json.get("stores"):
        return  # the state of stores of which some are away
    assert set(answer.json) <= {"error", "message", "details"}, answer.text
    assert answer.json["error"], answer.text
    assert answer.json["message"], answer.text
    if answer.status == 400:
        assert answer.fields(), f"no field is named: {answer.text}"
        assert all(answer.json["details"].values()), answer.text


@dataclass(frozen=True)
class Somebody:
    """A user and the API as they speak to it."""

    user: Any
    api: Api


@dataclass(frozen=True)
class Something:
    """A device, its key, and the API as it speaks to it."""

    device: Device
    key: str
    api: Api

    @property
    def id(self) -> int:
        return self.device.pk
