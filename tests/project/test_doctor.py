"""manage.py doctor: what it says of the installation as a whole, with stores away too."""

import io
import json
import os
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from events import log, outbox
from events.kinds import Kind
from events.models import Outbox
from iotflow import doctor
from iotflow.lib.errors import StoreAway
from iotflow.lib.findings import ok, problem
from telemetry.models import Erasure
from tests.environment import CHOICES, ROOT


def examined() -> list[dict]:
    out = io.StringIO()
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
