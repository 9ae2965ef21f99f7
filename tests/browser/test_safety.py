"""The pages under the policy that browsers are told, and the second factor, in a real browser."""

import re
from base64 import b32decode
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from django_otp.oath import totp
from playwright.sync_api import Browser, Page, expect

from tests.browser.demo import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
MARKUP = "<img src=x onerror='window.hit = 1'>"


def test_markup_runs_nothing_anywhere(page):
    page.goto("/admin/devices/device/add/")
    page.get_by_label("Name").fill(MARKUP)
    page.get_by_label("Location").fill(MARKUP)
    page.locator(".select2-selection").first.click()
    page.locator(".select2-search__field").fill("demo")
    page.locator(".select2-results__option", has_text="demo").first.click()
    page.get_by_role("button", name="Save", exact=True).click()
    key = page.get_by_label("API key").input_value()
    page.get_by_role("link", name="go to the device").click()
    device = re.search(r"/device/(\d+)/", page.url)[1]
    for name in ("a", "<i>b</i>"):
        sent = {"data": {name: 1}, "metadata": {"m": MARKUP}}
        page.request.post("/api/v1/telemetry", data=sent, headers={"X-API-Key": key})
    for path in (
        "",
        "devices/device/",
        *(f"devices/device/{device}/{tab}/" for tab in ("overview", "telemetry", "events", "keys")),
        "events/eventlog/",
    ):
        page.goto(f"/admin/{path}")
        page.wait_for_load_state("networkidle")
        expect(page.locator("img[src='x']")).to_have_count(0)
        assert page.evaluate("window.hit") is None, path
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").press_sequentially("onerror", delay=20)
    expect(page.get_by_role("link", name=re.compile("onerror")).first).to_be_visible()
    expect(page.locator("img[src='x']")).to_have_count(0)


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/api/docs"])
def test_a_script_that_gets_into_a_page_is_not_run(browser: Browser, demo: Demo, path):
    page = browser.new_page()
    page.goto(f"{demo.url}{path}")
    page.wait_for_load_state("networkidle")
    page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", MARKUP)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hit = 2";
        document.body.append(script);
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    page.close()


def test_the_api_is_tried_on_its_page(page):
    page.goto("/api/docs")
    operation = page.locator(".opblock", has_text="/api/v1/auth/register").first
    operation.locator(".opblock-summary-control").click()
    expect(operation.get_by_role("button", name="Try it out")).to_be_visible()
    status = page.locator(".opblock-get", has_text=re.compile(r"^GET/status")).first
    status.locator(".opblock-summary-control").click()
    status.get_by_role("button", name="Try it out").click()
    status.get_by_role("button", name="Execute").click()
    expect(status.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text(
        "200"
    )


def test_a_file_to_export_is_asked_for(page):
    page.goto("/admin/devices/device/export/")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


@pytest.fixture
def colleague(demo: Demo) -> Demo:
    """Another superuser, so that the others' sessions are not asked for a code."""
    password = "swordfish 17"
    naming = ("--username", "colleague", "--email", "colleague@example.org")
    demo.manage("createsuperuser", "--noinput", *naming, DJANGO_SUPERUSER_PASSWORD=password)
    return replace(demo, username="colleague", password=password)


def is_pleasant(page: Page) -> None:
    """Nothing serious is in anybody's way, light, dark or narrow."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})


def test_a_second_factor_is_set_up_asked_for_and_removed(page, colleague):
    page.on("dialog", lambda dialog: dialog.accept())
    page.context.clear_cookies()
    colleague.log_in(page)
    page.goto("/admin/second-factor/")
    is_pleasant(page)
    key = b32decode(page.get_by_label("Or type the key").input_value())
    page.get_by_label("Code", exact=True).fill(f"{totp(key):06d}")
    page.get_by_role("button", name="Set it up").click()
    expect(page.locator(".iot-codes code")).to_have_count(10)
    is_pleasant(page)
    codes = page.locator(".iot-codes code").all_inner_texts()
    page.get_by_role("link", name="I have them").click()
    page.wait_for_url(re.compile("/admin/$"))
    page.context.clear_cookies()
    colleague.give_password(page)
    page.wait_for_url(re.compile("/admin/code/"))
    is_pleasant(page)
    page.get_by_label("Code", exact=True).fill(codes[0])
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile("/admin/$"))
    page.goto("/admin/second-factor/")
    expect(page.get_by_text("9 recovery codes are left")).to_be_visible()
    is_pleasant(page)
    page.get_by_label("Code", exact=True).fill(f"{totp(key, drift=1):06d}")
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
