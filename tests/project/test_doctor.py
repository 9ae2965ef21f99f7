"""manage.py doctor: what it says of the installation as a whole, with stores away too."""

import io
import json
import os
import re
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from devices import notices, presence
from devices.models import BrokerNotice, Device
from events import log, outbox
from events.kinds import Kind
from events.models import EventLog, Outbox
from iotflow import clocks, doctor, health, versions
from iotflow.lib.errors import StoreAway
from iotflow.lib.findings import ok, problem
from iotflow.lib.redis import redis
from telemetry import diagnosis, latest
from telemetry.models import DeviceData, Erasure
from telemetry.mqtt import figures
from telemetry.mqtt.figures import Figures
from tests.environment import CHOICES, ROOT, STORES


def examined() -> list[dict]:
    out = io.StringIO()
    with suppress(CommandError):  # where there is a problem
        call_command("doctor", "--json", stdout=out)
    return json.loads(out.getvalue())["findings"]


def of(check: str) -> list[tuple[str, str]]:
    return [(row["level"], row["what"]) for row in examined() if row["check"] == check]


def test_a_sound_installation_has_no_problem_and_every_store_tells_its_version():
    rows = examined()
    assert {row["check"] for row in rows} == set(doctor.CHECKS)
    assert [row for row in rows if row["level"] == "problem"] == []
    stores = [row["what"] for row in rows if row["check"] == "stores"]
    assert len(stores) == 4
    assert all("answers: " in what and " ms." in what for what in stores)


def test_it_is_read_by_people_too(capsys):
    call_command("doctor", no_color=True)
    text = capsys.readouterr().out
    assert "stores\n  ok  The database (DATABASE_URL) answers: " in text
    assert text.splitlines()[-1].startswith("0 problem(s), ")


def test_a_problem_is_exit_code_1_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", {"one": lambda: [ok("Fine."), problem("Bad.", "Mend.")]})
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"1 problem\(s\) found") as caught:
        call_command("doctor", "--json", stdout=out)
    assert caught.value.returncode == 1
    assert json.loads(out.getvalue()) == {
        "findings": [
            {"check": "one", "level": "ok", "what": "Fine.", "do": ""},
            {"check": "one", "level": "problem", "what": "Bad.", "do": "Mend."},
        ],
        "ok": 1,
        "warning": 0,
        "problem": 1,
    }


@pytest.mark.parametrize(
    "error", [StoreAway("Cassandra"), DatabaseError("gone\nfurther"), DatabaseError()]
)
def test_a_check_whose_store_is_away_keeps_no_other_from_looking(monkeypatch, error):
    def away():
        raise error

    monkeypatch.setattr(doctor, "CHECKS", {"one": away, "two": lambda: [ok("Fine.")]})
    one, two = examined()
    assert one["what"].startswith("This cannot be looked at now: ")
    assert "further" not in one["what"]
    assert two["what"] == "Fine."


def test_a_migration_that_lacks_is_named():
    last = MigrationRecorder.Migration.objects.filter(app="telemetry").latest("name")
    last.delete()
    try:
        findings = list(doctor.migrations())
    finally:
        MigrationRecorder.Migration.objects.create(app="telemetry", name=last.name)
    assert findings[0].level == "problem"
    assert f"telemetry.{last.name}" in findings[0].what
    assert "setup_stores" in findings[0].do


def test_events_that_wait_for_long_are_told():
    outbox.put([log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, "waiting", actor="test")])
    assert of("events") == [("ok", "1 event(s) wait in the outbox.")]
    Outbox.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    [(level, what)] = of("events")
    assert level == "warning"
    assert "the oldest for 12" in what


def test_erasures_that_wait_for_long_are_told():
    Erasure.objects.create(device_id=1, owner_id=1, latest_epoch=0)
    assert [level for level, _ in of("deletions")] == ["ok", "ok"]
    Erasure.objects.update(requested_at=timezone.now() - timedelta(hours=1))
    assert [level for level, _ in of("deletions")] == ["warning", "ok"]


