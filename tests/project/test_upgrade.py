"""Upgrading without a pause: the code of before runs on the tables of now.

The code of before is that of the newest tag; where there is none, of the commit before the newest
one that changed migrations. Both need the history of the project (`git fetch --unshallow`); a
clone without it tries this code and warns.
"""

import os
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import models
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterField,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tests.environment import CHOICES, ROOT, STORES
from tests.server import real_environment, running

pytestmark = pytest.mark.timeout(400)
OURS = {"accounts", "devices", "events", "telemetry"}
# What the first release begins with is made at once, by nobody's upgrade.
FIRST_RELEASE = {"accounts": "0002", "devices": "0004", "events": "0004", "telemetry": "0004"}
GONE = (RemoveField, RenameField, RenameModel, DeleteModel)


# --- The code of before --------------------------------------------------------------------------
def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit_before() -> str:
    tags = git("tag", "--merged", "HEAD", "--sort=-creatordate").splitlines()
    if tags:
        return tags[0]
    migrations = ":(glob)*/migrations/*.py"
    if git("status", "--porcelain", "--", migrations):
        return "HEAD"
    newest = git("log", "-1", "--format=%H", "--", migrations)
    if f"{newest} " not in f"{git('rev-list', '--min-parents=1', 'HEAD')} ".replace("\n", " "):
        warnings.warn("a shallow clone has no code of before: git fetch --unshallow", stacklevel=1)
        return "HEAD"
    return git("rev-parse", f"{newest}^1")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    archive, directory = tmp_path / "before.tar", tmp_path / "before"
    git("archive", f"--output={archive}", commit_before())
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Stores with the tables of now."""
    if STORES == "real":  # this run's, which have them
        return real_environment(VAR_DIR=str(tmp_path / "var"))
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    found = {**kept, "VAR_DIR": str(tmp_path / "var")}
    command = [sys.executable, "manage.py", "setup_stores"]
    subprocess.run(command, cwd=ROOT, env=found, check=True, timeout=100)
    return found


class Client:
    """A user and a device of theirs, over HTTP."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=30)
        self.token = self.key = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        proof = {"X-API-Key": self.key} if self.key else {}
        proof |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = self._http.request(method, path, json=body, headers=proof)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json()


def test_the_code_of_before_submits_and_reads_on_the_tables_of_now(before, environment, tmp_path):
    who = {"username": "ada", "email": "ada@example.org", "password": "correct horse 42"}
    reading = {"data": {"a": 1, "b": "x"}, "timestamp": "-1m"}
    with running(tmp_path / "before.log", environment, directory=before) as url:
        user = Client(url)
        user.call("POST", "/auth/register", who)
        user.token = user.call("POST", "/auth/login", who)["token"]
        device = user.call("POST", "/devices", {"name": "sensor"})["device"]
        user.call("PUT", f"/devices/{device['id']}/config", {"config": {"every": 1}})
        group = user.call("POST", "/groups", {"name": "Cellar"})["group"]
        user.call("POST", f"/groups/{group['id']}/devices", {"device_id": device["id"]})
        sensor = Client(url)
        sensor.key = device["api_key"]
        sensor.call("POST", "/telemetry", reading)
        sensor.call("POST", "/telemetry/batch", {"readings": [{"data": {"a": 2}}]})
        assert sensor.call("GET", f"/telemetry/{device['id']}/latest")["latest_data"]["a"] == 2
        written = user.call("GET", f"/telemetry/{device['id']}")
        assert [one["measurements"].get("a") for one in written["data"]] == [2, 1]
        user.call("POST", f"/devices/{device['id']}/rotate-key", {"grace_seconds": 600})
        assert user.call("GET", "/events")["count"] >= 5
    with running(tmp_path / "now.log", environment) as url:
        now, of_sensor = Client(url), Client(url)
        now.token, of_sensor.key = user.token, sensor.key
        assert now.call("GET", f"/telemetry/{device['id']}")["data"] == written["data"]
        assert of_sensor.call("POST", "/telemetry", reading)["device_id"] == device["id"]


# --- The rules of migrations ---------------------------------------------------------------------
def breaks(operation: Operation, before: ProjectState, app: str) -> str:
    """Why the code of before cannot go on, or not come back, after this operation; or ""."""
    if isinstance(operation, GONE):
        return "what is gone, or has another name, is still asked for"
    if isinstance(operation, AddField):
        field = operation.field
        has_value = field.null or field.has_db_default() or field.many_to_many
        return "" if has_value else "the code of before inserts nothing for it: db_default or null"
    if isinstance(operation, AlterField):
        known = before.models[app, operation.model_name_lower].fields[operation.name]
        return narrowed(known, operation.field)
    return ""


def narrowed(known: models.Field, field: models.Field) -> str:
    if known.null and not field.null:
        return "the code of before may still write null"
    if known.get_internal_type() != field.get_internal_type():
        return "another type"
    shorter = (field.max_length or 10**9) < (known.max_length or 10**9)
    return "the code of before may still write longer texts" if shorter else ""


def faults(migration: Migration, state: ProjectState) -> Iterator[str]:
    for operation in migration.operations:
        if why := breaks(operation, state, migration.app_label):
            yield f"{migration}: {operation.describe()}: {why}"
        operation.state_forwards(migration.app_label, state)


def later() -> Iterator[tuple[Migration, ProjectState]]:
    """Each migration since the first release, and what it finds."""
    loader = MigrationLoader(None)
    for (app, name), migration in sorted(loader.disk_migrations.items()):
        if app in OURS and name[:4] > FIRST_RELEASE[app]:
            yield migration, loader.project_state((app, name), at_end=False)


def test_no_migration_takes_away_what_the_code_of_before_needs():
    """One that has to says `contract = "since which version nothing asks for it"` in its class."""
    found = [
        fault
        for migration, state in later()
        if not getattr(migration, "contract", "")
        for fault in faults(migration, state)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (RemoveField("device", "location"), "still asked for"),
        (RenameField("device", "location", "place"), "still asked for"),
        (DeleteModel("GroupMembership"), "still asked for"),
        (AddField("device", "colour", models.CharField(max_length=7, default="")), "db_default"),
        (AddField("device", "colour", models.CharField(max_length=7, db_default="")), ""),
        (AddField("device", "colour", models.CharField(max_length=7, null=True)), ""),
        (AlterField("device", "last_seen", models.DateTimeField()), "still write null"),
        (AlterField("device", "name", models.TextField()), "another type"),
        (AlterField("device", "name", models.CharField(max_length=50)), "longer texts"),
        (AlterField("device", "name", models.CharField(max_length=200)), ""),
    ],
)
def test_the_rules_find_what_they_are_for(operation, why):
    state = MigrationLoader(None).project_state()
    migration = Migration("9999_planted", "devices")
    migration.operations = [operation]
    assert bool(list(faults(migration, state))) == bool(why)
    assert why in breaks(operation, MigrationLoader(None).project_state(), "devices")
