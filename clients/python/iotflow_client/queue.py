"""Readings on disk until the server has them: one SQLite file, one device."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from iotflow_client.errors import QueueError, QueueFull
from iotflow_client.readings import BATCH_BYTES, BATCH_READINGS, Reading, encode
from iotflow_client.times import EPOCH, MILLISECOND, Tick, following

VERSION = 1
BUSY_SECONDS = 20.0
DROP_OLDEST, REFUSE = "drop-oldest", "refuse"
REJECTED_MAX, REJECTED_BYTES = 1000, 4 * 1024 * 1024

# `totals` has one row, kept by triggers: counting a long queue at every add would be slow.
SCHEMA = (
    "CREATE TABLE waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    """CREATE TABLE rejected (id INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL,
        time INTEGER NOT NULL)""",
    """CREATE TABLE totals (readings INTEGER NOT NULL, bytes INTEGER NOT NULL,
        dropped INTEGER NOT NULL, given INTEGER NOT NULL, seen INTEGER NOT NULL)""",
    "INSERT INTO totals VALUES (0, 0, 0, 0, 0)",
    """CREATE TRIGGER arrived AFTER INSERT ON waiting BEGIN
        UPDATE totals SET readings = readings + 1, bytes = bytes + length(new.body); END""",
    """CREATE TRIGGER gone AFTER DELETE ON waiting BEGIN
        UPDATE totals SET readings = readings - 1, bytes = bytes - length(old.body); END""",
    f"PRAGMA user_version = {VERSION}",
)
# All but the newest, so many and of so many bytes.
FORGET_REJECTED = """
DELETE FROM rejected WHERE id NOT IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(length(body)) OVER newest AS bytes
        FROM rejected WINDOW newest AS (ORDER BY id DESC)
    ) WHERE place <= ? AND bytes <= ?
)
"""


@dataclass(frozen=True)
class Waiting:
    """A reading in the queue, as JSON with its time."""

    id: int
    body: bytes


@dataclass(frozen=True)
class Rejected:
    """A reading that the server would not have, why, and when it said so."""

    id: int
    reading: Reading
    reason: str
    time: datetime


class Queue:
    """A bounded first-in, first-out of readings that outlives the process and the power.

    `add` has the reading on disk when it returns (SQLite, WAL, synchronous FULL), with its time.
    Threads and processes may share the file, on a local disk; after a fork open it anew. Beyond
    `max_readings` or `max_bytes` (of JSON; the file takes up to about twice that) a queue drops
    its oldest readings, counted in `dropped`, or with `when_full="refuse"` raises QueueFull.
    Beside the file are `-wal` and `-shm`, which belong to it, and `-sending`, a lock.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_readings: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        when_full: str = DROP_OLDEST,
    ) -> None:
        if when_full not in (DROP_OLDEST, REFUSE):
            raise ValueError(f"when_full is {DROP_OLDEST!r} or {REFUSE!r}.")
        if max_readings < 1 or max_bytes < BATCH_BYTES:
            raise ValueError(f"max_readings is at least 1, max_bytes at least {BATCH_BYTES}.")
        self.path = Path(path)
        self._max_readings, self._max_bytes = max_readings, max_bytes
        self._refuses = when_full == REFUSE
        self._lock = threading.RLock()
        self._sending = threading.Lock()
        self._db = _open(self.path)
        self._prepare()

    def add(self, reading: Reading) -> None:
        """Keep a reading; it is on disk when this returns.

        ValueError or TypeError for what can never be sent, QueueFull where it was told to refuse,
        QueueError where the disk does not take it.
        """
        self.extend([reading])

    def extend(self, readings: Iterable[Reading]) -> None:
        """Keep all of them, or none where it raises; one wait for the disk instead of many."""
        with self._transaction() as db:
            for reading in readings:
                self._insert(db, reading)

    def __len__(self) -> int:
        """How many readings wait to be sent."""
        with self._access() as db:
            return _totals(db)[0]

    @property
    def dropped(self) -> int:
        """How many readings made room for newer ones, ever."""
        with self._access() as db:
            return int(db.execute("SELECT dropped FROM totals").fetchone()[0])

    def first(self) -> list[Waiting]:
        """The oldest readings, as many as one call takes."""
        found: list[Waiting] = []
        size = 0
        with self._access() as db:
            rows = db.execute("SELECT id, body FROM waiting ORDER BY id LIMIT ?", (BATCH_READINGS,))
            for number, body in rows:
                size += len(body) + 1
                if found and size > BATCH_BYTES:
                    break
                found.append(Waiting(number, body))
        return found

    def settle(self, done: Sequence[int], refused: Sequence[tuple[Waiting, str]]) -> None:
        """At once: forget the readings that are stored, and set aside those that were refused."""
        now = time.time_ns() // 1_000_000
        with self._transaction() as db:
            gone = [(number,) for number in [*done, *(waiting.id for waiting, _ in refused)]]
            db.executemany("DELETE FROM waiting WHERE id = ?", gone)
            db.executemany(
                "INSERT INTO rejected (body, reason, time) VALUES (?, ?, ?)",
                [(waiting.body, reason, now) for waiting, reason in refused],
            )
            if refused:
                db.execute(FORGET_REJECTED, (REJECTED_MAX, REJECTED_BYTES))

    def rejected(self) -> list[Rejected]:
        """The readings that the server refused, oldest first: the last 1,000, and 4 MiB."""
        with self._access() as db:
            rows = db.execute("SELECT * FROM rejected ORDER BY id").fetchall()
        return [
            Rejected(number, Reading(**json.loads(body)), reason, EPOCH + time * MILLISECOND)
            for number, body, reason, time in rows
        ]

    def retry_rejected(self) -> None:
        """Put the refused readings at the end of the queue again."""
        with self._transaction() as db:
            db.execute("INSERT INTO waiting (body) SELECT body FROM rejected ORDER BY id")
            db.execute("DELETE FROM rejected")

    def discard_rejected(self) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM rejected")

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Held by the one who sends, among threads and processes, so that the order is kept.

        Ends with its process, however that ends. QueueError when another process holds it for
        long. A second SQLite file is the lock, for want of one that works on every system.
        """
        with self._sending:
            lock = _open(Path(f"{self.path}-sending"))
            try:
                _take(lock, self.path)
                yield
            finally:
                lock.close()

    def close(self) -> None:
        with self._access() as db:
            db.close()

    def __repr__(self) -> str:
        return f"<Queue {self.path}>"

    def _prepare(self) -> None:
        with self._access() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
        with self._transaction() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in SCHEMA:
                    db.execute(statement)
            elif version != VERSION:
                raise QueueError(f"{self.path} was made by another version of this package.")

    def _insert(self, db: sqlite3.Connection, reading: Reading) -> None:
        tick = following(Tick(*db.execute("SELECT given, seen FROM totals").fetchone()))
        body = encode(reading, tick.given)
        if len(body) > BATCH_BYTES:
            raise ValueError(f"A reading has at most {BATCH_BYTES} bytes as JSON.")
        self._make_room(db, len(body))
        db.execute("INSERT INTO waiting (body) VALUES (?)", (body,))
        if reading.timestamp is None:
            db.execute("UPDATE totals SET given = ?, seen = ?", tick)

    def _make_room(self, db: sqlite3.Connection, size: int) -> None:
        while True:
            readings, bytes_ = _totals(db)
            if readings < self._max_readings and bytes_ + size <= self._max_bytes:
                return
            if self._refuses:
                raise QueueFull(f"{readings} readings wait; the queue is full.")
            db.execute("DELETE FROM waiting WHERE id = (SELECT min(id) FROM waiting)")
            db.execute("UPDATE totals SET dropped = dropped + 1")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._access() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _access(self) -> Iterator[sqlite3.Connection]:
        """The database for one thread at a time: no other sees what is not committed yet."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise QueueError(f"{self.path}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise QueueError(f"{path}: {error}") from error


def _take(lock: sqlite3.Connection, path: Path) -> None:
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        raise QueueError(f"{path}: another process is sending from it.") from error


def _totals(db: sqlite3.Connection) -> tuple[int, int]:
    """How many readings wait, and their bytes."""
    readings, bytes_ = db.execute("SELECT readings, bytes FROM totals").fetchone()
    return int(readings), int(bytes_)
