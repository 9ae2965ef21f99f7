"""A worker is killed while a receiver has what it sent: another sends it again, and goes on."""

import os
import subprocess
import sys

import pytest
from django.db import connections
from django.utils import timezone

from telemetry.notifications.models import Delivery, NotificationChannel
from tests.alerting.test_alerts import make_rule, say
from tests.environment import ROOT, STORES
from tests.notifications.receivers import Receiver
from tests.server import real_environment
from tests.services import eventually

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def stores(tmp_path):
    """The variables of a process that has the databases of this test."""
    if STORES != "embedded":
        return real_environment(VAR_DIR=str(tmp_path))
    for alias, name in (("default", "iotflow"), ("events", "events")):
        file = connections[alias].settings_dict["NAME"]
        (tmp_path / f"{name}.sqlite3").symlink_to(file)
    return {**os.environ, "VAR_DIR": str(tmp_path)}


@pytest.fixture
def start_worker(tmp_path, stores):
    """Starts processes of `manage.py worker`."""
    started = []

    def start(port: int) -> "subprocess.Popen[bytes]":
        allowed = {"WEBHOOK_HTTP": "1", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32"}
        environment = {**stores, **allowed, "WEBHOOK_PORTS": str(port)}
        command = [sys.executable, "manage.py", "worker"]
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_one_that_is_killed_between_sending_and_noting(
    alice,
    sensor,
    loopback,
    make_channel,
    start_worker,
):
    receiver = Receiver()
    with receiver.up():
        make_channel(alice, receiver.url)
        make_rule(alice, device_id=sensor.device.pk)
        say(sensor, 31)
        say(sensor, 20)
        first = start_worker(receiver.port)
        receiver.before_answer = lambda: os.kill(first.pid, 9)
        eventually(lambda: first.poll() is not None, seconds=60)
        receiver.before_answer = lambda: None
        assert [one.json["type"] for one in receiver.received] == ["alert.raised"]
        [channel] = NotificationChannel.objects.all()
        assert channel.leased_until > timezone.now()
        NotificationChannel.objects.update(leased_until=timezone.now())  # a minute later
        start_worker(receiver.port)
        eventually(lambda: Delivery.objects.filter(status="delivered").count() == 2, seconds=60)
    kinds = [one.json["type"] for one in receiver.received]
    assert kinds == ["alert.raised", "alert.raised", "alert.cleared"]
    sent, again, _ = (one.id for one in receiver.received)
    assert sent == again
