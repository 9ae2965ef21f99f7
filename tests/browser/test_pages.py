"""The staff's pages in a real browser: what is seen, not only what is in the document."""

import re
from collections import Counter

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SEATTLE, WATER, OFFICE, HAND = 1, 2, 3, 4
RECORDED = 1
MAIN = {
    "dashboard": "/admin/",
    "devices": "/admin/devices/device/",
    "overview": f"/admin/devices/device/{OFFICE}/overview/?range=7d",
    "telemetry": f"/admin/devices/device/{WATER}/telemetry/?start_time=-7d",
    "events of a device": f"/admin/devices/device/{HAND}/events/",
    "keys": f"/admin/devices/device/{HAND}/keys/",
    "configuration": f"/admin/devices/device/{HAND}/configuration/",
    "settings of a device": f"/admin/devices/device/{HAND}/change/",
    "matrix": f"/admin/devices/devicegroup/{RECORDED}/latest/",
    "compare": "/admin/devices/devicegroup/2/compare/?range=1h",
    "members": f"/admin/devices/devicegroup/{RECORDED}/members/?q=sim",
    "events": "/admin/events/eventlog/",
    "alerts": "/admin/events/alert/",
    "an alert rule": "/admin/telemetry/alertrule/add/",
    "users": "/admin/accounts/user/",
    "front": "/",
}


def line_pixels(page: Page, canvas: Locator, colour: str = "--iot-1") -> int:
    """How many pixels of the canvas are of a colour, the first series' by default, or nearly so."""
    wanted = page.evaluate(
        f"getComputedStyle(document.documentElement).getPropertyValue('{colour}').trim()"
    )
    red, green, blue = (int(wanted[at : at + 2], 16) for at in (1, 3, 5))
    return int(
        canvas.evaluate(
            """(canvas, [r, g, b]) => {
                const { width, height } = canvas;
                const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                let found = 0;
                for (let i = 0; i < data.length; i += 4)
                    if (data[i + 3] > 128 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g)
                        + Math.abs(data[i + 2] - b) < 60) found += 1;
                return found;
            }""",
            [red, green, blue],
        )
    )


def overview(page: Page, device: int, query: str = "range=7d") -> None:
    page.goto(f"/admin/devices/device/{device}/overview/?{query}")
    expect(page.locator("#charts .iot-hint").first).not_to_have_text("Loading …")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [SEATTLE, WATER, OFFICE])
def test_recorded_readings_are_drawn(page, device, scheme):
    page.emulate_media(color_scheme=scheme)
    overview(page, device)
    for canvas in page.locator("#charts canvas").all():
        assert line_pixels(page, canvas) > 300


def test_dragging_across_a_chart_zooms_and_the_address_keeps_it(page):
    overview(page, SEATTLE, "range=30d")
    chart = page.locator("#charts .u-over").first
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 50, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    zoomed = page.locator("#chart-span").inner_text()
    page.reload()
    expect(page.locator("#chart-span")).to_have_text(zoomed)
    page.go_back()
    expect(page.locator("[data-range='30d']")).to_have_attribute("aria-pressed", "true")


def test_a_device_is_made_and_its_key_is_shown_once(page):
    page.goto("/admin/devices/device/add/")
    page.get_by_label("Name").fill("Made in a browser")
    page.locator(".select2-selection").first.click()
    page.locator(".select2-search__field").fill("demo")
    page.locator(".select2-results__option", has_text="demo").first.click()
    page.get_by_role("button", name="Save", exact=True).click()
    key = page.get_by_label("API key")
    secret = key.input_value()
    assert secret.startswith("iotd_")
    page.get_by_role("link", name="go to the device").click()
    assert secret not in page.content()
    page.get_by_role("link", name="Keys").click()
    assert secret not in page.content()
    expect(page.get_by_text("valid", exact=True)).to_be_visible()


def test_another_key_has_a_label_and_ends_when_it_is_revoked(page):
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/admin/devices/device/{HAND}/keys/")
    page.get_by_label("Label").fill("spare")
    page.get_by_role("button", name="Make the key").click()
    assert page.get_by_label("API key").input_value().startswith("iotd_")
    row = page.get_by_role("row", name=re.compile("spare"))
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name=re.compile("spare"))).to_contain_text("revoked")


def test_a_key_that_ends_before_it_begins_is_not_made(page):
    page.goto(f"/admin/devices/device/{HAND}/keys/")
    page.locator("[name=expires_at_0]").fill("2020-01-01")
    page.locator("[name=expires_at_1]").fill("00:00")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("Must be after its beginning")).to_be_visible()


