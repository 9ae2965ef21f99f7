"""What simulated devices sent, attempt by attempt, and what became of it by the answers.

It is on the disk: an SQLite file, which goes with the ledger, for what it is held against
(telemetry.simulated.settlement); and, where asked for, a file of NDJSON with a line per attempt.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, Any, NamedTuple

from iotflow.lib.timeparse import NotATime, format_ms, parse_ms
from telemetry.simulated.profiles import Call

NO_ANSWER = 0
SCHEMA = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE devices (id INTEGER PRIMARY KEY, name TEXT, profile TEXT, is_new INTEGER);
    CREATE TABLE sent (
        device INTEGER, number INTEGER, time INTEGER, data TEXT,
        stored INTEGER, refused INTEGER, unsure INTEGER,
        PRIMARY KEY (device, number)
    ) WITHOUT ROWID;
    CREATE TABLE told (
        device INTEGER, number INTEGER, time INTEGER, PRIMARY KEY (device, number, time)
    ) WITHOUT ROWID;
    CREATE TABLE due (
        device INTEGER, event TEXT, PRIMARY KEY (device, event)
    ) WITHOUT ROWID;
    CREATE TABLE found (number INTEGER, time INTEGER, data TEXT);
    CREATE INDEX found_by_number ON found (number);
    CREATE TABLE events (event TEXT);
    CREATE INDEX events_by_event ON events (event);
    CREATE TABLE faults (kind TEXT, source TEXT, device INTEGER, what TEXT, detail TEXT);
"""
NOTE = """
    INSERT INTO sent (device, number, time, data, stored, refused, unsure)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (device, number) DO UPDATE SET
        time = coalesce(time, excluded.time),
        stored = max(stored, excluded.stored),
        refused = max(refused, excluded.refused),
        unsure = max(unsure, excluded.unsure)
"""


class Unwritable(Exception):
    """The ledger's files cannot be written; the message says why."""


class Attempt(NamedTuple):
    """One request: `sent` at that time in ms, answered with `status` and the JSON `answer`.

    The status is NO_ANSWER where none came; then nobody knows whether it arrived.
    """

    device_id: int
    call: Call
    sent: int
    seconds: float
    status: int
    answer: Any = None


class Outcome(Enum):
    """What an attempt says of one of its samples. STORED is a promise, UNSURE is none."""

    STORED = "stored"
    REFUSED = "refused"
    NOT_TAKEN = "not taken"  # 429: nothing of it was looked at
    UNSURE = "unsure"


Verdict = tuple[Outcome, int | None]  # and the time in ms that it is stored under


class Ledger:
    """Made by `opened`. `run` marks the readings of this simulation."""

    def __init__(self, run: str, tables: sqlite3.Connection, lines: IO[str] | None) -> None:
        self.run = run
        self.tables = tables
        self._lines = lines
        self._names: dict[int, tuple[str, str]] = {}

    def enlist(self, device_id: int, name: str, profile: str, *, is_new: bool) -> None:
        """A device takes part; `is_new` where nobody else has written for it."""
        self._names[device_id] = name, profile
        row = device_id, name, profile, is_new
        self.tables.execute("INSERT INTO devices VALUES (?, ?, ?, ?)", row)

    def mark(self, number: int) -> dict[str, Any]:
        """The metadata by which a reading is known again."""
        return {"simulation": self.run, "n": number}

    def number(self, metadata: Any) -> int | None:
        """The number that a reading was marked with; None where it is not of this simulation."""
        if isinstance(metadata, Mapping) and metadata.get("simulation") == self.run:
            number = metadata.get("n")
            return number if type(number) is int else None
        return None

    def note(self, attempt: Attempt) -> None:
        """Enter an attempt and what its answer says. Raises Unwritable."""
        try:
            self._enter(attempt)
            if self._lines is not None:
                self._lines.write(f"{json.dumps(self._line(attempt))}\n")
        except (OSError, sqlite3.Error) as error:
            raise Unwritable(f"The ledger cannot be written: {error}") from error

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.tables.execute(query, values).fetchall()

    def _enter(self, attempt: Attempt) -> None:
        found = verdicts(attempt)
        device, samples = attempt.device_id, attempt.call.samples
        self.tables.executemany(
            NOTE,
            (
                (
                    *(device, sample.number, time if sample.time is None else sample.time),
                    canonical(sample.values),
                    *(outcome is one for one in (Outcome.STORED, Outcome.REFUSED, Outcome.UNSURE)),
                )
                for sample, (outcome, time) in zip(samples, found, strict=True)
            ),
        )
        told = [
            (sample, time)
            for sample, (_, time) in zip(samples, found, strict=True)
            if time is not None
        ]
        if told:
            rows = [
                (device, sample.number, at)
                for sample, time in told
                for at in {time, time if sample.time is None else sample.time}
            ]
            self.tables.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", rows)
            times = [time for _, time in told]
            event = batch_event(times) if attempt.call.is_batch else single_event(times[0])
            self.tables.execute("INSERT OR IGNORE INTO due VALUES (?, ?)", (device, event))

    def _line(self, attempt: Attempt) -> dict[str, Any]:
        name, profile = self._names[attempt.device_id]
        return {
            "sent": format_ms(attempt.sent),
            "device_id": attempt.device_id,
            "device": name,
            "profile": profile,
            "call": attempt.call.number,
            "again": attempt.call.is_again,
            "keyed": attempt.call.is_keyed,
            "readings": [
                {
                    "n": sample.number,
                    "timestamp": None if sample.time is None else format_ms(sample.time),
                    "data": sample.values,
                }
                for sample in attempt.call.samples
            ],
            "status": attempt.status or None,
            "seconds": round(attempt.seconds, 4),
            "answer": attempt.answer,
        }


