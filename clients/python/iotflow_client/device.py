"""A device, as it speaks to the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

from iotflow_client.connection import ONCE, Connection, Retry, Secret, understood
from iotflow_client.readings import (
    BatchResult,
    DeviceInfo,
    Latest,
    Reading,
    StoredReading,
    Submitted,
    Value,
    Verdict,
    batches,
    body,
    device_info,
    dumps,
    encode,
    in_order,
    submitted,
)
from iotflow_client.telemetry import read_history, read_latest, send_batch
from iotflow_client.times import Time, clock, fixed, parse

NOT_MODIFIED = 304


@dataclass(frozen=True)
class Config:
    """What the owner wants the device to do, and whether that is new since the last call.

    Version 0 with no settings where the owner has said nothing yet.
    """

    version: int
    settings: dict[str, Any]
    is_new: bool


class Device:
    """Submits and reads back, as the device whose key this is. Safe to share between threads.

    `timeout`: seconds to wait for the server at each step of a try. `retry`: see Retry.
    `server_time`: let the server give the time of a reading that has none, for a device without a
    clock; what makes a retry safe then is an Idempotency-Key. `http`: a client of your own, for
    other certificates or a proxy; it stays yours to close.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 10.0,
        retry: Retry | None = None,
        server_time: bool = False,
        http: httpx.Client | None = None,
        id: int | None = None,
    ) -> None:
        self._secret = Secret("X-API-Key", key)
        self._connection = Connection(url, self._secret, timeout=timeout, retry=retry, http=http)
        self._server_time = server_time
        self._id = id
        self._config: Config | None = None
        self._etag = ""

    @property
    def url(self) -> str:
        return self._connection.url

    @property
    def key(self) -> str:
        """The API key, to keep it where the device finds it again."""
        return self._secret.value

    @property
    def id(self) -> int:
        """The device's number; asked for once."""
        if self._id is None:
            self._id = self.status().id
        return self._id

    def submit(
        self,
        data: Mapping[str, Value],
        timestamp: Time | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """Send one reading; it is stored when this returns.

        After Unavailable it may be stored or not. To send it again then, give it a `timestamp`
        of your own from the start, or use BufferedDevice.
        """
        message = body(data, metadata)
        headers = {}
        if timestamp is not None:
            message["timestamp"] = fixed(timestamp)
        elif self._server_time:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        else:
            message["timestamp"] = clock.now()
        answer = self._connection.post("/telemetry", dumps(message), headers=headers)
        return understood(submitted, answer)

    def submit_batch(self, readings: Iterable[Reading]) -> BatchResult:
        """Send many, in as few calls as they fit into; a verdict for each.

        When this raises, those of earlier calls are stored. Sending all again is safe where they
        have timestamps.
        """
        calls = batches([encode(reading) for reading in readings])
        return in_order(verdict for call in calls for verdict in self.send(call))

    def send(self, encoded: Sequence[bytes], *, once: bool = False) -> list[Verdict]:
        """One call with readings as `encode` makes them; a verdict for each. `once`: no retry."""
        retry = ONCE if once else None
        return send_batch(self._connection, "/telemetry/batch", encoded, retry)

    def heartbeat(self) -> datetime:
        """Say that the device is there; the server's time."""
        answer = self._connection.post("/devices/heartbeat")
        return understood(lambda found: parse(found["timestamp"]), answer)

    def status(self) -> DeviceInfo:
        return understood(device_info, self._connection.get("/devices/status"))

    def latest(self) -> Latest:
        return read_latest(self._connection, self.id)

    def history(
        self,
        start: Time = "-24h",
        end: Time | None = None,
        *,
        limit: int | None = None,
        fields: Iterable[str] = (),
        order: str = "desc",
    ) -> Iterator[StoredReading]:
        """The device's readings from `start` to `end`, both included, newest first (or `asc`)."""
        return read_history(
            self._connection,
            self.id,
            start=start,
            end=end,
            limit=limit,
            fields=fields,
            order=order,
        )

    def config(self) -> Config:
        """The configuration that the owner wants; the last one again while it is unchanged."""
        headers = {"If-None-Match": self._etag} if self._config else {}
        answer = self._connection.get("/devices/config", headers=headers)
        if answer.status == NOT_MODIFIED and self._config:
            return Config(self._config.version, self._config.settings, is_new=False)
        self._config = understood(_config, answer)
        self._etag = answer.headers.get("ETag", "")
        return self._config

    def report_config(self, version: int, status: str = "applied", message: str = "") -> None:
        """Tell the owner which version runs: `applied`, `pending` or `failed`, and why."""
        report = {"version": version, "status": status, "message": message}
        self._connection.post("/devices/config/reported", dumps(report))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device {self._id or ''} at {self.url}>".replace("  ", " ")


def _config(answer: dict[str, Any]) -> Config:
    return Config(int(answer["version"]), dict(answer["config"]), is_new=True)
