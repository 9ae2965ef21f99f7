"""Debian's Chromium, headless, and quiet: what it would ask of its maker is switched off."""

import os
import shutil
import subprocess
import sys
from typing import Any

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
    """Find it; install it with apt where it is missing and we may. RuntimeError without it."""
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stderr.write("Installing Chromium …\n")
        for command in (["update"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run(["apt-get", *command], capture_output=True)
    found = _found()
    if not found:
        raise RuntimeError("Chromium is missing: apt-get install chromium")
    OPTIONS["executable_path"] = found


def _found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":  # before the tests, each of which has a time limit
    try:
        provide()
    except RuntimeError as error:
        sys.exit(str(error))
