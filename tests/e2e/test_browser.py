"""Panel and tab in a real browser: what a click, a pasted infotext and a file do, and what is seen of it."""

import re
from dataclasses import replace

import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.store import SHIPPED

pytestmark = pytest.mark.e2e

PATIENCE_MS = 240_000
"""How long a busy machine may take for a page."""

BADGED = (
    "a cat\nSteps: 9, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: 128x128, MemStab: detect 250 strength 0.5, "
    "MemStab verdict: clear p=0.5 score 1"
)
FOREIGN = "a dog\nSteps: 9, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: 128x128"


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


NAME = "from the tab"
HALF_DONE = r"(3\d|4\d|5\d) of 80 images"


@pytest.fixture
def tab(page):
    """The page with MemStab's tab open and filled in for a small calibration."""
    open_tab(page)
    page.wait_for_function("document.querySelector('#memstab_width input').value == 128")
    for name, value in {"steps": "12", "guidance": "7", "trajectories": "40", "batch_size": "2", "name": NAME}.items():
        page.fill(f"#memstab_{name} :is(input, textarea)", value)
    page.uncheck("#memstab_img2img input")
    return page


def open_tab(page):
    page.click("#tabs > .tab-nav > button:has-text('MemStab')")


def open_profiles(page):
    page.click("#tab_memstab button:has-text('Profiles')")
    page.wait_for_selector("#memstab_table table")


def upload(page, field, name, data):
    kind = "application/json" if name.endswith("json") else "text/plain"
    page.set_input_files(f"#memstab_{field} input[type=file]", {"name": name, "mimeType": kind, "buffer": data})
    page.wait_for_function(
        "([field, name]) => document.querySelector(field).innerText.includes(name)", arg=[f"#memstab_{field}", name[:4]]
    )


def choose(page, field, name):
    page.click(f"#memstab_{field} input")
    page.click(f"#memstab_{field} ul.options li[data-value='{name}']")


def wait_for_words(page, field, words):
    page.wait_for_function(
        "([field, words]) => new RegExp(words).test(document.querySelector(field).innerText)",
        arg=[f"#memstab_{field}", words],
    )


def delete(page, name):
    choose(page, "chosen", name)
    page.click("#memstab_delete")
    wait_for_words(page, "answer", "once more")
    page.click("#memstab_delete")
    wait_for_words(page, "answer", f"{re.escape(name)} is deleted")
    page.wait_for_function("name => !document.querySelector('#memstab_table').innerText.includes(name)", arg=name)


def test_a_calibration_is_stopped_goes_on_and_its_profile_is_used(calibrated, tab, splits):
    prompts = ["# those of the lab", *splits["calibration"][:40]]
    upload(tab, "prompts", "mine.txt", "\r\n".join(prompts).encode("utf-8-sig"))
    tab.click("#memstab_calibrate")
    wait_for_words(tab, "line", HALF_DONE)
    tab.wait_for_selector("#memstab_region img")
    tab.click("#memstab_stop")
    wait_for_words(tab, "line", "what was measured, .* is kept")
    tab.click("#memstab_calibrate")
    wait_for_words(tab, "line", r"of 80 images, \d+ of them measured before, about .* left")
    tab.reload()
    open_tab(tab)
    wait_for_words(tab, "line", "of them measured before")
    wait_for_words(tab, "line", f"saved as {NAME}")
    tab.wait_for_selector("#memstab_region img")
    open_profiles(tab)
    wait_for_words(tab, "table", NAME)
    try:
        picture = calibrated.one(splits["calibration"][50], {"mode": "detect"}, steps=12, cfg_scale=7)
        assert (picture.report.profile.name, picture.report.profile.match) == (NAME, "exact")
    finally:
        delete(tab, NAME)


def test_a_profile_is_imported_renamed_compared_exported_and_deleted(tab):
    open_profiles(tab)
    shipped = profiles.load(SHIPPED / "memstab-lab.json")
    upload(tab, "upload", "copy.json", replace(shipped, name="copy").to_bytes())
    tab.click("#memstab_import")
    wait_for_words(tab, "answer", "copy is imported")
    wait_for_words(tab, "words", "name +copy")
    tab.fill("#memstab_new input", "memstab-lab")
    tab.click("#memstab_rename")
    wait_for_words(tab, "answer", "there is a profile memstab-lab already")
    tab.fill("#memstab_new input", "twin")
    tab.click("#memstab_rename")
    wait_for_words(tab, "answer", "copy is now twin")
    wait_for_words(tab, "words", "name +twin")
    choose(tab, "other", "memstab-lab")
    tab.click("#memstab_compare")
    wait_for_words(tab, "words", "against those of twin[^]*txt2img[^]*0.0%")
    tab.wait_for_selector("#memstab_plot img")
    tab.click("#memstab_export")
    with tab.expect_download() as download:
        tab.click("#memstab_file a")
    assert profiles.load(download.value.path()).name == "twin"
    delete(tab, "twin")
    choose(tab, "chosen", "memstab-lab")
    tab.click("#memstab_delete")
    wait_for_words(tab, "answer", "ships with MemStab")


def test_a_file_that_is_no_list_of_prompts_is_refused_in_a_sentence(calibrated, tab):
    before = calibrated.call("/memstab/v1/calibrate")[1]
    upload(tab, "prompts", "few.txt", b"one\ntwo\nthree\n")
    tab.click("#memstab_calibrate")
    wait_for_words(tab, "line", "has 3 different prompts")
    assert calibrated.call("/memstab/v1/calibrate")[1] == before


def test_what_was_learned_is_told_and_forgotten(calibrated, tab):
    tab.click("#tab_memstab button:has-text('Learned')")
    wait_for_words(tab, "learned", "MemStab does not learn now")
    calibrated.call("/sdapi/v1/options", {"memstab_learn": True})
    try:
        calibrated.one("a red star on a blue background", {"mode": "detect"})
    finally:
        calibrated.call("/sdapi/v1/options", {"memstab_learn": False})
    tab.click("#memstab_refresh")
    wait_for_words(tab, "learned", "1 of your generations")
    tab.click("#memstab_forget_all")
    wait_for_words(tab, "learned", "once more")
    tab.click("#memstab_forget_all")
    wait_for_words(tab, "learned", r"1 images were forgotten\.[^]*Nothing has been learned")


def test_the_tab_looks_through_the_webuis_pictures(calibrated, memorized, tab):
    calibrated.one(memorized[2], {"mode": "detect"}, save_images=True)
    tab.click("#tab_memstab button:has-text('Audit')")
    tab.click("#memstab_audit_start")
    tab.wait_for_selector("#memstab_audit_result a[target=_blank]")
    assert "flagged" in tab.inner_text("#memstab_audit_result")
    link = tab.eval_on_selector("#memstab_audit_result a", "one => one.href")
    answer = tab.request.get(link)
    assert answer.ok
    assert answer.body().startswith(b"\x89PNG")
    names = tab.inner_text("#memstab_audit_files")
    assert "audit.csv" in names
    assert "audit.jsonl" in names
