"""A user: registers devices, reads all of theirs, and submits for them as a gateway does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import httpx

from iotflow_client.connection import Connection, Retry, Secret, understood
from iotflow_client.device import Device
from iotflow_client.readings import (
    BatchResult,
    DeviceInfo,
    Latest,
    Reading,
    StoredReading,
    batches,
    device_info,
    dumps,
    encode,
    in_order,
)
from iotflow_client.telemetry import read_history, read_latest, send_batch
from iotflow_client.times import Time

PAGE = 1000


class User:
    """Log in with `login`, or give a token. The options are those of Device."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._timeout, self._retry, self._own_http = timeout, retry, http
        self._connection = Connection(url, None, timeout=timeout, retry=retry, http=http)
        if token is not None:
            self._connection.secret = _bearer(token)

    def register(self, username: str, email: str, password: str) -> None:
        """Make an account. Conflict where the name or address is taken."""
        fields = {"username": username, "email": email, "password": password}
        self._connection.post("/auth/register", dumps(fields), safe=False)

    def login(self, username: str, password: str) -> None:
        """Log in, by name or e-mail address. NotAuthenticated where that fails."""
        fields = {"username": username, "password": password}
        answer = self._connection.post("/auth/login", dumps(fields), safe=False)
        self._connection.secret = understood(lambda found: _bearer(found["token"]), answer)

    def logout(self) -> None:
        """End the token."""
        self._connection.post("/auth/logout", safe=False)
        self._connection.secret = None

    def register_device(self, name: str, **fields: str | int) -> Device:
        """A new device, ready to submit; keep its `key`, which is shown only now.

        `fields`: device_type, description, location, firmware_version, hardware_version; in
        seconds expected_interval and grace.
        Not repeated when nobody knows whether it arrived, so that there are not two.
        """
        answer = self._connection.post(
            "/devices/register", dumps({"name": name, **fields}), safe=False
        )
        return understood(lambda found: self._device(found["device"]), answer)

    def _device(self, row: dict[str, Any]) -> Device:
        return Device(
            self._connection.url,
            row["api_key"],
            timeout=self._timeout,
            retry=self._retry,
            http=self._own_http,
            id=int(row["id"]),
        )

    def devices(self, **filters: str) -> Iterator[DeviceInfo]:
        """One's devices; `filters`: status, device_type, search."""
        offset, total = 0, 1
        while offset < total:
            query: dict[str, str | int] = {**filters, "limit": PAGE, "offset": offset}
            page, total = understood(_devices, self._connection.get("/devices", query=query))
            yield from page
            offset += PAGE

    def latest(self, device_id: int) -> Latest:
        return read_latest(self._connection, device_id)

    def history(
        self,
        device_id: int,
        start: Time = "-24h",
        end: Time | None = None,
        *,
        limit: int | None = None,
        fields: Iterable[str] = (),
        order: str = "desc",
    ) -> Iterator[StoredReading]:
        """A device's readings from `start` to `end`, both included, newest first (or `asc`)."""
        return read_history(
            self._connection,
            device_id,
            start=start,
            end=end,
            limit=limit,
            fields=fields,
            order=order,
        )

    def submit_bulk(self, readings: Iterable[tuple[int, Reading]]) -> BatchResult:
        """Send readings of many devices, each with its device's number; as Device.submit_batch."""
        calls = batches([encode(reading, device_id=device_id) for device_id, reading in readings])
        return in_order(
            verdict
            for call in calls
            for verdict in send_batch(self._connection, "/telemetry/bulk", call)
        )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> User:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<User at {self._connection.url}>"


def _bearer(token: str) -> Secret:
    return Secret("Authorization", token, "Bearer ")


def _devices(answer: dict[str, Any]) -> tuple[list[DeviceInfo], int]:
    return [device_info(row) for row in answer["devices"]], int(answer["meta"]["total"])