def test_everything_is_found_by_control_k(page):
    page.goto("/admin/")
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").press_sequentially("Seattle", delay=20)
    page.get_by_role("link", name=re.compile("Seattle weather")).click()
    page.wait_for_url(re.compile(rf"/device/{SEATTLE}/overview/"))


def test_all_devices_of_a_group_change_together_and_it_says_how_many(page):
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/admin/devices/devicegroup/{RECORDED}/members/")
    for status, changed in (("maintenance", 3), ("active", 3), ("active", 0)):
        page.locator("#bulk select").select_option(status)
        page.get_by_role("button", name="Do it").click()
        expect(page.locator("#bulk output")).to_have_text(
            f"{changed} device(s) are {status} now; {3 - changed} were."
        )


def test_the_dashboard_is_refreshed_in_place(page):
    page.goto("/admin/")
    with page.expect_response(re.compile("/admin/dashboard/"), timeout=15_000) as answer:
        pass
    assert answer.value.ok
    expect(page.locator("#figures .iot-tile").first).to_be_visible()


def test_an_event_is_filtered_for_and_opened(page):
    page.goto("/admin/events/eventlog/")
    page.get_by_label("Kind").select_option("device.registered")
    page.get_by_label("Since").fill("-1d")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("kind=device.registered"))
    rows = page.locator("#events tbody tr")
    assert set(rows.locator("td:nth-child(3)").all_inner_texts()) == {"device.registered"}
    message = rows.first.locator("td:nth-child(4) a")
    text = message.inner_text()
    message.click()
    expect(page.get_by_text(text).first).to_be_visible()
    expect(page.locator("pre").first).to_contain_text('"device_type"')
    page.get_by_role("link", name="Older →").click()
    expect(page.get_by_role("link", name="← Newer")).to_be_visible()
    assert "kind=device.registered" in page.url  # and the way back is to the same list


def test_new_events_come_in_while_it_is_live(page):
    page.goto("/admin/events/eventlog/?kind=telemetry.submitted")
    page.get_by_label("Live").check()
    shown = page.locator("#events [data-id]").first.get_attribute("data-id")
    expect(page.locator(f"#events tbody tr:first-child:not([data-id='{shown}'])")).to_be_visible()
    expect(page.locator("#events .iot-new").first).to_be_visible()


def test_a_file_of_devices_shows_first_what_it_would_change(page):
    content = b"owner,name,location\ndemo,From a file,Roof\n"
    file = {"name": "devices.csv", "mimeType": "text/csv", "buffer": content}
    for is_confirmed in (False, True):
        page.goto("/admin/devices/device/")
        page.get_by_role("link", name="Import").click()
        page.set_input_files("input[type=file]", [file])  # type: ignore[list-item]
        page.get_by_role("button", name="Submit").click()
        expect(page.get_by_role("cell", name="Roof")).to_be_visible()
        if is_confirmed:
            page.get_by_role("button", name="Confirm import").click()
            expect(page.get_by_text("Import finished")).to_be_visible()
        page.goto("/admin/devices/device/?q=From+a+file")
        made = page.locator("#result_list").get_by_role("link", name="From a file")
        expect(made).to_have_count(1 if is_confirmed else 0)


def test_dark_is_chosen_and_stays(page):
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.goto("/admin/")
    light = background()
    page.get_by_text("unfold_more").click()
    page.get_by_text("Dark", exact=True).click()
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    assert background() != light
    page.goto("/admin/events/eventlog/")
    expect(page.locator("html")).to_have_class(re.compile("dark"))


def test_a_keyboard_is_enough_to_choose_dark(page):
    page.goto("/admin/")
    menu = page.get_by_role("button").filter(has_text="unfold_more")
    menu.focus()
    page.keyboard.press("Enter")
    dark = page.get_by_role("button", name="Dark", exact=True)
    expect(dark).to_be_visible()
    for _ in range(20):  # the menu comes before its button
        page.keyboard.press("Shift+Tab")
        if dark.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press(" ")
    expect(page.locator("html")).to_have_class(re.compile("dark"))


@pytest.mark.parametrize("address", MAIN.values(), ids=MAIN.keys())
def test_a_narrow_screen_is_not_scrolled_sideways(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", MAIN.values(), ids=MAIN.keys())
def test_nothing_serious_is_in_the_way_of_anybody(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.wait_for_load_state("networkidle")
    found = Axe().run(page).response["violations"]
    serious = Counter(
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    )
    assert serious == {}
