"""The commands that fill an installation: seed and demo."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from accounts.models import User
from devices.models import Device, DeviceGroup, GroupMembership
from iotflow.lib.child import free_port
from iotflow.lib.privatefile import read_private, write_private
from iotflow.lib.timeparse import now_ms
from telemetry.readings import HistoryQuery
from telemetry.stores import telemetry_store

SMALL = {"users": 2, "devices": 4, "groups": 1, "days": 1, "interval": 3600}


def seed(**options):
    out = io.StringIO()
    call_command("seed", stdout=out, **{**SMALL, **options})
    return out.getvalue()


def stored(device):
    query = HistoryQuery(device.pk, 0, now_ms(), limit=10_000)
    return telemetry_store().history(query).readings


def everything():
    return {(d.owner.username, d.name): stored(d) for d in Device.objects.select_related("owner")}


def test_seed_makes_users_devices_groups_and_a_history():
    out = seed()
    assert "New: 2 user(s), 4 device(s), 2 group(s). 96 readings stored." in out
    assert GroupMembership.objects.count() == 4
    for readings in everything().values():
        assert len(readings) == 24
        assert set(readings[0].values) == {"temperature", "humidity", "battery"}


def test_readings_in_all_are_shared_by_all_devices():
    out = seed(devices=3, readings=100)
    assert "100 readings in all" in out
    assert "100 readings stored" in out
    found = {name: [reading.time for reading in each] for name, each in everything().items()}
    assert sorted(len(times) for times in found.values()) == [33, 33, 34]
    midnight = now_ms() // 86_400_000 * 86_400_000
    assert {max(times) for times in found.values()} == {midnight - 3_600_000}
    owners = sorted(owner for owner, _ in found)
    assert owners == ["seed42-user1", "seed42-user1", "seed42-user2"]


def test_seed_again_finds_everything_and_stores_the_same():
    seed()
    before = everything()
    out = seed()
    assert "New: 0 user(s), 0 device(s), 0 group(s)." in out
    assert everything() == before


def test_another_seed_makes_others():
    seed(users=1)
    seed(users=1, seed=7)
    assert User.objects.count() == 2
    first, second = (stored(device) for device in Device.objects.order_by("id")[:8:4])
    assert first != second


def test_nobody_can_log_in_as_a_seeded_user_unless_a_password_is_given(anybody):
    seed(users=1, days=0)
    assert not User.objects.get().has_usable_password()
    seed(users=1, days=0, password="Correct-horse-9")
    body = {"username": User.objects.get().username, "password": "Correct-horse-9"}
    assert anybody.post("/auth/login", body).status == 200


def test_seed_refuses_a_password_that_nobody_may_have():
    with pytest.raises(CommandError, match="too short"):
        seed(password="123")


def test_a_dry_run_of_seed_changes_nothing():
    assert "Nothing was changed." in seed(dry_run=True)
    assert not User.objects.exists()
    assert not DeviceGroup.objects.exists()


@pytest.mark.parametrize("options", [{"users": -1}, {"days": 99_999}, {"interval": 0}])
def test_seed_refuses_what_makes_no_sense(options):
    with pytest.raises(CommandError, match="must be from"):
        seed(**options)


def test_a_private_file_is_for_its_owner_only(tmp_path):
    path = tmp_path / "kept.json"
    assert read_private(path) is None
    for data in ({"a": 1}, {"b": 2}):
        write_private(path, data)
        assert read_private(path) == data
        assert oct(path.stat().st_mode)[-3:] == "600"
    assert list(tmp_path.iterdir()) == [path]


# --- The demo, as its own process ---------------------------------------------------------------
@contextmanager
def demo(var_dir, port, **environment):
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--port", str(port)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "VAR_DIR": str(var_dir), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def facts(process, var_dir, seconds=60):
    path = var_dir / "demo.json"
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the demo did not start in time"
        time.sleep(0.1)
    return json.loads(path.read_text())


def test_the_demo_serves_what_it_prints_and_finds_it_again(tmp_path):
    port = free_port()
    with demo(tmp_path, port) as process:
        first = facts(process, tmp_path)
        headers = {"X-API-Key": first["api_key"]}
        api = f"{first['url']}/api/v1/telemetry"
        body = {"data": {"temperature": 21.5}}
        assert httpx.post(api, json=body, headers=headers).status_code == 201
        latest = httpx.get(f"{api}/{first['device_id']}/latest", headers=headers)
        assert latest.json()["latest_data"] == {"temperature": 21.5}
        assert oct((tmp_path / "demo.json").stat().st_mode)[-3:] == "600"
    assert process.returncode == 0
    assert is_closed(port)

    # Again, with the variables of a store that is not there: it is left alone.
    elsewhere = {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing"}
    with demo(tmp_path, port, **elsewhere) as process:
        assert facts(process, tmp_path) == first
    assert process.returncode == 0


def test_the_demo_says_at_once_that_its_port_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} of 127.0.0.1 is taken"):
            call_command("demo", port=port)


def is_closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False
