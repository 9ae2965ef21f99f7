"""The background work: it is done, it is tried again, it ends when told."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db import connections
from django.utils import timezone

from accounts.models import Token
from devices.models import ApiKey, Device
from events import log, outbox
from events.kinds import Kind
from events.models import EventLog, Outbox
from iotflow.worker import Worker
from telemetry.models import IdempotencyKey
from tests.environment import CHOICES, ROOT


def run_due(worker: Worker, now: float) -> None:
    """As in the server: in a thread, with connections of its own."""

    def run() -> None:
        worker.run_due(now)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_one_pass_does_everything_that_is_due(alice, sensor):
    sensor.api.post("/telemetry", {"data": {"a": 1}}, idempotency_key="k")
    Device.objects.update(last_seen=None)
    ApiKey.objects.update(last_used=None)
    outbox.put([log.event(uuid.uuid4(), Kind.DEVICE_CHANGED, "waiting", actor="test")])
    long_ago = timezone.now() - timedelta(days=100)
    Token.objects.create(alice.user)
    Token.objects.filter(pk=Token.objects.latest("id").pk).update(expiry=long_ago)
    Session.objects.create(session_key="old", session_data="", expire_date=long_ago)
    IdempotencyKey.objects.update(created_at=long_ago)
    run_due(Worker(), time.monotonic())
    assert not Outbox.objects.exists()
    assert EventLog.objects.filter(message="waiting").exists()
    assert Device.objects.get().last_seen is not None
    assert ApiKey.objects.get().last_used is not None
    assert Token.objects.count() == 1
    assert not Session.objects.exists()
    assert not IdempotencyKey.objects.exists()


def test_a_job_that_fails_is_tried_again_and_keeps_no_other_from_running():
    worker = Worker()
    ran = []

    def fails() -> None:
        ran.append("fails")
        raise RuntimeError

    worker._jobs[0].run = fails
    worker._jobs[1].run = lambda: ran.append("runs")
    run_due(worker, time.monotonic())
    run_due(worker, time.monotonic() + 5)
    assert ran == ["fails", "runs"] * 2


def test_the_command_ends_on_sigterm(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker"],
        cwd=ROOT,
        env={**kept, "VAR_DIR": str(tmp_path), "ALLOWED_HOSTS": "localhost"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout.readline() == "The worker runs. Ctrl-C ends it.\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "The worker has ended." in output