class TestBroker:
    def test_where_none_is_named_there_is_nothing_to_say(self):
        assert of("broker") == [("ok", "No broker is named (MQTT_URL).")]

    def test_a_bridge_that_is_missing_and_a_notice_that_waits_are_told(self, settings, sensor):
        settings.MQTT_URL = "mqtt://bridge:word@localhost"
        assert [level for level, _ in of("broker")] == ["warning"]
        figures.note("bridge", Figures(is_connected=True))
        assert of("broker") == [("ok", "Connected to the broker: bridge.")]
        notices.keys_ended([sensor.id])
        BrokerNotice.objects.update(created_at=timezone.now() - timedelta(minutes=2))
        (_, _), (level, what) = of("broker")
        assert level == "warning"
        assert "has not been told of a device for 12" in what


# --- Versions and clocks --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("server", "level"),
    [
        ("PostgreSQL 13.9", "problem"),
        ("PostgreSQL 15.4", "ok"),
        ("Apache Cassandra 4.1.3", "problem"),
        ("Redis 6.0.16", "problem"),
        ("MongoDB 8.0.4", "ok"),
        ("SQLite 3.30.1", "problem"),
    ],
)
def test_a_server_that_is_too_old_is_told(monkeypatch, server, level):
    store = health.StoreHealth(True, server, 1.0)
    monkeypatch.setattr(health, "stores", lambda: {"database": store})
    found = next(iter(versions.versions()))
    assert found.level == level
    assert server in found.what


def test_packages_other_than_those_pinned_are_told(settings, tmp_path):
    (tmp_path / "requirements.txt").write_text("django==1.0\nnothing-of-this-name[x]==2.0\n")
    settings.BASE_DIR = tmp_path
    [(level, what)] = [row for row in of("versions") if "Packages" in row[1]]
    assert level == "warning"
    assert "django 5." in what
    assert "nothing-of-this-name nothing instead of 2.0" in what


def test_the_clocks_of_this_run_agree():
    assert {level for level, _ in of("clocks")} == {"ok"}
    assert len(of("clocks")) == (4 if STORES == "real" else 1)


@pytest.mark.parametrize(("off", "side"), [(5, "ahead of"), (-5, "behind")])
def test_a_clock_that_is_off_is_told(monkeypatch, off, side):
    monkeypatch.setattr(clocks, "CLOCKS", {"Redis": lambda: round(1000 * (time.time() + off))})
    [(level, what)] = of("clocks")
    assert level == "warning"
    assert re.fullmatch(rf"Redis's clock is [45]\.\d s {side} this host's\.", what)


def test_an_answer_that_took_long_is_no_clock_that_is_off(monkeypatch):
    def slowly() -> int:
        now = round(1000 * time.time())
        time.sleep(1.2)
        return now

    assert clocks.offset(slowly) == 0


# --- Tables ---------------------------------------------------------------------------------------
def test_an_index_that_was_dropped_is_told():
    index = DeviceData._meta.indexes[0]
    with connections["default"].schema_editor() as editor:
        editor.remove_index(DeviceData, index)
    try:
        assert f"lacks index {index.name}." in of("schema")[0][1]
        assert of("schema")[0][0] == "problem"
    finally:
        with connections["default"].schema_editor() as editor:
            editor.add_index(DeviceData, index)
    assert [level for level, _ in of("schema")] == ["ok", "ok"]


def test_an_index_of_the_event_log_that_was_dropped_is_told():
    index = EventLog._meta.indexes[0]
    with connections["events"].schema_editor() as editor:
        editor.remove_index(EventLog, index)
    try:
        assert any(index.name in what for level, what in of("schema") if level == "problem")
    finally:
        with connections["events"].schema_editor() as editor:
            editor.add_index(EventLog, index)


