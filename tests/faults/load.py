"""A steady load in open loop: each request begins at its time, however long others take.

Devices submit in three ways: at a time of their own, under an Idempotency-Key, and plainly. The
first two are repeated until they are acknowledged, as devices should. Meanwhile their owner writes
configurations and registers devices.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import httpx

from tests.bench.ledger import to_ms
from tests.bench.population import Somebody
from tests.faults.ledger import REFUSALS, Attempt, Entry, Ledger

PER_SECOND = 50
ACTIONS_PER_SECOND = 1
WAIT_SECONDS = 15  # longer than anything may take
BACK_OFF = 8  # times what Retry-After says: all that wait would else come again each second
PATIENCE_SECONDS = 30  # of who repeats, once the load has ended
# A client each, as devices have: at every request a pool looks at all of its connections, and one
# for all of them costs more than what it is to measure.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=10)
OWNER = 0
_numbers = count(1)


class Load(threading.Thread):
    """Runs until `stop`; everything is in the ledger then."""

    def __init__(
        self, url: str, token: str, devices: Sequence[Somebody], per_second: int = PER_SECOND
    ) -> None:
        super().__init__(name="load", daemon=True)
        self.ledger = Ledger()
        self._base = f"{url}/api/v1"
        self._token = token
        self._devices = devices
        self._per_second = per_second
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._stopping = threading.Event()
        self._given_up = False
        self.errors: list[str] = []

    def stop(self) -> Ledger:
        self._stopping.set()
        self.join(PATIENCE_SECONDS + WAIT_SECONDS + 10)
        assert not self.is_alive()
        return self.ledger

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            for who in (OWNER, *(device.id for device in self._devices)):
                client = httpx.AsyncClient(
                    base_url=self._base, timeout=WAIT_SECONDS, limits=LIMITS, trust_env=False
                )
                self._clients[who] = await stack.enter_async_context(client)
            tasks = [task async for task in self._begun()]
            _, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
            self._given_up = True
            if late:
                await asyncio.wait(late)

    async def _begun(self) -> Any:
        """Tasks, each begun at its time."""
        begun, every = time.monotonic(), self._per_second // ACTIONS_PER_SECOND
        for turn in count():
            await asyncio.sleep(max(0.0, begun + turn / self._per_second - time.monotonic()))
            if self._stopping.is_set():
                return
            yield asyncio.create_task(self._submit(turn))
            if turn % every == 0:
                act = self._configure if turn // every % 2 else self._register
                yield asyncio.create_task(act(turn // every))

    async def _submit(self, turn: int) -> None:
        place, number = turn % len(self._devices), next(_numbers)
        device = self._devices[place]
        ways = ("timed",) if place % 2 else ("keyed", "plain")
        what = ways[turn // len(self._devices) % len(ways)]
        entry = self.ledger.add(Entry(what, number, device.id))
        body: dict[str, Any] = {"data": {"n": number, "text": f"reading {number}"}}
        headers = {"X-API-Key": device.key}
        if what == "timed":
            entry.time = time.time_ns() // 1_000_000
            body["timestamp"] = entry.time
        elif what == "keyed":
            headers["Idempotency-Key"] = f"reading-{number}"
        await self._ask(
            entry, device.id, "POST", "/telemetry", body, headers, lambda a: to_ms(a["timestamp"])
        )

    async def _configure(self, turn: int) -> None:
        device, number = self._devices[turn % len(self._devices)], next(_numbers)
        entry = self.ledger.add(Entry("configured", number, device.id))
        body = {"config": {"n": number}}
        path = f"/devices/{device.id}/config"
        await self._ask(entry, OWNER, "PUT", path, body, self._owner, lambda a: a["version"])

    async def _register(self, turn: int) -> None:
        number = next(_numbers)
        entry = self.ledger.add(Entry("registered", number, 0))
        body = {"name": f"registered {number}"}
        path = "/devices/register"
        await self._ask(entry, OWNER, "POST", path, body, self._owner, lambda a: a["device"]["id"])

    @property
    def _owner(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _ask(
        self,
        entry: Entry,
        who: int,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str],
        result: Callable[[Any], int],
    ) -> None:
        """Until it is acknowledged, where asking again is safe."""
        client = self._clients[who]
        while True:
            begun = time.monotonic()
            try:
                answer = await client.request(method, path, json=body, headers=headers)
            except httpx.HTTPError:
                entry.attempts.append(Attempt(entry.what, begun, time.monotonic() - begun, 0, None))
                wait = 1.0
            else:
                seconds, status = time.monotonic() - begun, answer.status_code
                retry_after = answer.headers.get("Retry-After")
                entry.attempts.append(Attempt(entry.what, begun, seconds, status, retry_after))
                if answer.is_success:
                    entry.result = result(answer.json())
                    return
                if answer.status_code not in REFUSALS:
                    self.errors.append(f"{entry.what}: {answer.status_code} {answer.text[:300]}")
                    return
                wait = float(retry_after or 1)
            if entry.what in ("plain", "registered") or self._given_up:
                return
            await asyncio.sleep(wait * min(2 ** (len(entry.attempts) - 1), BACK_OFF))
