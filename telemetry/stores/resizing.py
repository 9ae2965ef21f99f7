"""Moving history into partitions of another width, while it is written and read.

A layout passes through states, and each waits until every process knows the one before:

COPYING   written in both places, read in the old one; what is old is copied, cell by cell with its
          own write time and time to live. So a copy never covers what was written or deleted
          meanwhile, and copying again does nothing.
READING   read in the new place, still written in both.
DROPPING  written in the new place only; the old partitions are deleted.
DONE

It may be broken off anywhere and run again.
"""

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

from cassandra.query import UNSET_VALUE
from cassandra.util import Date

from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import LATEST
from telemetry.stores.buckets import DAYS, VERSIONS_MAX, Layout, Layouts, State
from telemetry.stores.cassandra import ROW_BYTES, CassandraStore, Unit
from telemetry.stores.cells import Cell
from telemetry.stores.cql import AWAY, Cql

T = TypeVar("T")
ROWS = 2000  # more than one time can have
DEVICES = 500
TRIES = 5
SAVE_SECONDS = 5.0
FIRST_TOKEN, TOKENS = -(2**63), 2**64
STATEMENTS = {
    "devices": """SELECT DISTINCT device_id, token(device_id) FROM {ks}.device_days
        WHERE token(device_id) > ?""",
    "all_days": "SELECT day FROM {ks}.device_days WHERE device_id = ?",
    "cells": f"""SELECT to_unix_timestamp(ts), key, {", ".join(Cell._fields)},
        {", ".join(f"WRITETIME({name}), TTL({name})" for name in Cell._fields)}
        FROM {{ks}}.device_data WHERE device_id = ? AND day = ? AND ts <= ?
        ORDER BY ts DESC, key ASC LIMIT {ROWS}""",
    "rows": "SELECT kind FROM {ks}.device_data WHERE device_id = ? AND day = ?",
    "drop": "DELETE FROM {ks}.device_data WHERE device_id = ? AND day = ?",
}
NEXT = {State.COPYING: State.READING, State.READING: State.DROPPING, State.DROPPING: State.DONE}


class CannotResize(Exception):
    """Why not, for whoever asked."""


