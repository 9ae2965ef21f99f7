"""`manage.py simulate`, run to its end or broken off."""

import io
import os
import signal
import subprocess
import sys
import time

from django.conf import settings
from django.core.management import call_command

from devices.models import Device


def simulate(**options) -> str:
    """What it says."""
    out = io.StringIO()
    call_command("simulate", stdout=out, **options)
    return out.getvalue()


def broken_off(number: signal.Signals, seconds: float, *arguments: str) -> str:
    """What a process of its own says, which gets the signal so long after its first device."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "simulate", *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not Device.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(seconds)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out
