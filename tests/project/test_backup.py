"""manage.py backup and restore: out of the stores of this run, into those and into others."""

import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from devices.models import Device
from events.audit import chain, sealer
from events.audit import keys as audit_keys
from events.models import EventLog
from iotflow.backup import manifest
from telemetry import clock
from telemetry.stores import rollup_store
from telemetry.summaries import summary
from telemetry.windows import DAY, HOUR
from tests.api import Api
from tests.environment import CHOICES, ROOT, STORES
from tests.server import real_environment, running
from tests.services import eventually

pytestmark = pytest.mark.timeout(400)
START = "2026-01-01T00:00:00Z"
OLD = 1_577_836_800_000  # 2020-01-01, of which rollups are left
VOLATILE = {"is_online", "last_seen", "last_used", "cassandra_available"}
VALUES: dict[str, Any] = {
    "temperature": 21.5,
    "count": 2**62,
    "open": True,
    "text": "ünïcode",
    "list": [1, {"a": None}],
}


def made(command: str, *arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(command, *map(str, arguments), stdout=out, **options)
    return out.getvalue()


def settled(body: Any) -> Any:
    """An answer without what changes by being looked at."""
    if isinstance(body, dict):
        return {name: settled(value) for name, value in body.items() if name not in VOLATILE}
    return [settled(value) for value in body] if isinstance(body, list) else body


@pytest.fixture
def paths(alice, bob, sensor, make_device) -> list[str]:
    """What alice may ask for, of an installation that has some of everything."""
    for n in range(3):
        body = {"data": {**VALUES, "n": n}, "timestamp": f"2026-01-01T00:00:0{n}Z"}
        assert sensor.api.post("/telemetry", {**body, "metadata": {"by": "hand"}}).status == 201
    assert sensor.api.post("/telemetry", {"data": {"now": 1}}).status == 201
    config = f"/devices/{sensor.id}/config"
    for every in (1, 2):
        assert alice.api.put(config, {"config": {"every": every}}).status == 200
    assert sensor.api.post("/devices/config/reported", {"version": 1}).status == 200
    group = alice.api.post("/groups", {"name": "Cellar"}).json["group"]
    assert alice.api.post(f"/groups/{group['id']}/devices", {"device_id": sensor.id}).status == 201
    assert make_device(bob).api.post("/telemetry", {"data": {"a": 1}}).status == 201
    made("retention", "set", "--type", "camera", "--days", "30")
    roll_up(sensor.id)
    # The newest id of all was given, and is not to be given again.
    assert alice.api.delete(f"/devices/{make_device(alice).id}").status == 200
    of_it = f"/telemetry/{sensor.id}"
    return [
        "/devices",
        f"/devices/{sensor.id}",
        f"/devices/{sensor.id}/keys",
        config,
        f"{config}/history",
        "/groups?include_devices=true",
        f"{of_it}?start_time=2020-01-01&order=asc",
        f"{of_it}/latest",
        f"{of_it}/aggregated?field=old&aggregation=mean&window=1d&start_time=2019-12-31"
        "&end_time=2020-01-03",
        f"/telemetry/user/{alice.user.user_id}",
    ]


def roll_up(device_id: int) -> None:
    """A day whose readings have expired, rolled up."""
    hour = ("old", summary(OLD + HOUR, (1.0, 2.0)))
    day = ("old", summary(OLD, (1.0, 2.0)))
    for length, rollup in ((HOUR, hour), (DAY, day)):
        assert rollup_store().write(device_id, "sensor", length, [rollup], clock.written())
    rollup_store().advance(device_id, OLD + 10 * DAY)


@contextmanager
def writing(device: Any, owner: Any) -> Iterator[list[str]]:
    """The times that a device was told are stored, while it submits and its owner changes it."""
    stop, stored = threading.Event(), []

    def submit() -> None:
        try:
            while not stop.wait(0.02):
                answer = device.api.post("/telemetry", {"data": {"busy": len(stored)}})
                if answer.status == 201:
                    stored.append(answer.json["timestamp"])
                owner.api.patch(f"/devices/{device.id}", {"location": f"place {len(stored)}"})
        finally:
            connections.close_all()

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield stored
    finally:
        stop.set()
        thread.join()


@contextmanager
def embedded(tmp_path: Path) -> Iterator[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    yield {**kept, "VAR_DIR": str(tmp_path / "elsewhere")}


@contextmanager
def real(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Databases, a keyspace and so on of their own on the servers of this run."""
    name = "test_restored"

    def drop() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connections["cassandra"].connection.session.execute(
            f"DROP KEYSPACE IF EXISTS {name}", timeout=60
        )
        connections["events"].database.client.drop_database(name)

    drop()
    with connections["default"].cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield real_environment(
            DATABASE_URL=urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl(),
            CASSANDRA_KEYSPACE=name,
            MONGODB_DATABASE=name,
            REDIS_URL=os.environ["REDIS_URL"].rsplit("/", 1)[0] + "/14",
            VAR_DIR=str(tmp_path / "elsewhere"),
        )
    finally:
        drop()


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("elsewhere", [embedded, real] if STORES == "real" else [embedded])
def test_what_is_backed_up_while_it_is_written_to_is_there_elsewhere(
    elsewhere, tmp_path, paths, alice, sensor, staff, make_device, settings
):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
    alice.user.set_password("swordfish 17")  # as the other server hashes it
    alice.user.save()
    busy, target = make_device(alice, "busy"), tmp_path / "backup"
    newest = Device.objects.latest("pk").pk
    chain.begin(timezone.now() - timedelta(days=1), audit_keys.current())  # all has to be sealed
    while sealer.seal():
        pass
    with writing(busy, alice) as stored:
        eventually(lambda: len(stored) >= 20, 60)
        acknowledged = list(stored)
        events = {str(pk) for pk in EventLog.objects.values_list("pk", flat=True)}
        told = made("backup", target)
    assert told.startswith("3 user(s), 3 device(s), ")
    expected = {path: settled(alice.api.get(path).json) for path in paths[1:9]}

    with elsewhere(tmp_path) as environment:
        manage(environment, "setup_stores")
        assert "Nothing was changed." in manage(environment, "restore", str(target), "--dry-run")
        assert "Restored." in manage(environment, "restore", str(target))
        # None of the events of meanwhile is taken for a forged one, and no older one is missed.
        assert "link(s) checked" in manage(environment, "verify_audit")
        with (
            running(tmp_path / "server.log", environment) as url,
            httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=30) as client,
        ):

            def get(path: str, who: Api = alice.api) -> Any:
                proof = {"Authorization": f"Bearer {who.token}"}
                answer = client.get(path, headers=proof)
                assert answer.status_code == 200, answer.text
                return answer.json()

            for path, body in expected.items():
                assert settled(get(path)) == body, path
            names = {device["name"] for device in get("/devices")["devices"]}
            assert names == {"sensor", "busy"}
            history = get(f"/telemetry/{busy.id}?start_time=-1d&limit=10000")["data"]
            assert set(acknowledged) <= {reading["timestamp"] for reading in history}
            feed = get(f"/telemetry/user/{alice.user.user_id}?limit=10000")["telemetry"]
            assert {row["device_id"] for row in feed} == {sensor.id, busy.id}

            # Keys and log-ins work as they did.
            submitted = client.post(
                "/telemetry", json={"data": {"after": 1}}, headers={"X-API-Key": sensor.key}
            )
            assert submitted.status_code == 201
            login = client.post(
                "/auth/login", json={"username": "alice", "password": "swordfish 17"}
            )
            assert login.status_code == 200

            # Every event is there once, and no id is given a second time.
            found = [row["id"] for row in all_events(get, staff.api)]
            assert len(found) == len(set(found))
            assert events <= set(found)
            new = client.post(
                "/devices",
                json={"name": "new"},
                headers={"Authorization": f"Bearer {alice.api.token}"},
            )
            assert new.json()["device"]["id"] > newest


def all_events(get: Any, who: Api) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = get(f"/events?start_time=2020-01-01&limit=1000{cursor}", who)
        yield from page["events"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def test_what_is_there_is_replaced_where_that_is_said(tmp_path, paths, alice, bob, sensor, staff):
    expected = {path: settled(alice.api.get(path).json) for path in paths}
    made("backup", tmp_path / "backup")
    assert sensor.api.post("/telemetry", {"data": {"temperature": -1}}).status == 201
    assert (
        alice.api.delete(f"/telemetry/{sensor.id}?start_time=2020-01-01&stop_time=now").status
        == 200
    )
    assert alice.api.patch(f"/devices/{sensor.id}", {"name": "other"}).status == 200
    assert alice.api.post("/devices", {"name": "new"}).status == 201
    with pytest.raises(CommandError, match="This installation is not empty"):
        made("restore", tmp_path / "backup")
    assert "Nothing was changed." in made("restore", tmp_path / "backup", "--force", "--dry-run")
    assert alice.api.get(f"/devices/{sensor.id}").json["device"]["name"] == "other"
    assert "Restored." in made("restore", tmp_path / "backup", "--force")
    assert {path: settled(alice.api.get(path).json) for path in paths} == expected
    assert sensor.api.post("/telemetry", {"data": {"after": 1}}).status == 201
    kinds = set(EventLog.objects.values_list("kind", flat=True))
    assert "installation.restored" in kinds
    assert "telemetry.deleted" not in kinds


@pytest.fixture
def backup(tmp_path: Path, sensor: Any) -> Path:
    assert sensor.api.post("/telemetry", {"data": {"a": 1}}).status == 201
    made("backup", tmp_path / "backup")
    return tmp_path / "backup"


def test_it_is_for_its_owners_eyes_and_has_no_secret(backup, sensor, settings):
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    for path in backup.rglob("*"):
        text = path.read_text() if path.is_file() else ""
        for secret in (sensor.key, settings.SECRET_KEY, settings.API_KEY_PEPPER):
            assert secret not in text, path
    assert set(manifest.read(backup).files) == set(manifest.describe(backup))


def test_a_backup_goes_into_a_directory_of_its_own(backup):
    with pytest.raises(CommandError, match="is not empty"):
        made("backup", backup)


def cut(backup: Path, settings: Any) -> None:
    path = next((backup / "telemetry").iterdir())
    path.write_bytes(path.read_bytes()[:-2])


def lose(backup: Path, settings: Any) -> None:
    next((backup / "documents").iterdir()).unlink()


def break_off(backup: Path, settings: Any) -> None:
    (backup / "manifest.json").unlink()


def come_from_the_future(backup: Path, settings: Any) -> None:
    found = manifest.read(backup)
    found.migrations.append("devices.9999_later")
    found.write(backup)


def change_the_pepper(backup: Path, settings: Any) -> None:
    settings.API_KEY_PEPPER = "o" * 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "is damaged: its SHA-256 is another"),
        (lose, "is missing"),
        (break_off, "it has no manifest.json"),
        (come_from_the_future, "does not know devices.9999_later"),
        (change_the_pepper, "under another pepper"),
    ],
)
def test_what_cannot_be_restored_is_refused_before_anything_changes(
    backup, settings, change, message
):
    before = Device.objects.count()
    change(backup, settings)
    with pytest.raises(CommandError, match=message):
        made("restore", backup, "--force")
    assert Device.objects.count() == before
