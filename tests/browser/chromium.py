"""Debian's Chromium, headless, and quiet: what it would ask of its maker is switched off."""

import os
import shutil
import subprocess
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS: dict[str, Any] = {
    "args": [
        "--no-sandbox",  # which root may not have, as in a container
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
}


def provide() -> None:
    """Find it; install it with apt where it is missing and we may."""
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run(["apt-get", *command], capture_output=True)
    found = _found()
    if not found:
        pytest.fail("Chromium is missing: apt-get install chromium")
    OPTIONS["executable_path"] = found


def _found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)