class Resizing:
    """`pause` in seconds: how long until every process knows what was decided.

    `progress` is told how far the present state has come, from 0 to 1. Raises StoreAway.
    """

    def __init__(
        self,
        store: CassandraStore,
        *,
        pause: float,
        say: Callable[[str], None],
        progress: Callable[[float], None],
    ) -> None:
        self._store = store
        self._cql = Cql(STATEMENTS)
        self._pause, self._say, self._progress = pause, say, progress

    def layouts(self) -> tuple[Layout, ...]:
        return self._patiently(self._refreshed)

    def unfinished(self) -> Layout | None:
        return next((layout for layout in self.layouts() if layout.state in NEXT), None)

    def begin(self, *, hours: int, first_day: int, keep_past: bool) -> Layout:
        """Note the next layout, from `first_day` on, which no reading can have reached yet."""
        rows = self.layouts()
        last = rows[-1] if rows else DAYS
        if any(layout.state in NEXT for layout in rows):
            raise CannotResize("The days of the last layout are still being moved.")
        if last.hours == hours:
            raise CannotResize(f"Partitions hold {hours} hours already.")
        if first_day < last.first_day:
            raise CannotResize("The last layout begins later than that.")
        if last.version == VERSIONS_MAX:
            raise CannotResize(f"There were {VERSIONS_MAX} layouts already.")
        state = State.KEPT if keep_past else State.COPYING
        layout = Layout(last.version + 1, hours, first_day, state)
        if not self._patiently(lambda: self._store.layouts.add(layout)):
            raise CannotResize("Somebody else began at the same time.")
        return layout

    def go_on(self) -> None:
        """Move the days of the unfinished layout to the end."""
        while layout := self.unfinished():
            self._say(f"{layout.state.capitalize()}, when all processes know …")
            time.sleep(self._pause)
            if layout.state is State.COPYING:
                self._for_every_device(layout, self._copy)
            elif layout.state is State.DROPPING:
                self._for_every_device(layout, self._drop)
            self._change(layout, NEXT[layout.state])

    # --- device by device ------------------------------------------------------------------------
    def _for_every_device(self, layout: Layout, act: Callable[[Layout, int, int], None]) -> None:
        """By token, from where the last run has come to."""
        token = self._patiently(lambda: self._store.layouts.passed(layout))
        token, saved = FIRST_TOKEN if token is None else token, time.monotonic()
        while devices := self._devices(token):
            for device_id, token in devices:
                for day in self._days(layout, device_id):
                    act(layout, device_id, day)
                self._progress((token - FIRST_TOKEN) / TOKENS)
                if time.monotonic() > saved + SAVE_SECONDS:
                    self._change(layout, layout.state, token)
                    saved = time.monotonic()
        self._progress(1.0)

    def _devices(self, token: int) -> list[tuple[int, int]]:
        """The next ones after a token, with their own."""
        rows = self._read("devices", token, most=DEVICES)
        return [(device_id, token) for device_id, token in rows]

    def _days(self, layout: Layout, device_id: int) -> list[int]:
        days = (day.days_from_epoch for (day,) in self._read("all_days", device_id))
        return [day for day in days if day < layout.first_day]

    def _before(self, layout: Layout, day: int) -> Layout:
        """Where the day was before this layout."""
        rows = [row for row in self._store.layouts.get().rows if row.version < layout.version]
        return Layouts(tuple(rows)).reading(day)

    def _copy(self, layout: Layout, device_id: int, day: int) -> None:
        old = self._before(layout, day)
        for partition in old.partitions(day):
            until = old.bounds(partition)[1]
            while rows := self._read("cells", device_id, Date(partition), min(until, LATEST)):
                self._put([self._unit(layout, device_id, row) for row in rows if _is_there(row[2])])
                if len(rows) < ROWS:
                    break
                until = rows[-1][0]  # once more, for some of its rows may be on the next page
        self._verify(layout, old, device_id, day)

    def _put(self, units: list[Unit]) -> None:
        self._patiently(lambda: self._store._send(units))

    def _unit(self, layout: Layout, device_id: int, row: Sequence[Any]) -> Unit:
        """A row in its new place: a statement for each write time that its cells have."""
        ts, key, *rest = row
        width = len(Cell._fields)
        values, stamps = rest[:width], rest[width:]
        cells = [
            (stamps[2 * n], stamps[2 * n + 1] or 0, n)
            for n in range(width)
            if stamps[2 * n] is not None
        ]
        place = (device_id, Date(layout.partition(ts)), ts, key)
        bound, write = [], self._store._cql.prepared["write"]
        for (written, ttl), alike in groupby(sorted(cells), key=lambda cell: cell[:2]):
            there = {n for *_, n in alike}
            cell = [values[n] if n in there else UNSET_VALUE for n in range(width)]
            bound.append(write.bind((*place, *cell, written, ttl)))
        size = sum(4 * len(value) for value in (*values, key) if isinstance(value, str))
        return Unit(bound, len(bound) * ROW_BYTES + size)

    def _verify(self, layout: Layout, old: Layout, device_id: int, day: int) -> None:
        """As many rows in both places; what comes in meanwhile is allowed for by looking again."""
        for _ in range(TRIES):
            before, after = (
                sum(self._count(device_id, partition) for partition in place.partitions(day))
                for place in (old, layout)
            )
            if before == after:
                return
            time.sleep(1)
        raise CannotResize(
            f"Device {device_id} has {before} rows on day {Date(day)} and {after} where they were "
            "copied to. Nothing was dropped; running it again copies that device again."
        )

    def _drop(self, layout: Layout, device_id: int, day: int) -> None:
        for partition in self._before(layout, day).partitions(day):
            self._read("drop", device_id, Date(partition))

    # --- asking patiently ------------------------------------------------------------------------
    def _refreshed(self) -> tuple[Layout, ...]:
        self._store.layouts.refresh()
        return self._store.layouts.get().rows

    def _change(self, layout: Layout, state: State, token: int | None = None) -> None:
        if not self._patiently(lambda: self._store.layouts.change(layout, state, token)):
            raise CannotResize("Somebody else is at it too. Run it again, once.")

    def _count(self, device_id: int, partition: int) -> int:
        return self._patiently(
            lambda: sum(
                _is_there(kind) for (kind,) in self._cql.read("rows", device_id, Date(partition))
            )
        )

    def _read(self, statement: str, *parameters: Any, most: int | None = None) -> list[Any]:
        def read() -> list[Any]:
            rows = iter(self._cql.read(statement, *parameters))
            return [row for _, row in zip(range(most or 2**62), rows, strict=False)]

        return self._patiently(read)

    def _patiently(self, act: Callable[[], T]) -> T:
        """What runs for hours does not end for a time-out."""
        for attempt in range(TRIES):
            try:
                return act()
            except AWAY as error:
                if attempt == TRIES - 1:
                    raise StoreAway("Cassandra") from error
                time.sleep(1)
        raise AssertionError("unreachable")


def _is_there(kind: str | None) -> bool:
    """Whether a row has a value: one that has expired may leave another type's column behind."""
    return kind is not None
