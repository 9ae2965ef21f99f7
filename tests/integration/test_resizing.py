"""Partitions of Cassandra get another width while they are written and read."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from iotflow.lib.timeparse import EARLIEST, LATEST, now_ms
from telemetry.readings import Deletion, HistoryQuery, Reading
from telemetry.stores import telemetry_store
from tests.numbers import device_numbers

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
HOUR, DAY = 3_600_000, 86_400_000
NOON = 1_733_313_600_000  # 2024-12-04T12:00Z


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """The process's own, with no layout but the first, and one that sees each change at once."""
    from telemetry.stores import layouts

    monkeypatch.setattr(layouts, "REFRESH_SECONDS", 0.0)
    store = telemetry_store()
    forget(store)
    yield store
    forget(store)


def forget(store) -> None:
    session = connections["cassandra"].connection.session
    session.execute(f"TRUNCATE {settings.CASSANDRA_KEYSPACE}.bucket_layouts", timeout=30)
    store.layouts.refresh()


@pytest.fixture
def device(store) -> Iterator[int]:
    device = next(device_numbers)
    yield device
    store.erase(device, 7, 0)


def resizing(store, say=lambda text: None):
    from telemetry.stores.resizing import Resizing

    return Resizing(store, pause=0, say=say, progress=lambda part: None)


def today() -> int:
    return now_ms() // DAY


def written() -> int:
    time.sleep(0.000_002)
    return time.time_ns() // 1000


def write(store, device: int, at: int, **values) -> None:
    store.write([Reading(device, 7, at, written(), values, None, 0)])


def history(store, device: int) -> dict[int, dict]:
    found = store.history(HistoryQuery(device, start=EARLIEST, end=LATEST, limit=10_000))
    times = [reading.time for reading in found.readings]
    assert times == sorted(times, reverse=True)
    return {reading.time: dict(reading.values) for reading in found.readings}


def partitions(device: int) -> dict[int, int]:
    """How many rows are in which partition, whatever the layouts say."""
    session = connections["cassandra"].connection.session
    rows = session.execute(
        f"SELECT day FROM {settings.CASSANDRA_KEYSPACE}.device_data "
        f"WHERE device_id = {device} ALLOW FILTERING",
        timeout=30,
    )
    days = [row["day"] if isinstance(row, dict) else row[0] for row in rows]
    return {day: len(list(same)) for day, same in
            itertools.groupby(sorted(day.days_from_epoch for day in days))}  # fmt: skip


def test_days_are_moved_with_late_readings_and_deletions_meanwhile(store, device):
    expected = {}
    for n in range(60):
        at = NOON - n * HOUR
        write(store, device, at, a=n, b=f"text {n}", c=n / 2)
        expected[at] = {"a": n, "b": f"text {n}", "c": n / 2}
    write(store, device, NOON, a="another type")
    expected[NOON]["a"] = "another type"
    assert history(store, device) == expected
    before = partitions(device)
    assert max(before) == NOON // DAY

    def meanwhile(text: str) -> None:
        """Before each step: something late, a correction, and a deletion."""
        step = steps.index(text.split(",")[0])
        late = NOON - 30 * HOUR - step - 1
        write(store, device, late, a=-step)
        expected[late] = {"a": -step}
        write(store, device, NOON - HOUR, a=1000 + step)
        expected[NOON - HOUR]["a"] = 1000 + step
        gone = NOON - (40 + step) * HOUR
        store.delete(Deletion(device, 7, gone, gone, 0, 1))
        del expected[gone]
        assert history(store, device) == expected

    steps = ["Copying", "Reading", "Dropping"]
    moving = resizing(store, say=meanwhile)
    moving.begin(hours=6, first_day=today() + 2, keep_past=False)
    moving.go_on()

    assert history(store, device) == expected
    assert [layout.state for layout in moving.layouts()] == ["done"]
    after = partitions(device)
    assert not set(before) & set(after)
    assert len(after) > 2 * len(before)

    # … and back, into partitions that were never used
    again = resizing(store)
    again.begin(hours=24, first_day=today() + 3, keep_past=False)
    again.go_on()
    assert history(store, device) == expected
    assert not set(partitions(device)) & (set(before) | set(after))


