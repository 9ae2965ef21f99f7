"""The command line, as a process."""

import csv
import io
import json
import subprocess
import sys

import pytest
from iotflow_client import Reading

from iotflow.lib.child import free_port


@pytest.fixture
def run(device, environment, tmp_path):
    """Runs the command as the device; (exit status, what it prints, what it complains of)."""

    def run(*arguments: str, url: str = device.url, key: str = device.key):
        done = subprocess.run(
            [sys.executable, "-m", "iotflow_client", "--url", url, *arguments],
            env={**environment, "IOTFLOW_KEY": key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def test_submit_latest_and_history_as_csv(run, device):
    status, told, _ = run("submit", "t=21.5", "on=true", "note=a, b", "--metadata", "sensor=top")
    assert status == 0
    assert json.loads(told)["device_id"] == device.id
    run("submit", "t=22", "--timestamp", "2026-01-31T12:00:00Z")
    status, told, _ = run("latest")
    assert json.loads(told)["values"] == {"t": 21.5, "on": True, "note": "a, b"}
    status, told, _ = run("history", "--start", "2000-01-01")
    rows = list(csv.reader(io.StringIO(told)))
    assert rows[0] == ["timestamp", "note", "on", "t"]
    assert [row[1:] for row in rows[1:]] == [["a, b", "true", "21.5"], ["", "", "22"]]
    assert rows[2][0] == "2026-01-31T12:00:00.000+00:00"
    status, told, _ = run("history", "--start", "1h", "--fields", "t", "--limit", "5")
    assert len(told.splitlines()) == 2


def test_with_a_queue_a_reading_is_kept_until_the_server_is_there(run, device, monkeypatch):
    away = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("NO_PROXY", "*")
    status, told, complaint = run("--wait", "1", "submit", "--queue", "kept", "t=1", url=away)
    assert (status, json.loads(told)) == (0, {"waiting": 1})
    assert "did not answer" in complaint
    status, told, _ = run("submit", "--queue", "kept", "t=2")
    assert (status, json.loads(told)) == (0, {"sent": 2, "rejected": 0, "waiting": 0})
    assert [reading.measurements["t"] for reading in device.history()] == [2, 1]
    assert json.loads(run("flush", "kept")[1]) == {"sent": 0, "rejected": 0, "waiting": 0}


def test_what_is_wrong_is_told_in_a_line(run):
    status, told, complaint = run("submit", "t=1", key="x" * 40)
    assert (status, told) == (1, "")
    assert complaint.startswith("401 ")
    status, _, complaint = run("submit", "t=null")
    assert status == 1
    assert "data.t" in complaint
    assert run("latest", key="")[0] == 2
    assert run("submit", "temperature")[0] == 2
    assert run()[0] == 2


def test_a_reader_that_has_enough_is_no_error(device, environment):
    device.submit_batch([Reading({"text": "x" * 1000}) for _ in range(200)])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m iotflow_client history | head -1"],
        env={**environment, "IOTFLOW_KEY": device.key, "IOTFLOW_URL": device.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "timestamp,text\n", "")


def test_the_key_is_no_argument(run):
    status, told, _ = run("--help")
    assert status == 0
    assert "IOTFLOW_KEY" in told
    assert "--key" not in told
