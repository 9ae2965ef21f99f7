"""How a server process ends: what it has taken is finished, and what waits is delivered."""

import os
import sqlite3
import subprocess
import sys
import threading
import uuid

import httpx
import pytest

from events import log, outbox, sinks
from events.kinds import Kind
from events.models import EventLog, Outbox
from iotflow import shutdown
from iotflow.lib.child import answers, free_port, server
from iotflow.lib.errors import StoreAway
from tests.environment import CHOICES, ROOT


def wait_in_outbox(count: int) -> None:
    outbox.put(
        [
            log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, f"event {n}", actor="test")
            for n in range(count)
        ]
    )


def test_what_waits_in_the_outbox_is_delivered():
    wait_in_outbox(700)
    shutdown.deliver()
    assert not Outbox.objects.exists()
    assert EventLog.objects.count() == 700


def test_with_the_event_log_away_it_waits_on(monkeypatch):
    def away(*_):
        raise StoreAway("The event log")

    wait_in_outbox(3)
    monkeypatch.setattr(outbox, "deliver", away)
    shutdown.deliver()
    monkeypatch.setattr(outbox, "deliver", sinks.deliver)
    assert Outbox.objects.count() == 3


@pytest.mark.timeout(240)
def test_a_server_that_is_told_to_end_answers_what_it_has_taken(tmp_path):
    """Log-ins, which take their time by design, are under way when it is told."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment["VAR_DIR"] = str(tmp_path)
    subprocess.run(
        [sys.executable, "manage.py", "setup_stores"],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=120,
    )
    port = free_port()
    child = server(port, tmp_path / "server.log", environment)
    try:
        url = f"http://127.0.0.1:{port}"
        assert answers(url, child, 60), child.obituary()
        who = {"username": "alice", "email": "alice@example.org", "password": "swordfish 17"}
        assert httpx.post(f"{url}/api/v1/auth/register", json=who).status_code == 201
        found = logins_while(lambda: child._process.terminate(), url, who)
        assert child._process.wait(60) == 0
    finally:
        child.stop()
    assert found == [200] * 6
    with sqlite3.connect(tmp_path / "events.sqlite3") as events:
        query = "SELECT COUNT(*) FROM event_logs WHERE kind = 'user.login'"
        assert events.execute(query).fetchone() == (6,)
    assert "has finished what it had taken" in (tmp_path / "server.log").read_text()


def logins_while(act, url: str, who: dict[str, str]) -> list[int]:
    """The statuses of six log-ins that were sent before `act`."""
    found: list[int] = []
    clients = [httpx.Client(base_url=url, timeout=60, trust_env=False) for _ in range(6)]
    for client in clients:
        client.get("/health")  # so that none of them has still to be connected

    def log_in(client: httpx.Client) -> None:
        found.append(client.post("/api/v1/auth/login", json=who).status_code)

    threads = [threading.Thread(target=log_in, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.1)
    act()
    for thread in threads:
        thread.join(60)
    return found
