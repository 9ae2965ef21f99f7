"""`make demo`, as somebody has just started it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

from iotflow.lib.child import free_port
from tests.environment import CHOICES, ROOT

START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Demo:
    url: str
    username: str
    password: str
    place: Path

    def manage(self, *command: str, **variables: str) -> None:
        """A command beside it, on its files."""
        ours = {"VAR_DIR": str(self.place), "ALLOW_HTTP": "1", **variables}
        subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={**_environment(), **ours},
            check=True,
            timeout=60,
        )

    def log_in(self, page: Page) -> None:
        self.give_password(page)
        page.wait_for_url(f"{self.url}/admin/")

    def give_password(self, page: Page) -> None:
        page.goto(f"{self.url}/admin/")
        page.get_by_label("Username").fill(self.username)
        page.get_by_label("Password").fill(self.password)
        page.get_by_role("button", name="Log in").click()


@contextmanager
def running(place: Path) -> Iterator[Demo]:
    """It runs inside, on its own port and its own files in `place`, whatever the environment."""
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", str(free_port())],
            cwd=ROOT,
            env={**_environment(), "VAR_DIR": str(place), "ALLOW_HTTP": "1", "WORKER_THREAD": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        facts = _facts(process, place)
        yield Demo(facts["url"], facts["admin_username"], facts["admin_password"], place)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _environment() -> dict[str, str]:
    ours = (*CHOICES, "SECRET_KEY", "API_KEY_PEPPER", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if name not in ours}


def _facts(process: "subprocess.Popen[bytes]", place: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while not (place / "demo.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The demo did not start:\n{(place / 'log.txt').read_text()}")
        time.sleep(0.2)
    facts: dict[str, str] = json.loads((place / "demo.json").read_text())
    return facts
