"""The ledger, held against what the witnesses say is there: each fault, and a table by profile.

Everything is compared inside the ledger's file, so a long run takes no more memory than a short
one.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from iotflow.lib.batches import unheard
from iotflow.lib.timeparse import format_ms
from telemetry.fleet import SimulatedDevice
from telemetry.simulated.ledger import Ledger, canonical
from telemetry.simulated.witnesses import Witness

EXAMPLES = 3
POLL_SECONDS = 1.0
HOUR_MS = 3_600_000
HEADINGS = ("profile", "devices", "readings", "acknowledged", "refused", "unsure", "not taken")


class Fault(Enum):
    """What may be wrong, by the name it has in the table."""

    LOST = "lost"  # acknowledged, and not there
    CHANGED = "changed"  # there with other values or at another time
    DOUBLED = "doubled"  # there more than once, or acknowledged under two times
    EXTRA = "extra"  # there though it was refused, or never sent
    LATEST = "latest"  # the latest values are not those of the newest reading
    EVENTS = "events"  # not one event for a call that was acknowledged


# Each selects what tells a fault of a device from others of its kind, and an example. `found` and
# `events` hold what one witness says of this one device.
MISSING = """
    SELECT event, 'none of ' || event FROM due
    WHERE device = :device AND event NOT IN (SELECT event FROM events)"""
COMPARISONS = {
    Fault.LOST: """
        SELECT number, reading(number, time) FROM sent
        WHERE device = :device AND stored
            AND NOT EXISTS (SELECT 1 FROM found WHERE found.number = sent.number)""",
    Fault.CHANGED: """
        SELECT number,
            reading(number, sent.time) || ' is ' || found.data || ' of ' || iso(found.time)
        FROM sent JOIN found USING (number)
        WHERE device = :device AND (stored OR unsure)
            AND (found.data != sent.data OR found.time != ifnull(sent.time, found.time))
        GROUP BY number HAVING count(*) = 1
            AND (SELECT count(*) FROM found WHERE found.number = sent.number) = 1""",
    Fault.DOUBLED: """
        SELECT number, reading(number, sent.time) || ' is there ' || count(*) || ' times'
        FROM sent JOIN found USING (number)
        WHERE device = :device GROUP BY number HAVING count(*) > 1
        UNION ALL
        SELECT number, reading(number, NULL) || ' was acknowledged under ' || count(*) || ' times'
        FROM told WHERE device = :device GROUP BY number HAVING count(*) > 1""",
    Fault.EXTRA: """
        SELECT number, reading(number, time) || ', which was not taken' FROM sent
        WHERE device = :device AND NOT stored AND NOT unsure
            AND EXISTS (SELECT 1 FROM found WHERE found.number = sent.number)
        UNION ALL
        SELECT iso(found.time), 'one of ' || iso(found.time) || ', which nobody sent' FROM found
        LEFT JOIN sent ON sent.device = :device AND sent.number = found.number
        WHERE sent.device IS NULL
            AND (found.number IS NOT NULL OR (SELECT is_new FROM devices WHERE id = :device))""",
    Fault.EVENTS: f"""
        {MISSING}
        UNION ALL
        SELECT event, count(*) || ' of ' || event FROM events GROUP BY event HAVING count(*) > 1
    """,  # noqa: S608
}
NEWEST = """
    SELECT ifnull(sent.time, there.time) AS at, sent.data FROM sent
    LEFT JOIN (SELECT number, max(time) AS time FROM found GROUP BY number) AS there
        USING (number)
    WHERE device = :device AND (stored OR (unsure AND there.time IS NOT NULL))
    ORDER BY at DESC LIMIT 1"""
TOTALS = """
    SELECT profile, count(DISTINCT id), count(number), ifnull(sum(stored), 0),
        ifnull(sum(refused AND NOT stored AND NOT unsure), 0),
        ifnull(sum(unsure AND NOT stored), 0),
        ifnull(sum(NOT stored AND NOT unsure AND NOT refused), 0)
    FROM devices LEFT JOIN sent ON sent.device = devices.id
    GROUP BY profile ORDER BY min(devices.id)"""
FAULTS = """
    SELECT profile, kind, count(DISTINCT device || ' ' || what)
    FROM faults JOIN devices ON devices.id = device GROUP BY profile, kind"""
SHOWN = """
    SELECT name, source, detail FROM faults JOIN devices ON devices.id = device
    WHERE kind = ? LIMIT ?"""


@dataclass(slots=True)
class Settlement:
    """What came out: `faults` by profile and kind, examples of each kind, what could not be asked.

    `acknowledged` counts readings; `remarks` are for the reader and no faults.
    """

    table: str = ""
    acknowledged: int = 0
    faults: int = 0
    examples: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def settle(
    ledger: Ledger,
    devices: Sequence[SimulatedDevice],
    witnesses: Sequence[Witness],
    begun: int,
    patience: float = 0.0,
    advance: Callable[[int], object] = unheard,
) -> Settlement:
    """Hold the ledger of a run that began at `begun` (ms) against each witness.

    Events that are missing are asked for again for `patience` seconds in all. `advance` is told of
    each device. Raises Silent where a witness does not answer.
    """
    until = time.monotonic() + patience
    ledger.tables.create_function("iso", 1, format_ms, deterministic=True)
    ledger.tables.create_function("reading", 2, reading, deterministic=True)
    outcome = Settlement()
    for witness in witnesses:
        if wrong := witness.wait():
            outcome.remarks.append(wrong)
        for device in devices:
            _hear_readings(ledger, witness, device, begun)
            _hear_events(ledger, witness, device, begun, until)
            _compare(ledger, witness, device)
            advance(1)
    if not all(witness.knows_events for witness in witnesses):
        outcome.remarks.append("The API was not asked for events: only their owner is told.")
    _sum_up(ledger, outcome)
    return outcome


def reading(number: int, time: int | None) -> str:
    """A reading, for people."""
    return f"reading {number}" if time is None else f"reading {number} of {format_ms(time)}"


def _hear_readings(ledger: Ledger, witness: Witness, device: SimulatedDevice, begun: int) -> None:
    """Take down what the witness says of the device's readings."""
    [(first,)] = ledger.rows("SELECT min(time) FROM sent WHERE device = ?", device.id)
    start = min(begun, begun if first is None else first) - HOUR_MS
    ledger.tables.execute("DELETE FROM found")
    for page in witness.history(device, start):
        rows = [(ledger.number(it.metadata), it.time, canonical(it.values)) for it in page]
        ledger.tables.executemany("INSERT INTO found VALUES (?, ?, ?)", rows)


