"""The layouts of this keyspace, known to every process within REFRESH_SECONDS."""

import threading
import time
from collections.abc import Iterable
from math import inf

from telemetry.stores.buckets import VERSIONS_MAX, Layout, Layouts, State
from telemetry.stores.cql import Cql, Row

REFRESH_SECONDS = 5.0
TABLE = "device_data"
STATEMENTS = {
    "layouts": """SELECT version, hours, first_day, state FROM {ks}.bucket_layouts
        WHERE of_table = ?""",
    "add_layout": """INSERT INTO {ks}.bucket_layouts
        (of_table, version, hours, first_day, state) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS""",
    "change_layout": """UPDATE {ks}.bucket_layouts SET state = ?, passed = ?
        WHERE of_table = ? AND version = ? IF state = ?""",
    "passed": "SELECT passed FROM {ks}.bucket_layouts WHERE of_table = ? AND version = ?",
}


class StoredLayouts:
    """Never older than REFRESH_SECONDS: a process that cannot ask does not go on by what it knew.

    After half of that they are asked for beside the work, so that it waits for them only where
    there was none for a while. Raises what the driver raises.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql
        self._lock = threading.Lock()
        # Apart: the driver's own thread takes it, and the other is held while that is waited for.
        self._knowing = threading.Lock()
        self._known = Layouts()
        self._asked = -inf  # when, for those that are known
        self._ahead = -inf  # when last beside the work

    def get(self) -> Layouts:
        now = time.monotonic()
        if now > self._asked + REFRESH_SECONDS:
            with self._lock:
                if now > self._asked + REFRESH_SECONDS:
                    self.refresh()
        elif now > max(self._asked, self._ahead) + REFRESH_SECONDS / 2:
            self._ahead = now
            future = self._cql.begin("layouts", TABLE, fetch=VERSIONS_MAX)
            future.add_callbacks(lambda rows: self._know(rows, now), lambda error: None)
        return self._known

    def refresh(self) -> None:
        begun = time.monotonic()
        self._know(self._cql.execute("layouts", TABLE), begun)

    def _know(self, rows: Iterable[Row], asked: float) -> None:
        known = Layouts(
            tuple(
                Layout(version, hours, first_day, State(state))
                for version, hours, first_day, state in rows
            )
        )
        with self._knowing:
            if asked > self._asked:
                self._known, self._asked = known, asked

    def add(self, layout: Layout) -> bool:
        """Whether it was added: False where its version is there already."""
        row = (layout.version, layout.hours, layout.first_day, layout.state)
        [(added, *_)] = self._cql.read("add_layout", TABLE, *row)
        return bool(added)

    def change(self, layout: Layout, state: State, passed: int | None = None) -> bool:
        """Set the state and how far it has come; False where another was faster."""
        row = (state, passed, TABLE, layout.version, layout.state)
        [(changed, *_)] = self._cql.read("change_layout", *row)
        return bool(changed)

    def passed(self, layout: Layout) -> int | None:
        """How far the copying or the dropping has come, as a token."""
        [(token,)] = self._cql.execute("passed", TABLE, layout.version)
        return None if token is None else int(token)
