"""Alerts in a real browser: on the dashboard, on the page of the device, and on its chart."""

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.demo import Demo
from tests.browser.test_pages import HAND, line_pixels, overview

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def post(page: Page, path: str, body: Any, **headers: str) -> Any:
    answer = page.request.post(f"/api/v1/{path}", data=body, headers=headers)
    assert answer.ok, answer.text()
    return answer.json()


def test_what_is_open_is_listed_and_shades_the_chart(page, demo: Demo):
    who = {"username": demo.username, "password": demo.password}
    staff = {"Authorization": f"Bearer {post(page, 'auth/login', who)['token']}"}
    rule = {"name": "<i>hot</i>", "measurement": "heat", "kind": "above", "threshold": 30}
    post(page, "alert-rules", {**rule, "device_id": HAND, "severity": "error"}, **staff)
    key = post(page, f"devices/{HAND}/keys", {"label": "for alerts"}, **staff)["api_key"]
    now = time.time()
    readings = [
        {"data": {"heat": value}, "timestamp": now - ago}
        for ago, value in ((240, 20), (180, 31.5), (120, 33), (60, 32))
    ]
    page.goto("/admin/")
    said = page.locator("#open-alerts li", has_text="heat is 31.5, above 30")
    expect(said).to_have_count(0)
    post(page, "telemetry/batch", {"readings": readings}, **{"X-API-Key": key})
    expect(said).to_contain_text("error", timeout=20_000)  # without a reload
    overview(page, HAND, "range=1h")
    expect(page.locator("#open-alerts")).to_contain_text("heat is 31.5, above 30")
    chart = page.locator("#charts section", has_text="heat").locator("canvas")
    expect(page.locator("#lane a.iot-error").first).to_be_visible()
    assert line_pixels(page, chart, "--iot-bad") > 100
    page.locator("#open-alerts li a").first.click()
    expect(page.get_by_text("heat is 31.5, above 30").first).to_be_visible()
    page.goto("/admin/events/alert/?q=")
    page.locator("#result_list input[name=_selected_action]").first.check()
    page.locator("select[name=action]").select_option("resolve")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("1 alert(s) resolved.")).to_be_visible()
    page.goto("/admin/")
    expect(page.locator("#open-alerts")).to_have_count(0)
