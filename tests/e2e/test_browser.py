"""The panel in a real browser: switched on by a click, restored by pasting, carried to img2img."""

import shutil

import pytest

pytestmark = pytest.mark.e2e

PATIENCE_MS = 240_000
"""How long a busy machine may take for a page."""

BADGED = (
    "a cat\nSteps: 9, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: 128x128, MemStab: detect 250 strength 0.5, "
    "MemStab verdict: clear p=0.5 score 1"
)
FOREIGN = "a dog\nSteps: 9, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: 128x128"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("the browser tests need chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(calibrated, browser):
    opened = browser.new_page(viewport={"width": 1400, "height": 1800})
    opened.set_default_timeout(PATIENCE_MS)
    opened.goto(calibrated.address)
    opened.wait_for_selector("#script_txt2img_memstab_enable")
    yield opened
    opened.close()


def paste(page, text):
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")
    page.wait_for_function("document.querySelector('#txt2img_steps input').value == 9")


def settings(page, tab="txt2img"):
    """Enabled, mode, sensitivity and strength as the panel shows them."""
    area = f"#script_{tab}_memstab"
    return (
        page.is_checked(f"{area}_enable-checkbox input"),
        page.eval_on_selector_all(f"{area}_mode input", "all => all.find(one => one.checked)?.value"),
        float(page.input_value(f"{area}_sensitivity input[type=number]")),
        float(page.input_value(f"{area}_strength input[type=number]")),
    )


def switch_on(page):
    page.click("#script_txt2img_memstab_enable .label-wrap")
    page.wait_for_function("document.querySelector('#script_txt2img_memstab_enable-checkbox input').checked")


def test_the_panel_starts_off_and_says_which_profile_applies(page):
    assert settings(page) == (False, "suppress", 100, 1)
    switch_on(page)
    page.click("#script_txt2img_memstab_check")
    page.wait_for_function("document.querySelector('#script_txt2img_memstab_status').innerText.length > 20")
    assert "memstab-lab" in page.inner_text("#script_txt2img_memstab_status")


def test_pasting_a_badge_restores_the_panel(page):
    paste(page, BADGED)
    page.wait_for_function("document.querySelector('#script_txt2img_memstab_enable-checkbox input').checked")
    assert settings(page) == (True, "detect", 250, 0.5)


def test_pasting_a_foreign_picture_does_not_switch_it_on(page):
    paste(page, FOREIGN)
    assert settings(page) == (False, "suppress", 100, 1)


@pytest.mark.parametrize(("typed", "shown"), [("0", 2), ("999999", 100_000)])
def test_a_number_outside_its_range_is_clamped_where_it_is_seen(page, typed, shown):
    switch_on(page)
    field = page.locator("#script_txt2img_memstab_sensitivity input[type=number]")
    field.fill(typed)
    field.blur()
    page.wait_for_function(
        "([name, value]) => document.querySelector(name).value == value",
        arg=["#script_txt2img_memstab_sensitivity input[type=number]", shown],
    )


def test_a_generated_picture_is_badged_and_sent_to_img2img_with_its_settings(page, memorized):
    paste(page, BADGED.replace("a cat", memorized[2]))
    page.wait_for_function("document.querySelector('#script_txt2img_memstab_enable-checkbox input').checked")
    page.click("#txt2img_generate")
    page.wait_for_function("document.querySelector('#html_info_txt2img').innerText.includes('MemStab verdict')")
    assert "MemStab verdict: flagged" in page.inner_text("#html_info_txt2img")
    page.click("#txt2img_send_to_img2img")
    page.wait_for_function("document.querySelector('#script_img2img_memstab_enable-checkbox input').checked")
    assert settings(page, "img2img") == (True, "detect", 250, 0.5)