@contextmanager
def opened(run: str, lines: Path | None = None) -> Iterator[Ledger]:
    """A new ledger, whose lines go to that file, too. Raises Unwritable."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="simulate-"))
        try:
            file = stack.enter_context(lines.open("w", buffering=1)) if lines else None
        except OSError as error:
            raise Unwritable(f"The ledger cannot be written: {error}") from error
        tables = sqlite3.connect(Path(folder) / "ledger.sqlite3", isolation_level=None)
        stack.callback(tables.close)
        tables.executescript(SCHEMA)
        tables.execute("BEGIN")  # one transaction, never committed: nobody else reads it
        yield Ledger(run, tables, file)


def verdicts(attempt: Attempt) -> list[Verdict]:
    """What the answer says of each sample, in their order."""
    call, status = attempt.call, attempt.status
    if status in (201, 207):
        try:
            return _promises(call, attempt.answer)
        except (LookupError, TypeError, ValueError):  # a 2xx of something else on the way
            return [(Outcome.UNSURE, None)] * len(call.samples)
    if status == 429:
        outcome = Outcome.NOT_TAKEN
    else:
        outcome = Outcome.REFUSED if 300 <= status < 500 else Outcome.UNSURE
    return [(outcome, None)] * len(call.samples)


def _promises(call: Call, answer: Any) -> list[Verdict]:
    if not call.is_batch:
        return [(Outcome.STORED, time_of(answer["timestamp"]))]
    results = sorted(answer["results"], key=lambda result: int(result["index"]))
    if len(results) != len(call.samples):
        raise ValueError("another number of verdicts")
    return [
        (Outcome.STORED, time_of(result["timestamp"]))
        if result["status"] == "stored"
        else (Outcome.REFUSED, None)
        for result in results
    ]


def time_of(text: str) -> int:
    """An answer's time in ms. ValueError for anything else."""
    try:
        return parse_ms(text, 0)
    except NotATime as error:
        raise ValueError(text) from error


def canonical(values: Mapping[str, Any]) -> str:
    """The same text for the same values."""
    return json.dumps(values, sort_keys=True)


def single_event(time: int) -> str:
    """What tells the event of a submission from others of its device."""
    return format_ms(time)


def batch_event(times: Sequence[int]) -> str:
    """What tells the event of a batch of readings of these times from others of its device."""
    return f"{len(times)} readings, {format_ms(min(times))} to {format_ms(max(times))}"


def event_of(payload: Mapping[str, Any]) -> str:
    """The same of an event's payload."""
    if "timestamp" in payload:
        return str(payload["timestamp"])
    return f"{payload.get('readings')} readings, {payload.get('first')} to {payload.get('last')}"
