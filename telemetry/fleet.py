"""Simulated devices that post what they measure to a running server, over HTTP like real ones."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from iotflow.lib import json
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.simulation import Sensor

API = "/api/v1"
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 60.0
STOP_SECONDS = 2.0
CONNECTIONS = 100
COMING_BACK = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class SimulationFailed(Exception):
    """The simulation cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    name: str
    api_key: str = field(repr=False)


@dataclass(slots=True)
class Counts:
    """Of messages, each counted once however often it was tried; `retries`: tries beyond that."""

    messages: int = 0
    accepted: int = 0
    refused: int = 0
    retries: int = 0
    last_refusal: str = ""


def client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    timeout = httpx.Timeout(TIMEOUT_SECONDS, pool=None)
    return httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False)


class Fleet:
    """Each device posts `rate` messages a second until `stop` is set. One message of a device is
    under way at a time: a server that is slower than the rate gets fewer, none pile up.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        devices: Sequence[SimulatedDevice],
        *,
        rate: float,
        seed: int | str,
        stop: asyncio.Event,
    ) -> None:
        self.counts = Counts()
        self._http = http
        self._devices = devices
        self._seconds = 1 / rate
        self._seed = seed
        self._stop = stop

    async def run(self) -> None:
        """Returns when `stop` is set and what was under way is answered, or cut off."""
        tasks = [
            asyncio.create_task(self._post_all(device, number))
            for number, device in enumerate(self._devices)
        ]
        stopping = asyncio.create_task(self._stop.wait())
        # A device ends before that only by a defect, which ends them all.
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _post_all(self, device: SimulatedDevice, number: int) -> None:
        sensor = Sensor(self._seed, number)
        # Spread over the interval, so that the devices do not all post at once.
        due = time.monotonic() + self._seconds * number / len(self._devices)
        last = 0
        while await self._pause(due - time.monotonic()):
            last = max(last + 1, now_ms())
            message = {"data": sensor.measure(last), "timestamp": format_ms(last)}
            await self._deliver(device, json.dumps(message))
            due = max(due + self._seconds, time.monotonic())

    async def _deliver(self, device: SimulatedDevice, body: bytes) -> None:
        """Post until it is answered for good: the same body, so that no retry stores it twice."""
        self.counts.messages += 1
        headers = {"X-API-Key": device.api_key, "Content-Type": "application/json"}
        while True:
            try:
                answer = await self._http.post(f"{API}/telemetry", content=body, headers=headers)
                if answer.status_code == HTTPStatus.CREATED:
                    self.counts.accepted += 1
                    return
                if answer.status_code not in COMING_BACK:
                    self.counts.refused += 1
                    self.counts.last_refusal = f"{device.name}: {reason(answer)}"
                    return
                wait = retry_after(answer)
            except httpx.RequestError:
                wait = RETRY_SECONDS
            if not await self._pause(wait):
                return
            self.counts.retries += 1

    async def _pause(self, seconds: float) -> bool:
        """Wait; False when `stop` is set."""
        try:
            await asyncio.wait_for(self._stop.wait(), max(seconds, 0))
        except TimeoutError:
            return not self._stop.is_set()
        return False


class Owner:
    """A user of the server who registers devices. Raises SimulationFailed."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._token = ""

    async def register(self) -> str:
        """Make up a user and log in; its username. Nobody knows the password."""
        username = f"simulator-{secrets.token_hex(4)}"
        password = secrets.token_urlsafe(24)
        body = {"username": username, "email": f"{username}@example.com", "password": password}
        await self._post("/auth/register", body)
        await self.log_in(username, password)
        return username

    async def log_in(self, username: str, password: str) -> None:
        answer = await self._post("/auth/login", {"username": username, "password": password})
        self._token = answer.json()["token"]

    async def log_out(self) -> None:
        await self._post("/auth/logout", {})
        self._token = ""

    async def devices(self, count: int) -> list[SimulatedDevice]:
        """New devices: keys are shown once, so where a name is taken this run adds a suffix."""
        run = secrets.token_hex(2)
        return [await self._device(f"Simulated {n:03}", run) for n in range(1, count + 1)]

    async def _device(self, name: str, run: str) -> SimulatedDevice:
        for candidate in (name, f"{name} {run}"):
            body = {"name": candidate, "device_type": "simulator"}
            answer = await self._post("/devices/register", body, HTTPStatus.CONFLICT)
            if answer.status_code != HTTPStatus.CONFLICT:
                return SimulatedDevice(candidate, answer.json()["device"]["api_key"])
        raise SimulationFailed(f"The device names {name} and {name} {run} are both taken.")

    async def _post(
        self, path: str, body: Mapping[str, Any], allowed: HTTPStatus | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        while True:
            try:
                answer = await self._http.post(API + path, json=dict(body), headers=headers)
            except httpx.RequestError as error:
                raise SimulationFailed(no_server(self._http.base_url, error)) from error
            if answer.is_success or answer.status_code == allowed:
                return answer
            if answer.status_code not in COMING_BACK:
                raise SimulationFailed(f"POST {API}{path} was answered {reason(answer)}")
            await asyncio.sleep(retry_after(answer))


async def check_server(http: httpx.AsyncClient) -> None:
    """SimulationFailed unless IoTFlow answers there."""
    try:
        answer = await http.get("/health")
        version = answer.json()["version"] if answer.is_success else ""
    except httpx.RequestError as error:
        raise SimulationFailed(no_server(http.base_url, error)) from error
    except (ValueError, KeyError, TypeError):
        version = ""
    if not version:
        raise SimulationFailed(
            f"What answers at {http.base_url} is not IoTFlow: GET /health is {answer.status_code}."
        )


def no_server(url: object, error: Exception) -> str:
    return f"No server answers at {url} ({error or type(error).__name__}). Start one: make run"


def reason(answer: httpx.Response) -> str:
    """The status of an answer and what it says, in one line."""
    try:
        body = answer.json()
        text = f"{body['message']} {body.get('details') or ''}".strip()
    except (ValueError, KeyError, TypeError):
        text = answer.headers.get("Location") or answer.reason_phrase
    return f"{answer.status_code}: {text}"


def retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks to wait, within bounds."""
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        seconds = RETRY_SECONDS
    return min(max(seconds, 0.05), RETRY_SECONDS_MAX)