@pytest.mark.real
class TestCassandra:
    @pytest.fixture
    def alter(self):
        from telemetry.stores.cql import open_session

        def alter(table: str, change: str) -> None:
            keyspace = django_settings.CASSANDRA_KEYSPACE
            open_session().execute(f"ALTER TABLE {keyspace}.{table} {change}", timeout=60)

        return alter

    @pytest.mark.parametrize(
        ("table", "change", "back", "told"),
        [
            (
                "device_data",
                "WITH default_time_to_live = 3600",
                "WITH default_time_to_live = 0",
                "Table device_data has default_time_to_live",
            ),
            (
                "rollup_progress",
                "WITH gc_grace_seconds = 60",
                "WITH gc_grace_seconds = 10800",
                "Table rollup_progress has gc_grace_seconds 60, not 10800.",
            ),
            (
                "rollups",
                "WITH compaction = {'class': 'SizeTieredCompactionStrategy'}",
                "WITH compaction = {'class': 'LeveledCompactionStrategy'}",
                "Table rollups is compacted with class SizeTieredCompactionStrategy",
            ),
        ],
    )
    def test_a_table_that_was_changed_is_told(self, alter, table, change, back, told):
        assert of("drift") == [
            ("ok", "Telemetry store: its tables are as this version makes them.")
        ]
        alter(table, change)
        try:
            [(level, what)] = of("drift")
        finally:
            alter(table, back)
        assert level == "warning"
        assert told in what

    def test_a_large_partition_is_told(self, sensor, monkeypatch):
        assert [level for level, _ in of("partitions")] == ["ok"]
        monkeypatch.setattr(diagnosis, "PARTITION_BYTES", -1)
        found = [what for level, what in of("partitions") if level == "warning"]
        assert any(what.startswith("A partition of device_data has ") for what in found)


@pytest.mark.real
class TestCaches:
    def test_what_redis_has_otherwise_than_its_store_is_told(self, sensor):
        assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 201
        assert sensor.api.get(f"/telemetry/{sensor.id}/latest").status == 200  # fills the cache
        presence.flush(0)
        assert [level for level, _ in of("caches")] == ["ok", "ok"]
        place = sensor.id, 0
        with redis() as client:
            time_, written, _ = client.hget(latest.latest_key(place), "a").decode().split(":")
            client.hset(latest.latest_key(place), "a", f"{time_}:{written}:2")
        Device.objects.filter(pk=sensor.id).update(status="inactive")  # past the application
        told = of("caches")
        assert [level for level, _ in told] == ["problem", "problem"]
        assert "other latest values than the store of 1 device(s)" in told[0][1]
        assert f"other keys than the store of 1 device(s): {sensor.id}." in told[1][1]

    def test_no_more_devices_are_looked_at_than_was_said(self, alice, make_device):
        for _ in range(3):
            make_device(alice).api.get("/devices/status")
        out = io.StringIO()
        call_command("doctor", "--json", "--sample", "2", stdout=out)
        found = [row["what"] for row in json.loads(out.getvalue())["findings"]]
        assert "Redis and the stores agree on keys (2 compared)." in found


# --- Deployment -----------------------------------------------------------------------------------
def test_where_clients_come_by_https_the_checks_of_deployment_are_run(settings):
    settings.SECURE_HSTS_SECONDS = 0
    settings.ALLOW_HTTP = True
    assert not any("security.W004" in what for _, what in of("settings"))
    settings.ALLOW_HTTP = False
    assert any("security.W004" in what for _, what in of("settings"))


def test_with_every_store_away_it_says_so_soon(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    nowhere = {
        "DATABASE_URL": "postgres://nobody:x@127.0.0.1:9/nothing",
        "CASSANDRA_HOSTS": "127.0.0.1",
        "CASSANDRA_PORT": "9",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "MONGODB_URI": "mongodb://127.0.0.1:9/nothing",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=ROOT,
        env={**kept, **nowhere, "VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["problem"] == 4
    assert {row["check"] for row in answer["findings"] if row["level"] == "problem"} == {"stores"}
    assert "4 problem(s) found" in done.stderr
