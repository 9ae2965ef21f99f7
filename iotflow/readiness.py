"""Whether this process is ready for requests: warm once, and not on its way out.

Connecting to Cassandra and preparing statements takes seconds, which no request is to pay for.
A store that goes away later changes nothing: it is away for every process, and what does not need
it is still answered.
"""

import logging
import threading

from django.db import DatabaseError, connections

from iotflow import health
from iotflow.lib.errors import StoreAway
from telemetry import ingest
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0


class Readiness:
    """Of one process. `start` warms up beside the requests; without it, the first look does."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._cold = "The stores are being connected to."  # the reason; empty once it is warm

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)
        self._thread.start()

    def reason(self) -> str:
        """Why this process is not ready, in a sentence for anybody; empty where it is."""
        if self._cold and self._thread is None:
            self.warm_up()
        committer = ingest.committer()
        if committer.is_ending:
            return "The server is ending."
        if not committer.is_alive:
            return "Nothing commits readings any more."
        return self._cold

    def warm_up(self) -> bool:
        """Whether it is warm now: URL conf and code are, where the server runs at all."""
        cold = _cold()
        if cold != self._cold:
            logger.info("%s", cold or "Warm: ready for requests.")
        self._cold = cold
        return not cold

    def _run(self) -> None:
        ingest.committer()
        pause = threading.Event()
        try:
            while not self.warm_up():
                pause.wait(PAUSE_SECONDS)
        finally:
            connections.close_all()


def _cold() -> str:
    """What is still wanting. The database may be away: what is cached is answered without it."""
    up = {name for name, store in health.stores().items() if store.up}
    try:
        if "telemetry" not in up:
            return "The telemetry store does not answer yet, or has no tables."
        if telemetry_store().faults():
            return "The telemetry store lacks tables: setup_stores makes them."
        if "database" in up and health.lacking("default"):
            return "The database lacks migrations: setup_stores applies them."
    except (StoreAway, DatabaseError):
        return "A store does not answer yet."
    return ""


process = Readiness()
