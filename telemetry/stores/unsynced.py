"""What one node of Cassandra may still forget, kept until it cannot.

With `commitlog_sync: periodic`, Cassandra's default, a write is acknowledged once it is in the
commit log's memory. A node that is killed finds again what lies before the last marker there, and
writes one every 100 ms (AbstractCommitLogService.DEFAULT_MARKER_INTERVAL_MILLIS; CASSANDRA-13987);
what came after is gone. Other replicas make up for that; where there are none, this does, as long
as this process lives: a batch is let go once the node has answered twice since, HOLD_SECONDS apart,
and written again where the connection broke that it was acknowledged on. That a connection stands
says nothing, for a frozen node has some, too. Every statement in a batch has a time of its own, so
that twice is as good as once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from cassandra.cluster import ResponseFuture
from cassandra.query import BatchStatement

from iotflow.lib.errors import StoreAway
from telemetry.stores.base import REWRITTEN

logger = logging.getLogger(__name__)
HOLD_SECONDS = 1.0  # ten markers, for a node that is busy writes them late


class _Kept(NamedTuple):
    """A batch, and where and when (of time.monotonic) it was acknowledged."""

    batch: BatchStatement
    connection: Any
    at: float

    @property
    def is_in_doubt(self) -> bool:
        return self.connection.is_closed or self.connection.is_defunct


class Unsynced:
    """The batches of the last seconds, and a thread that looks after them while there are any.

    `ask` has the node answer, `rewrite` writes a batch again; both raise StoreAway as long as
    Cassandra is away.
    """

    def __init__(
        self, ask: Callable[[], object], rewrite: Callable[[BatchStatement], object]
    ) -> None:
        self._ask = ask
        self._rewrite = rewrite
        self._lived = -inf  # when the node was last asked and answered
        self._kept: deque[_Kept] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, batch: BatchStatement, future: ResponseFuture) -> None:
        """A batch that was acknowledged just now."""
        # The driver has no public name for the connection that a future was sent on.
        kept = _Kept(batch, future._connection, time.monotonic())
        with self._wake:
            self._kept.append(kept)
            if len(self._kept) == 1:
                self._wake.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="unsynced", daemon=True)
                self._thread.start()

    def _settle(self) -> None:
        """Let go what is safe, write again what is in doubt. Raises StoreAway."""
        asked = time.monotonic()
        self._ask()
        safe, self._lived = self._lived, asked
        while (kept := self._next_in_doubt(safe)) is not None:
            try:
                self._rewrite(kept.batch)
            except StoreAway:
                with self._wake:
                    self._kept.appendleft(kept)
                raise
            REWRITTEN.add()

    def _next_in_doubt(self, safe: float) -> _Kept | None:
        """The oldest, taken out, if its connection is gone; those from before `safe` are let go."""
        with self._wake:
            while self._kept:
                oldest = self._kept[0]
                if oldest.is_in_doubt:
                    return self._kept.popleft()
                if oldest.at >= safe:
                    return None
                self._kept.popleft()
        return None

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._kept)
            time.sleep(HOLD_SECONDS)
            try:
                self._settle()
            except StoreAway:
                continue
            except Exception:  # Cassandra's no to this batch; the thread must not end of it
                logger.exception("what Cassandra may have lost was not written again")