def test_broken_off_at_any_step_it_goes_on(store, device):
    for n in range(50):
        write(store, device, NOON - n * HOUR, a=n)
    expected = history(store, device)
    resizing(store).begin(hours=3, first_day=today() + 2, keep_past=False)
    for step in ("Copying", "Reading", "Dropping"):

        def fail(text: str, step: str = step) -> None:
            if text.startswith(step):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            resizing(store, say=fail).go_on()
        assert history(store, device) == expected
    resizing(store).go_on()
    assert history(store, device) == expected


def test_a_copy_keeps_when_it_was_written_and_when_it_expires(store, device):
    write(store, device, NOON + 1, a=2)
    connections["cassandra"].connection.session.execute(
        f"INSERT INTO {settings.CASSANDRA_KEYSPACE}.device_data "
        f"(device_id, day, ts, key, kind, long_value) VALUES ({device}, '2024-12-04', {NOON}, "
        f"'a', 'int', 1) USING TTL 864000 AND TIMESTAMP {written()}"
    )

    def stamps() -> list[tuple[int, int | None]]:
        session = connections["cassandra"].connection.session
        rows = session.execute(
            "SELECT ts, WRITETIME(kind) AS at, TTL(kind) AS ttl "
            f"FROM {settings.CASSANDRA_KEYSPACE}.device_data WHERE device_id = {device} "
            "ALLOW FILTERING"
        )
        found = [row.values() if isinstance(row, dict) else row for row in rows]
        return [(at, ttl) for _, at, ttl in sorted(found, key=lambda row: next(iter(row)))]

    before = stamps()
    moving = resizing(store)
    moving.begin(hours=12, first_day=today() + 2, keep_past=False)
    moving.go_on()
    after = stamps()
    assert [at for at, _ in after] == [at for at, _ in before]
    assert 864_000 >= before[0][1] >= after[0][1] > 864_000 - 120
    assert before[1][1] is None and after[1][1] is None  # noqa: PT018


def test_what_an_expired_value_left_behind_is_not_moved(store, device):
    """A value of another type, written before under a longer retention, keeps its row alive."""
    write(store, device, NOON, a=1.5, b=1)
    connections["cassandra"].connection.session.execute(
        f"INSERT INTO {settings.CASSANDRA_KEYSPACE}.device_data "
        f"(device_id, day, ts, key, kind, text_value) VALUES ({device}, '2024-12-04', {NOON}, "
        f"'a', 'text', 'x') USING TTL 1 AND TIMESTAMP {written()}"
    )
    time.sleep(2.5)
    expected = history(store, device)
    assert expected == {NOON: {"b": 1}}
    moving = resizing(store)
    moving.begin(hours=12, first_day=today() + 2, keep_past=False)
    moving.go_on()
    assert history(store, device) == expected


def test_new_days_alone_can_have_parts(store, device):
    first = today() + 1
    write(store, device, NOON, a=1)
    resizing(store).begin(hours=6, first_day=first, keep_past=True)
    write(store, device, NOON + 1, a=2)
    write(store, device, first * DAY + 1, a=3)  # as from tomorrow on
    assert history(store, device) == {
        NOON: {"a": 1},
        NOON + 1: {"a": 2},
        first * DAY + 1: {"a": 3},
    }
    places = partitions(device)
    assert places[NOON // DAY] == 2
    assert len(places) == 2
    assert max(places) > 10**8


def test_the_command_says_what_it_would_do_does_it_and_tells(store, device, capsys):
    write(store, device, NOON, a=1)
    day = (datetime.now(UTC) + timedelta(days=3)).date()
    call_command("resize_buckets", "--hours=6", f"--from={day}", "--dry-run")
    assert f"From {day} on 6 h a partition" in capsys.readouterr().out
    call_command("resize_buckets", "--hours=6", f"--from={day}", "--pause=0")
    assert f"1. from {day} on 6 h; earlier days: done" in capsys.readouterr().out
    call_command("resize_buckets")
    assert "From the beginning 24 h" in capsys.readouterr().out
    with pytest.raises(CommandError, match="hold 6 hours already"):
        call_command("resize_buckets", "--hours=6", f"--from={day}")
    with pytest.raises(CommandError, match="Readings may have reached that day"):
        call_command("resize_buckets", "--hours=3", "--from=2024-12-04")
    assert history(store, device) == {NOON: {"a": 1}}
