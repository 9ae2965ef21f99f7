"""Whether each store answers, asked in parallel and within a time limit."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from events import outbox, sinks
from iotflow.lib import redis
from iotflow.lib.errors import reason_of
from telemetry import ingest
from telemetry.stores import telemetry_store

LIMIT_SECONDS = 2.0
REMEMBER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StoreHealth:
    up: bool
    version: str = ""
    milliseconds: float | None = None
    reason: str = ""  # why it is down, for who runs it

    def body(self, with_details: bool) -> dict[str, Any]:
        state = {"status": "up" if self.up else "down"}
        if not with_details:
            return state
        return {**state, "version": self.version, "latency_ms": self.milliseconds}


@dataclass(frozen=True, slots=True)
class SystemHealth:
    stores: dict[str, StoreHealth]
    outbox_seconds: float | None
    commits: bool

    @property
    def can_write(self) -> bool:
        """A reading needs its store, and its event the event log or the outbox."""
        up = {name for name, store in self.stores.items() if store.up}
        return self.commits and "telemetry" in up and bool(up & {"events", "database"})

    @property
    def status(self) -> str:
        if not self.can_write:
            return "unhealthy"
        return "healthy" if all(store.up for store in self.stores.values()) else "degraded"


def _database() -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT 'SQLite ' || sqlite_version()")
        else:
            cursor.execute("SHOW server_version")
        version = str(cursor.fetchone()[0])
    return version if connection.vendor == "sqlite" else f"PostgreSQL {version.split()[0]}"


CHECKS: dict[str, Callable[[], str]] = {
    "database": _database,
    "telemetry": lambda: telemetry_store().ping(),
    "cache": redis.ping,
    "events": sinks.ping,
}
_lock = threading.Lock()
_remembered: tuple[float, SystemHealth] | None = None


def check() -> SystemHealth:
    """The health of every store; asked at most once a second, and never for longer than two."""
    global _remembered
    with _lock:
        if _remembered is None or time.monotonic() - _remembered[0] > REMEMBER_SECONDS:
            state = _check()
            _remembered = (time.monotonic(), state)
        return _remembered[1]


def stores() -> dict[str, StoreHealth]:
    """Every store as it is now, asked in parallel and for two seconds at most."""
    executor = ThreadPoolExecutor(max_workers=len(CHECKS))
    futures = {name: executor.submit(_measure, run) for name, run in CHECKS.items()}
    executor.shutdown(wait=False)
    deadline = time.monotonic() + LIMIT_SECONDS
    return {name: _state(future, deadline) for name, future in futures.items()}


def lacking(alias: str) -> list[str]:
    """The migrations that a database lacks, as `app.name`, in their order."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _check() -> SystemHealth:
    executor = ThreadPoolExecutor(max_workers=1)
    age = executor.submit(_in_own_connection, outbox.age_seconds)
    executor.shutdown(wait=False)
    deadline = time.monotonic() + LIMIT_SECONDS
    return SystemHealth(stores(), _outcome(age, deadline), ingest.committer().is_alive)


def _state(future: Future[StoreHealth], deadline: float) -> StoreHealth:
    try:
        return future.result(timeout=max(deadline - time.monotonic(), 0))
    except FutureTimeout:
        return StoreHealth(False, reason=f"no answer within {LIMIT_SECONDS:.0f} s")
    except Exception as error:  # whatever a driver raises, the store is not there
        return StoreHealth(False, reason=reason_of(error))


def _outcome(future: Future[Any], deadline: float) -> Any:
    try:
        return future.result(timeout=max(deadline - time.monotonic(), 0))
    except FutureTimeout:
        return None
    except Exception:  # whatever a driver raises, the store is not there
        return None


def _measure(run: Callable[[], str]) -> StoreHealth:
    started = time.perf_counter()
    version = _in_own_connection(run)
    return StoreHealth(True, version, round(1000 * (time.perf_counter() - started), 1))


def _in_own_connection(run: Callable[[], Any]) -> Any:
    try:
        return run()
    finally:
        connections.close_all()
