"""The demo, with its recorded readings, and a browser in front of it: Debian's Chromium.

Whatever the page asks of anybody else, whatever fails and whatever the console says is an error
fails the test that met it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, expect

from tests.browser.chromium import OPTIONS, provide
from tests.browser.demo import Demo, running

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    provide()
    return OPTIONS


@pytest.fixture(scope="session")
def session(browser: Browser, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookies of an admin who has logged in by the form."""
    place = tmp_path_factory.mktemp("session") / "state.json"
    context = browser.new_context()
    demo.log_in(context.new_page())
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
