"""The demo, with its recorded readings, and a browser in front of it: Debian's Chromium.

Whatever the page asks of anybody else, whatever fails and whatever the console says is an error
fails the test that met it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from iotflow.lib.child import free_port
from tests.browser.chromium import OPTIONS, provide
from tests.environment import CHOICES, ROOT

START_SECONDS = 120
expect.set_options(timeout=10_000)


class Demo:
    """`make demo`, as somebody has just started it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.url: str = facts["url"]
        self.username: str = facts["admin_username"]
        self.password: str = facts["admin_password"]
        self.facts = facts


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    place: Path = tmp_path_factory.mktemp("demo")
    ours = (*CHOICES, "SECRET_KEY", "API_KEY_PEPPER", "DJANGO_SETTINGS_MODULE")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", str(free_port())],
            cwd=ROOT,
            env={**environment, "VAR_DIR": str(place), "ALLOW_HTTP": "1", "WORKER_THREAD": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (place / "demo.json").exists():
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, "the demo did not start"
            time.sleep(0.2)
        yield Demo(json.loads((place / "demo.json").read_text()))
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    provide()
    return OPTIONS


@pytest.fixture(scope="session")
def session(browser: Browser, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookies of an admin who has logged in by the form."""
    place = tmp_path_factory.mktemp("session") / "state.json"
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{demo.url}/admin/")
    page.get_by_label("Username").fill(demo.username)
    page.get_by_label("Password").fill(demo.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{demo.url}/admin/")
    context.storage_state(path=place)
    context.close()
    return place


@pytest.fixture
def browser_context_args(session: Path, demo: Demo) -> dict[str, Any]:
    return {
        "base_url": demo.url,
        "storage_state": session,
        "viewport": {"width": 1440, "height": 900},
        "timezone_id": "Europe/Berlin",
        "locale": "en-GB",
    }


@pytest.fixture
def context(context: BrowserContext, demo: Demo) -> Iterator[BrowserContext]:
    complaints: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((demo.url, "data:", "blob:")):
            complaints.append(f"asks another host: {request.url}")

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left meanwhile
            complaints.append(f"{request.failure}: {request.url}")

    context.on("request", asked)
    context.on("requestfailed", failed)
    context.on(
        "response",
        lambda answer: (
            complaints.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
        ),
    )
    context.on(
        "console",
        lambda said: complaints.append(f"console: {said.text}") if said.type == "error" else None,
    )
    context.on("weberror", lambda error: complaints.append(f"script: {error.error}"))
    yield context
    assert complaints == []


@pytest.fixture
def dark(page: Page) -> Page:
    page.emulate_media(color_scheme="dark")
    return page
