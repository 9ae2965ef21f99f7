"""A device that keeps its readings on disk and sends them when the server is there."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from iotflow_client.connection import Retry
from iotflow_client.device import Device
from iotflow_client.errors import ApiError, BodyTooLarge, IoTFlowError, Unavailable
from iotflow_client.queue import Queue, Waiting
from iotflow_client.readings import Reading, Value, Verdict
from iotflow_client.times import Time

logger = logging.getLogger(__name__)
# Between tries in the background; a server that is away for a day is asked every few minutes.
BACKOFF = Retry(first=1.0, longest=120.0)
JOIN_SECONDS = 30.0


@dataclass(frozen=True)
class Flushed:
    """What a flush did: how many the server has now, and how many it would not have."""

    sent: int = 0
    rejected: int = 0

    def __add__(self, other: Flushed) -> Flushed:
        return Flushed(self.sent + other.sent, self.rejected + other.rejected)


class BufferedDevice:
    """Each reading is on disk when `add` returns, and on the server after a `flush`.

    A reading leaves the disk only when the server has acknowledged it; its time is fixed by
    `add`, so that sending it again is harmless. Readings that the server refuses are set aside
    with the reason: `queue.rejected()`. A `with` block sends in the background every `every`
    seconds while something waits. One queue file belongs to one device.
    """

    def __init__(
        self,
        device: Device,
        queue: Queue | str | os.PathLike[str],
        *,
        every: float = 5.0,
    ) -> None:
        self.device = device
        self.queue = queue if isinstance(queue, Queue) else Queue(queue)
        self._every = every
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many readings wait to be sent."""
        return len(self.queue)

    def __bool__(self) -> bool:
        return True

    def add(
        self,
        data: Mapping[str, Value],
        timestamp: Time | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a reading for sending; see Queue.add."""
        self.queue.add(Reading(data, timestamp, metadata))

    def flush(self) -> Flushed:
        """Send what waits, oldest first; raises what Device.submit raises, and nothing is lost."""
        return self._flush(once=False)

    def start(self) -> None:
        """Send in the background until `close`."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="iotflow-queue", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End sending, after the call under way, and close queue and device.

        What still waits is sent when the file is opened again.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
            self._thread = None
        self.queue.close()
        self.device.close()

    def __enter__(self) -> BufferedDevice:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BufferedDevice {self.device!r}, {self.queue!r}>"

    def _flush(self, *, once: bool) -> Flushed:
        done = Flushed()
        with self.queue.sending():
            while not (once and self._stopping.is_set()) and (waiting := self.queue.first()):
                done += self._send(waiting, once)
        return done

    def _send(self, waiting: Sequence[Waiting], once: bool) -> Flushed:
        """One call, or where it is refused as a whole, its halves."""
        try:
            verdicts = self.device.send([each.body for each in waiting], once=once)
        except ApiError as error:
            if not _is_about_the_readings(error):
                raise
            if len(waiting) == 1:
                return self._settle(waiting, [Verdict(0, "rejected", str(error))])
            middle = len(waiting) // 2
            return self._send(waiting[:middle], once) + self._send(waiting[middle:], once)
        return self._settle(waiting, verdicts)

    def _settle(self, waiting: Sequence[Waiting], verdicts: Sequence[Verdict]) -> Flushed:
        pairs = list(zip(waiting, verdicts))
        stored = [each.id for each, verdict in pairs if verdict.is_acknowledged]
        refused = [
            (each, verdict.reason or "rejected")
            for each, verdict in pairs
            if not verdict.is_acknowledged
        ]
        self.queue.settle(stored, refused)
        if refused:
            logger.warning("%s readings refused and set aside: %s, …", len(refused), refused[0][1])
        return Flushed(len(stored), len(refused))

    def _run(self) -> None:
        failed = 0
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                self._flush(once=True)
                failed, wait = 0, self._every
            except IoTFlowError as error:
                asked = error.retry_after if isinstance(error, (Unavailable, ApiError)) else None
                wait = max(self._every, (asked or 0) + BACKOFF.backoff(failed))
                failed += 1
                logger.warning("readings wait; next try in %.0f s: %s", wait, error)


def _is_about_the_readings(error: ApiError) -> bool:
    """Whether the server itself refused what was sent, rather than who sent it, or when."""
    return isinstance(error, BodyTooLarge) or error.code == "validation_error"
