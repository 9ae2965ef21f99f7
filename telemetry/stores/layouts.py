"""The layouts of this keyspace, known to every process within REFRESH_SECONDS."""

import threading
import time

from telemetry.stores.buckets import Layout, Layouts, State
from telemetry.stores.cql import Cql

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

    Raises what the driver raises.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql
        self._lock = threading.Lock()
        self._known = Layouts()
        self._until = 0.0

    def get(self) -> Layouts:
        if time.monotonic() > self._until:
            with self._lock:
                if time.monotonic() > self._until:
                    self.refresh()
        return self._known

    def refresh(self) -> None:
        begun = time.monotonic()
        rows = self._cql.execute("layouts", TABLE)
        self._known = Layouts(
            tuple(
                Layout(version, hours, first_day, State(state))
                for version, hours, first_day, state in rows
            )
        )
        self._until = begun + REFRESH_SECONDS

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
