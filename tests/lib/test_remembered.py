"""A table that every process has in memory: as fresh as is said, and it never fails."""

import threading
import time

import pytest
from django.db import DatabaseError

from iotflow.lib import remembered
from iotflow.lib.remembered import Remembered


class Table:
    """A table that can be changed, and be away."""

    def __init__(self) -> None:
        self.value, self.is_away, self.reads = "first", False, 0

    def read(self) -> str:
        self.reads += 1
        if self.is_away:
            raise DatabaseError
        return self.value


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def known(table) -> Remembered[str]:
    return Remembered("a table", table.read, "unknown")


def settled() -> None:
    for thread in threading.enumerate():
        if thread.name == "a table":
            thread.join()


def test_it_is_read_once_for_many_who_ask(known, table):
    assert {known() for _ in range(100)} == {"first"}
    assert table.reads == 1


def test_what_another_process_has_changed_is_known_soon(known, table, monkeypatch):
    monkeypatch.setattr(remembered, "FRESH_SECONDS", 0.01)
    known()
    table.value = "second"
    deadline = time.monotonic() + 20
    while known() != "second":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    settled()


def test_who_changes_it_knows_at_once(known, table):
    known()
    table.value = "second"
    known.reload()
    assert known() == "second"


def test_with_the_database_away_what_is_known_holds(known, table):
    known()
    table.is_away = True
    known.reload()
    assert known() == "first"


def test_who_could_never_read_it_goes_by_what_is_said_for_that(known, table):
    table.is_away = True
    assert known() == "unknown"
    table.is_away = False
    known.reload()
    assert known() == "first"
