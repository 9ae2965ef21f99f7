"""The clocks of the servers against this host's."""

import time
from collections.abc import Callable, Iterator

from django.db import DatabaseError, connection

from events import sinks
from iotflow.lib import redis
from iotflow.lib.errors import StoreAway
from iotflow.lib.findings import Finding, ok, warning
from telemetry.stores import telemetry_store

OFF_SECONDS = 1.0
# Milliseconds since 1970; None where the store is part of this process.
Clock = Callable[[], int | None]


def _database() -> int | None:
    if connection.vendor == "sqlite":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000")
        return int(cursor.fetchone()[0])


CLOCKS: dict[str, Clock] = {
    "The database": _database,
    "The telemetry store": lambda: telemetry_store().clock(),
    "Redis": redis.clock,
    "The event log": sinks.clock,
}


def clocks() -> Iterator[Finding]:
    """Servers whose clocks are off; that a store is away is told by another check."""
    told = False
    for name, clock in CLOCKS.items():
        try:
            off = offset(clock)
        except (StoreAway, DatabaseError):
            told = True
            continue
        if off is not None:
            told = True
            yield _finding(name, off)
    if not told:
        yield ok("No store has a clock of its own.")


def offset(clock: Clock) -> float | None:
    """How many seconds a clock is ahead at least, below 0 for behind: how long the answer took
    leaves the rest open.
    """
    before = time.time()
    theirs = clock()
    after = time.time()
    if theirs is None:
        return None
    seconds = theirs / 1000
    if seconds > after:
        return seconds - after
    return min(seconds + 0.001 - before, 0.0)  # theirs is cut to milliseconds


def _finding(name: str, off: float) -> Finding:
    if abs(off) < OFF_SECONDS:
        return ok(f"{name} and this host agree on the time.")
    side = "ahead of" if off > 0 else "behind"
    return warning(
        f"{name}'s clock is {abs(off):,.1f} s {side} this host's.",
        "Set both by NTP (`chronyc tracking` on each): times given to readings, limits, expiry "
        "and corrections rest on them.",
    )
