"""Simulated devices that post what they measure to a running server, over HTTP like real ones."""

import asyncio
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import httpx

from iotflow.lib import json
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.simulated.ledger import NO_ANSWER, Attempt, Ledger
from telemetry.simulated.profiles import PROFILES, Call, Profile, Sample, fresh, within

API = "/api/v1"
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 60.0
STOP_SECONDS = 2.0
FINISH_SECONDS = 15.0
CONNECTIONS = 100
TAKEN = (HTTPStatus.CREATED, HTTPStatus.MULTI_STATUS)
COMING_BACK = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class SimulationFailed(Exception):
    """The simulation cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """`id` is 0 where nobody has asked for it."""

    name: str
    api_key: str = field(repr=False)
    id: int = 0


@dataclass(slots=True)
class Counts:
    """Of messages, each counted once however often it was tried; `retries`: tries beyond that.

    `readings`: those that were sent, each once.
    """

    messages: int = 0
    readings: int = 0
    accepted: int = 0
    refused: int = 0
    retries: int = 0
    last_refusal: str = ""


def client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    timeout = httpx.Timeout(TIMEOUT_SECONDS, pool=None)
    return httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False)


class Fleet:
    """Each device has `rate` turns a second, until `stop` is set, `duration` is over or `count`
    readings were sent; its profile says what it sends then. Devices take turns among `profiles`.

    A device begins a turn when all that it sent is answered: a server that is slower than the rate
    gets fewer, none pile up. What is sent, and with which values, follows from `seed`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        devices: Sequence[SimulatedDevice],
        *,
        rate: float,
        seed: int | str,
        stop: asyncio.Event,
        profiles: Sequence[str] = ("normal",),
        duration: float | None = None,
        count: int | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.counts = Counts()
        self._http = http
        self._devices = devices
        self._seconds = 1 / rate
        self._seed = seed
        self._stop = stop
        self._over = asyncio.Event()
        self._profiles = profiles
        self._duration = duration
        self._count = count
        self._ledger = ledger
        # An Idempotency-Key must be new, also where the seed and the device are not.
        self._run = ledger.run if ledger else secrets.token_hex(4)

    async def run(self) -> None:
        """Returns when it is over and what was under way is answered, or cut off.

        Where `stop` ended it, that is cut off after STOP_SECONDS, and what devices still hold is
        not sent; otherwise it is, within FINISH_SECONDS.
        """
        tasks = [
            asyncio.create_task(self._post_all(device, number))
            for number, device in enumerate(self._devices)
        ]
        # A device ends before all others only by a defect, which ends them all.
        running = asyncio.create_task(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        stopping = asyncio.create_task(self._stop.wait())
        ends = {running, stopping}
        await asyncio.wait(ends, timeout=self._duration, return_when=asyncio.FIRST_COMPLETED)
        self._over.set()
        await asyncio.wait(ends, timeout=FINISH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await asyncio.gather(running, stopping)

    async def _post_all(self, device: SimulatedDevice, number: int) -> None:
        place, kind = divmod(number, len(self._profiles))
        profile = PROFILES[self._profiles[kind]](self._seed, number, place)
        left = self._share(number)
        # Spread over the interval, so that the devices do not all post at once.
        due = time.monotonic() + self._seconds * number / len(self._devices)
        now = 0
        while left and await pause(due - time.monotonic(), self._over):
            now = max(now, now_ms())
            left -= await self._send(device, profile, within(profile.take_turn(now), left))
            due = max(due + self._seconds, time.monotonic())
        if not self._stop.is_set():
            await self._send(device, profile, within(profile.rest(), left))

    def _share(self, number: int) -> int:
        """How many readings a device may send."""
        if self._count is None:
            return sys.maxsize
        share, more = divmod(self._count, len(self._devices))
        return share + (number < more)

    async def _send(self, device: SimulatedDevice, profile: Profile, calls: Sequence[Call]) -> int:
        """Deliver the calls, as many at once as the profile says; how many new readings that is."""
        waiting = iter(calls)

        async def deliver() -> None:
            for call in waiting:
                if self._stop.is_set():
                    return
                await self._deliver(device, call)

        await asyncio.gather(*(deliver() for _ in range(min(profile.at_once, len(calls)))))
        return fresh(calls)

    async def _deliver(self, device: SimulatedDevice, call: Call) -> None:
        """Post until it is answered for good: the same body, so that no retry stores it twice."""
        self.counts.messages += 1
        self.counts.readings += fresh([call])
        path, body, headers = self._message(device, call)
        while True:
            answer = await self._post(device, call, path, body, headers)
            if answer is None:
                wait = RETRY_SECONDS
            elif answer.status_code in TAKEN:
                self.counts.accepted += 1
                return
            elif answer.status_code not in COMING_BACK:
                self.counts.refused += 1
                self.counts.last_refusal = f"{device.name}: {reason(answer)}"
                return
            else:
                wait = retry_after(answer)
            if not await pause(wait, self._stop):
                return
            self.counts.retries += 1

    async def _post(
        self,
        device: SimulatedDevice,
        call: Call,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> httpx.Response | None:
        """One try, which the ledger is told of; None for no answer."""
        sent, begun = now_ms(), time.monotonic()
        answer: httpx.Response | None = None
        try:
            answer = await self._http.post(path, content=body, headers=headers)
        except httpx.RequestError:
            pass
        finally:  # also where it is cut off: it may have arrived
            if self._ledger is not None:
                seconds = time.monotonic() - begun
                self._ledger.note(attempt(device, call, sent, seconds, answer))
        return answer

    def _message(self, device: SimulatedDevice, call: Call) -> tuple[str, bytes, dict[str, str]]:
        """The path, body and headers of a call."""
        headers = {"X-API-Key": device.api_key, "Content-Type": "application/json"}
        if call.is_keyed:
            headers["Idempotency-Key"] = f"{self._run}-{call.number}"
        readings = [self._reading(sample) for sample in call.samples]
        if call.is_batch:
            return f"{API}/telemetry/batch", json.dumps({"readings": readings}), headers
        return f"{API}/telemetry", json.dumps(readings[0]), headers

    def _reading(self, sample: Sample) -> dict[str, Any]:
        reading: dict[str, Any] = {"data": sample.values}
        if sample.time is not None:
            reading["timestamp"] = format_ms(sample.time)
        if self._ledger is not None:
            reading["metadata"] = self._ledger.mark(sample.number)
        return reading


def attempt(
    device: SimulatedDevice, call: Call, sent: int, seconds: float, answer: httpx.Response | None
) -> Attempt:
    """A try, as the ledger keeps it."""
    if answer is None:
        return Attempt(device.id, call, sent, seconds, NO_ANSWER)
    try:
        body = answer.json()
    except ValueError:
        body = None
    return Attempt(device.id, call, sent, seconds, answer.status_code, body)


async def pause(seconds: float, end: asyncio.Event) -> bool:
    """Wait; False when `end` is set."""
    try:
        await asyncio.wait_for(end.wait(), max(seconds, 0))
    except TimeoutError:
        return not end.is_set()
    return False


class Owner:
    """A user of the server who registers devices. Raises SimulationFailed."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.token = ""

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
        self.token = answer.json()["token"]

    async def log_out(self) -> None:
        await self._post("/auth/logout", {})
        self.token = ""

    async def devices(self, count: int) -> list[SimulatedDevice]:
        """New devices: keys are shown once, so where a name is taken this run adds a suffix."""
        run = secrets.token_hex(2)
        return [await self._device(f"Simulated {n:03}", run) for n in range(1, count + 1)]

    async def _device(self, name: str, run: str) -> SimulatedDevice:
        for candidate in (name, f"{name} {run}"):
            body = {"name": candidate, "device_type": "simulator"}
            answer = await self._post("/devices/register", body, HTTPStatus.CONFLICT)
            if answer.status_code != HTTPStatus.CONFLICT:
                device = answer.json()["device"]
                return SimulatedDevice(candidate, device["api_key"], device["id"])
        raise SimulationFailed(f"The device names {name} and {name} {run} are both taken.")

    async def _post(
        self, path: str, body: Mapping[str, Any], allowed: HTTPStatus | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
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


async def identified(
    http: httpx.AsyncClient, devices: Sequence[SimulatedDevice]
) -> list[SimulatedDevice]:
    """The devices with their ids, which the server is asked for. Raises SimulationFailed."""
    return [replace(device, id=await _id_of(http, device)) for device in devices]


async def _id_of(http: httpx.AsyncClient, device: SimulatedDevice) -> int:
    try:
        answer = await http.get(f"{API}/devices/status", headers={"X-API-Key": device.api_key})
        return int(answer.json()["device_id"])
    except httpx.RequestError as error:
        raise SimulationFailed(no_server(http.base_url, error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SimulationFailed(f"{device.name} is not known: {reason(answer)}") from error


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