def _hear_events(
    ledger: Ledger, witness: Witness, device: SimulatedDevice, begun: int, until: float
) -> None:
    """The same of its events, until none is missing or that time (of time.monotonic) has come."""
    while witness.knows_events:
        ledger.tables.execute("DELETE FROM events")
        for page in witness.events(device, begun - HOUR_MS):
            rows = [(event,) for event in page]
            ledger.tables.executemany("INSERT INTO events VALUES (?)", rows)
        missing = ledger.tables.execute(MISSING, {"device": device.id}).fetchone()
        if missing is None or time.monotonic() > until:
            return
        time.sleep(POLL_SECONDS)


def _compare(ledger: Ledger, witness: Witness, device: SimulatedDevice) -> None:
    enter = "INSERT INTO faults VALUES (?, ?, ?, ?, ?)"
    for kind, comparison in COMPARISONS.items():
        if kind is Fault.EVENTS and not witness.knows_events:
            continue
        found = ledger.tables.execute(comparison, {"device": device.id})
        rows = ((kind.value, witness.name, device.id, *fault) for fault in found)
        ledger.tables.executemany(enter, rows)
    if wrong := _latest_fault(ledger, witness, device):
        ledger.tables.execute(enter, (Fault.LATEST.value, witness.name, device.id, "", wrong))


def _latest_fault(ledger: Ledger, witness: Witness, device: SimulatedDevice) -> str:
    """Why the latest values are not those of the newest reading; empty where they are."""
    newest = ledger.tables.execute(NEWEST, {"device": device.id}).fetchone()
    if newest is None:
        return ""
    at, values = newest[0], json.loads(newest[1])
    latest = witness.latest(device)
    [(is_new,)] = ledger.rows("SELECT is_new FROM devices WHERE id = ?", device.id)
    if latest.time is not None and latest.time > at and not is_new:
        return ""  # of a simulation before this one, whose clock was ahead
    found = {name: latest.values.get(name) for name in values}  # a device may have others besides
    if latest.time == at and found == values:
        return ""
    said = "nothing" if latest.time is None else f"{found} of {format_ms(latest.time)}"
    return f"{said}, not {values} of {format_ms(at)}"


def _sum_up(ledger: Ledger, outcome: Settlement) -> None:
    wrong = {(profile, kind): count for profile, kind, count in ledger.rows(FAULTS)}
    totals = ledger.rows(TOTALS)
    rows = [
        [str(value) if isinstance(value, str) else f"{value:,}" for value in total]
        + [f"{wrong.get((total[0], kind.value), 0):,}" for kind in Fault]
        for total in totals
    ]
    outcome.acknowledged = sum(total[3] for total in totals)
    outcome.faults = sum(wrong.values())
    outcome.table = table([*HEADINGS, *(kind.value for kind in Fault)], rows)
    for kind in Fault:
        for name, source, detail in ledger.rows(SHOWN, kind.value, EXAMPLES):
            outcome.examples.append(f"{kind.value}, {source}: {name}: {detail}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right of the first."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
