"""The API in ten steps, each with what the stores did, as far as this process can see them."""

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management import call_command

from iotflow.lib.child import answers, free_port, server
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.fleet import COMING_BACK, reason, retry_after
from telemetry.sightings import Sightings
from telemetry.simulation import Sensor

API = "/api/v1"
READY_SECONDS = 60.0
TRIES = 5
SUBMISSIONS, LATEST_READS, HISTORY_READS = 200, 100, 50
HISTORY_STEP_MS = 60_000

Say = Callable[[str], object]


class TourFailed(Exception):
    """A step did not do what it should; the message names it."""


@contextmanager
def own_server(say: Say) -> Iterator[str]:
    """The URL of a server with this process's environment, which runs as long as the block."""
    if settings.EMBEDDED_DATABASE:
        call_command("setup_stores", stdout=_Silent())
    port = free_port()
    environment = {
        **os.environ,
        "ALLOW_HTTP": "1",
        "WORKER_THREAD": "1",
        "VAR_DIR": str(settings.VAR_DIR),
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    with tempfile.TemporaryDirectory() as folder:
        child = server(port, Path(folder) / "server.log", environment)
        try:
            url = f"http://127.0.0.1:{port}"
            if not answers(url, child, READY_SECONDS):
                raise TourFailed(f"The server did not start. {child.obituary()}")
            say(f"A server of this environment runs at {url}.")
            yield url
        finally:
            child.stop()


class Tour:
    """Walks through the steps; each says its request, the answer in brief, and what was seen.

    With `own` the server has this process's environment, so what is not seen in a store is a
    failure; of another server's stores only what was seen is said.
    """

    def __init__(self, url: str, say: Say, *, own: bool = False) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._say = say
        self._mark = secrets.token_hex(4)
        self._sights = Sightings(own_stores=own)
        self._headers: dict[str, str] = {}
        self._key: dict[str, str] = {}
        self._device_id = 0
        self._group_id = 0
        self._time = 0
        self._values: dict[str, float] = {}

    def run(self) -> str:
        """All steps in order; the closing line. TourFailed names the step that failed."""
        steps: list[tuple[str, Callable[[], None]]] = [
            ("User registration", self._register_user),
            ("Device registration", self._register_device),
            ("Group creation", self._create_group),
            ("Grouping", self._add_to_group),
            ("Telemetry", self._submit),
            ("Latest values", self._latest),
            ("Historical values", self._history),
            ("Status", self._status),
            ("Health", self._health),
            ("Performance summary", self._performance),
        ]
        self._say(f"The stores as this process sees them: {self._sights.stores()}")
        with self._http:
            for number, (name, step) in enumerate(steps, 1):
                self._say(f"\n{number:2}. {name}")
                try:
                    step()
                except httpx.RequestError as error:
                    raise TourFailed(
                        f"Step {number}, {name}, failed: no answer from {self._http.base_url} "
                        f"({error or type(error).__name__})."
                    ) from error
                except (TourFailed, LookupError, TypeError, ValueError) as error:
                    raise TourFailed(f"Step {number}, {name}, failed: {error}") from error
        return "\nAll ten steps did what they should."

    def _register_user(self) -> None:
        username, password = f"tour-{self._mark}", secrets.token_urlsafe(24)
        body = {"username": username, "email": f"{username}@example.com", "password": password}
        answer = self._call("POST", "/auth/register", 201, body)
        self._told(f"user {answer['user']['username']}, id {answer['user']['id']}")
        self._saw(self._sights.user(answer["user"]["id"], username))
        answer = self._call(
            "POST", "/auth/login", 200, {k: body[k] for k in ("username", "password")}
        )
        self._headers = {"Authorization": f"Bearer {answer['token']}"}
        self._told(f"a token until {answer['expires_at']}")

    def _register_device(self) -> None:
        body = {"name": f"Tour {self._mark}", "device_type": "sensor", "location": "Tour"}
        device = self._call("POST", "/devices/register", 201, body)["device"]
        self._device_id = device["id"]
        self._key = {"X-API-Key": device["api_key"]}
        self._told(f"device {device['id']}, {device['status']}; its key is shown this once")
        self._saw(self._sights.device(device["id"], device["name"]))

    def _create_group(self) -> None:
        body = {"name": f"Tour {self._mark}", "color": "#3B82F6"}
        group = self._call("POST", "/groups", 201, body)["group"]
        self._group_id = group["id"]
        self._told(f"group {group['id']} with {group['device_count']} devices")
        self._saw(self._sights.group(group["id"], group["name"]))

    def _add_to_group(self) -> None:
        path = f"/groups/{self._group_id}/devices"
        answer = self._call("POST", path, 201, {"device_id": self._device_id})
        self._told(f"device {answer['membership']['device_id']} is in it")
        self._saw(self._sights.membership(self._group_id, self._device_id))

    def _submit(self) -> None:
        self._time = now_ms()
        self._values = Sensor(self._mark, 0).measure(self._time)
        body = {"data": self._values, "timestamp": format_ms(self._time)}
        answer = self._call("POST", "/telemetry", 201, body, self._key)
        where = "in Cassandra" if answer["stored_in_cassandra"] else "not in Cassandra"
        self._told(f"{answer['message']}, {where}, at {answer['timestamp']}")
        self._saw(self._sights.reading(self._device_id, self._time, self._values))

    def _latest(self) -> None:
        answer = self._call("GET", f"/telemetry/{self._device_id}/latest", 200, None, self._key)
        self._same(answer["latest_data"], self._values)
        self._told(f"{answer['latest_data']} at {answer['timestamp']}")
        self._saw(self._sights.latest(self._device_id))

    def _history(self) -> None:
        sensor = Sensor(self._mark, 1)
        for minutes in (3, 2, 1):
            moment = self._time - minutes * HISTORY_STEP_MS
            body = {"data": sensor.measure(moment), "timestamp": format_ms(moment)}
            self._call("POST", "/telemetry", 201, body, self._key, quiet=True)
        path = f"/telemetry/{self._device_id}?start_time=-1h&limit=2"
        answer = self._call("GET", path, 200, None, self._key)
        self._same(answer["data"][0]["measurements"], self._values)
        self._same(answer["count"], 2)
        cursor = answer["next_cursor"]
        rest = self._call("GET", f"{path}&cursor={cursor}", 200, None, self._key, quiet=True)
        self._same((rest["count"], rest["next_cursor"]), (2, None))
        self._told("4 readings, newest first, in two pages of 2 by next_cursor")
        self._saw(self._sights.history(self._device_id, self._time))

    def _status(self) -> None:
        answer = self._call("GET", f"/devices/{self._device_id}/status", 200)
        device = answer["device"]
        self._same(device["is_online"], True)
        self._told(f"{device['status']}, online, last seen {device['last_seen']}")
        own = self._call("GET", "/devices/status", 200, None, self._key)
        self._told(f"the device of itself: {own['status']}, online: {own['is_online']}")
        self._saw(self._sights.presence(self._device_id))

    def _health(self) -> None:
        answer = self._call("GET", "/health?detailed=true", 200, api=False)
        stores = ", ".join(f"{name} {state['status']}" for name, state in answer["stores"].items())
        self._told(f"{answer['status']}: {stores}")
        self._told(f"status: {self._call('GET', '/status', 200, api=False)['status']}")

    def _performance(self) -> None:
        sensor = Sensor(self._mark, 2)
        start = now_ms()
        bodies = [
            {"data": sensor.measure(start + n), "timestamp": format_ms(start + n)}
            for n in range(SUBMISSIONS)
        ]
        path = f"/telemetry/{self._device_id}"
        self._measure("POST", "/telemetry", 201, bodies)
        self._measure("GET", f"{path}/latest", 200, [None] * LATEST_READS)
        self._measure("GET", f"{path}?limit=100", 200, [None] * HISTORY_READS)
        self._say("    one after the other, from one client")
        self._saw(self._sights.events(self._device_id))

    def _measure(
        self, method: str, path: str, expected: int, bodies: Sequence[dict[str, Any] | None]
    ) -> None:
        seconds = []
        for body in bodies:
            answer = self._request(method, API + path, body, self._key)
            if answer.status_code != expected:
                raise TourFailed(f"{method} {API}{path} was answered {reason(answer)}")
            seconds.append(answer.elapsed.total_seconds())
        cuts = statistics.quantiles(seconds, n=20)
        self._say(
            f"    {method} {API}{path}: {len(seconds)} requests, p50 {1000 * cuts[9]:.1f} ms, "
            f"p95 {1000 * cuts[18]:.1f} ms, {len(seconds) / sum(seconds):.0f} requests/s"
        )

    def _call(
        self,
        method: str,
        path: str,
        expected: int,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        *,
        api: bool = True,
        quiet: bool = False,
    ) -> Any:
        """The JSON of an answer that has the expected status; TourFailed otherwise."""
        path = API + path if api else path
        answer = self._request(method, path, body, self._headers if headers is None else headers)
        if not quiet:
            self._say(f"    {method} {path} → {answer.status_code}")
        if answer.status_code != expected:
            raise TourFailed(f"{method} {path} was answered {reason(answer)}")
        return answer.json()

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> httpx.Response:
        """An answer other than 429 or 503, which are waited out a few times."""
        for _ in range(TRIES):
            answer = self._http.request(method, path, json=body, headers=headers)
            if answer.status_code not in COMING_BACK:
                break
            time.sleep(retry_after(answer))
        return answer

    def _told(self, text: str) -> None:
        self._say(f"      {text}")

    def _saw(self, sights: Sequence[str]) -> None:
        for sight in sights:
            self._say(f"      · {sight}")

    def _same(self, found: object, expected: object) -> None:
        if found != expected:
            raise TourFailed(f"the answer holds {found}, not {expected}.")


class _Silent:
    def write(self, text: str) -> None:
        """setup_stores tells every store; the tour has its own words."""
