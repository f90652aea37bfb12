"""Every control of panel and tab, in both tabs, light and dark; and page, file and API on the same picture."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from lib_memstab import badge
from lib_memstab.host.wording import HELD_BACK
from lib_memstab.settings import TABLE
from tests.e2e.test_browser import choose, open_tab, wait_for_words
from tests.e2e.test_gallery import (
    CARD,
    close,
    compare,
    contrast,
    fill,
    generate,
    infotext,
    report_of,
    set_number,
    words,
)

pytestmark = pytest.mark.e2e

SETTINGS = TABLE[1:]
DEFAULTS = {setting.attribute: setting.default for setting in SETTINGS}
OWN = {**DEFAULTS, "mode": "detect", "sensitivity": 250.0, "strength": 0.5, "profile": "memstab-lab"}
FOREIGN = "a dog\nSteps: 9, Sampler: Euler, CFG scale: 7.5, Seed: 5, Size: 128x128"
inside = pytest.mark.parametrize("tab", ["txt2img", "img2img"])
seen_in = pytest.mark.parametrize("theme", ["light", "dark"])


@pytest.fixture
def clean(calibrated):
    """No presets, before and after."""
    if calibrated.folder is None:
        pytest.skip("presets would stay behind in a WebUI that runs already")
    file = calibrated.folder / "models" / "MemStab" / "presets" / "presets.json"
    file.unlink(missing_ok=True)
    yield file
    file.unlink(missing_ok=True)


def part(tab, name):
    return f"#script_{tab}_memstab_{name}"


def open_panel(page, tab):
    page.click(f"#tabs > .tab-nav > button:text-is('{tab}')")
    page.click(f"{part(tab, 'enable')} .label-wrap")
    page.wait_for_function(f"document.querySelector('{part(tab, 'enable')}-checkbox input').checked")


def put(page, tab, settings):
    """Set the panel's controls by hand."""
    for setting in SETTINGS:
        name, value = part(tab, setting.attribute), settings[setting.attribute]
        if setting.choices:
            page.check(f"{name} input[value='{value}']")
        elif not isinstance(setting.default, str):
            set_number(page, name.removeprefix("#"), value)
        else:
            page.click(f"{name} input")
            page.click(f"{name} ul.options li[data-value='{value}']")


def shown(page, tab):
    """What the panel's controls say."""
    found = {}
    for setting in SETTINGS:
        name = part(tab, setting.attribute)
        if setting.choices:
            found[setting.attribute] = page.input_value(f"{name} input:checked")
        elif not isinstance(setting.default, str):
            found[setting.attribute] = float(page.input_value(f"{name} input[type=number]"))
        else:
            found[setting.attribute] = page.input_value(f"{name} input")
    return found


def choose_preset(page, tab, name):
    """Choose a preset; a list that was open before it came has to be opened again."""
    for _ in range(20):
        page.click(f"{part(tab, 'preset')} input")
        page.wait_for_timeout(500)
        option = page.locator(f"{part(tab, 'preset')} ul.options li[data-value='{name}']")
        if option.count():
            option.click()
            return
        page.keyboard.press("Escape")
        page.locator(f"{part(tab, 'preset')} input").blur()
    pytest.fail(f"{name} is not among the presets")


def wait_for_settings(page, tab, settings):
    for _ in range(100):
        if shown(page, tab) == settings:
            return
        page.wait_for_timeout(100)
    assert shown(page, tab) == settings


def says(page, tab, name, text):
    page.wait_for_function(
        "([name, text]) => new RegExp(text).test(document.querySelector(name).innerText)", arg=[part(tab, name), text]
    )


def give(page, picture, field="#img2img_image"):
    """Put a picture file into a field for pictures."""
    page.set_input_files(f"{field} input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": picture})
    page.wait_for_selector(f"{field} img")


def a_picture():
    data = io.BytesIO()
    Image.effect_noise((128, 128), 60).convert("RGB").save(data, "PNG")
    return data.getvalue()


@inside
@seen_in
def test_every_control_of_the_panel_does_what_it_says(opened, clean, pictures, tab, theme):
    page = opened(f"/?__theme={theme}")
    page.click(f"#tabs > .tab-nav > button:text-is('{tab}')")
    fill(page, infotext("a red star"), tab)
    for setting in SETTINGS:
        for value in setting.choices:
            page.check(f"{part(tab, setting.attribute)} input[value='{value}']")
    put(page, tab, OWN)
    wait_for_settings(page, tab, OWN)
    page.fill(f"{part(tab, 'preset_name')} input", "mine")
    page.click(part(tab, "preset_save"))
    says(page, tab, "preset_answer", "mine is saved")
    put(page, tab, DEFAULTS)
    page.click(part(tab, "preset_save"))
    says(page, tab, "preset_answer", "once more to replace mine")
    choose_preset(page, tab, "mine")
    wait_for_settings(page, tab, OWN)
    page.click(part(tab, "check"))
    says(page, tab, "status", "memstab-lab was calibrated for this")
    page.screenshot(path=pictures / f"panel-{tab}-{theme}.png")
    page.click(part(tab, "calibrate"))
    says(page, tab, "status", r"\d+ of \d+ images")
    page.click(part(tab, "stop"))
    says(page, tab, "status", "stopped")
    for answer in ("once more to delete mine", "mine is deleted"):
        page.click(part(tab, "preset_delete"))
        says(page, tab, "preset_answer", answer)
    assert json.loads(clean.read_text("utf-8"))["presets"] == []
    assert contrast_of(page, f"{part(tab, 'status')} p") >= 4.5


def contrast_of(page, name):
    """Contrast of a text to the nearest ground behind it that is not transparent."""
    page.eval_on_selector(
        name,
        """one => {
            let behind = one;
            while (behind.parentElement && /, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) {
                behind = behind.parentElement;
            }
            one.classList.add('memstab-card');
            one.style.color = getComputedStyle(one.parentElement).color;
            one.style.backgroundColor = getComputedStyle(behind).backgroundColor;
        }""",
    )
    return contrast(page, name)


@inside
def test_presets_are_for_both_tabs_and_for_pages_that_are_open_already(calibrated, opened, clean, tab):
    other = "img2img" if tab == "txt2img" else "txt2img"
    page, second = opened(), opened()
    open_panel(page, tab)
    put(page, tab, OWN)
    page.fill(f"{part(tab, 'preset_name')} input", "mine")
    page.click(part(tab, "preset_save"))
    says(page, tab, "preset_answer", "mine is saved")
    assert calibrated.call("/memstab/v1/presets")[1] == [{"name": "mine", "settings": OWN}]
    open_panel(second, other)
    choose_preset(second, other, "mine")
    wait_for_settings(second, other, OWN)
    clean.write_text("{")
    second.click(part(other, "preset_save"))
    says(second, other, "preset_answer", "Repair the file, or move it away")
    assert calibrated.call("/memstab/v1/presets")[0] == 409
    assert clean.read_text() == "{"


@inside
@seen_in
def test_page_file_and_api_say_the_same_of_a_picture(calibrated, opened, memorized, pictures, tab, theme):
    page = opened(f"/?__theme={theme}")
    start = a_picture()
    page.click(f"#tabs > .tab-nav > button:text-is('{tab}')")
    fill(page, infotext(memorized[2]), tab)
    put(page, tab, OWN)
    more = {}
    if tab == "img2img":
        give(page, start)
        set_number(page, "img2img_denoising_strength", 0.9)
        more = {"init_images": [base64.b64encode(start).decode()], "denoising_strength": 0.9}
    generate(page, tab)
    preview = f"#{tab}_gallery .preview"
    filed = report_of(page, f"{preview} > img")
    assert [last["verdict"] for last in calibrated.call("/memstab/v1/reports/last")[1]] == ["flagged"]
    assert calibrated.call("/memstab/v1/reports/last")[1] == [filed.to_dict()]
    told = calibrated.one(
        memorized[2], {key: OWN[key] for key in ("mode", "sensitivity", "strength", "profile")}, page=tab, **more
    )
    assert (told.report.verdict, told.report.steps, told.report.profile) == (filed.verdict, filed.steps, filed.profile)
    # The WebUI encodes an init picture with chance in it, which no seed fixes.
    assert told.report.score == pytest.approx(filed.score, abs=0.05)
    if tab == "txt2img":
        file = page.request.get(page.get_attribute(f"{preview} > img", "src")).body()
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int), told.pixels)
        assert told.report == filed
    assert words(page, f"{preview} > .memstab-badge") == filed.verdict == "flagged"
    said = page.inner_text(f"#html_info_{tab}")
    assert f"MemStab: {badge.settings_to_infotext(badge.JobSettings(**OWN))}" in said
    assert f"MemStab verdict: {badge.verdict_to_infotext(filed)}" in said
    assert f"MemStab verdict: {badge.verdict_to_infotext(told.report)}" in told.infotext
    page.click(f"{preview} > .memstab-badge")
    compare(page, filed)
    page.screenshot(path=pictures / f"card-{tab}-{theme}.png")
    for text in ("dt", "dd", "strong"):
        assert contrast(page, f"{CARD} {text}") >= 4.5


@inside
def test_pasting_restores_settings_exactly_and_a_foreign_picture_brings_back_the_default(opened, tab):
    page = opened()
    open_panel(page, tab)
    put(page, tab, OWN)
    paste(page, tab, FOREIGN)
    page.wait_for_function(f"!document.querySelector('{part(tab, 'enable')}-checkbox input').checked")
    wait_for_settings(page, tab, DEFAULTS)
    own = f"{FOREIGN}, MemStab: {badge.settings_to_infotext(badge.JobSettings(**OWN))}".replace("Seed: 5", "Seed: 6")
    paste(page, tab, own)
    page.wait_for_function(f"document.querySelector('{part(tab, 'enable')}-checkbox input').checked")
    wait_for_settings(page, tab, OWN)
    # Only a prompt, and a verdict whose settings were not kept, say nothing of the panel.
    for text in ("a cat", f"{FOREIGN}, MemStab verdict: clear p=0.5 score 1".replace("Seed: 5", "Seed: 7")):
        paste(page, tab, text)
        page.wait_for_timeout(1000)
        assert shown(page, tab) == OWN


def paste(page, tab, text):
    page.fill(f"#{tab}_prompt textarea", text)
    page.click("#paste" if tab == "txt2img" else f"#{tab}_tools #paste")
    seed = re.search(r"Seed: (\d)", text)
    if seed:
        page.wait_for_function(f"document.querySelector('#{tab}_seed input').value == {seed.group(1)}")


def test_a_dropped_picture_is_badged_and_carries_its_settings_to_img2img_inpaint_and_extras(
    calibrated, opened, memorized, pictures
):
    told = calibrated.one(memorized[2], {key: OWN[key] for key in ("mode", "sensitivity", "strength", "profile")})
    file = base64.b64decode(told.data)
    page = opened()
    page.click("#tabs > .tab-nav > button:text-is('PNG Info')")
    give(page, file, "#pnginfo_image")
    page.wait_for_selector("#pnginfo_image .memstab-badge")
    for goal, tab, field in (
        ("txt2img_tab", "txt2img", None),
        ("img2img_tab", "img2img", "#img2img_image"),
        ("inpaint_tab", "img2img", None),
        ("extras_tab", None, "#extras_image"),
    ):
        page.click("#tabs > .tab-nav > button:text-is('PNG Info')")
        page.click(f"#{goal}")
        if tab is not None:
            page.wait_for_function(f"document.querySelector('{part(tab, 'enable')}-checkbox input').checked")
            wait_for_settings(page, tab, OWN)
        if field is not None:
            page.wait_for_selector(f"{field} img")
            page.screenshot(path=pictures / f"sent-{goal}.png")
    page.click("#tabs > .tab-nav > button:text-is('img2img')")
    page.click("#mode_img2img button:text-is('img2img')")
    page.click("#img2img_image button[aria-label='Remove Image'], #img2img_image button[aria-label='Clear']")
    give(page, file)
    page.click("#img2img_image .memstab-badge")
    compare(page, told.report)
    page.screenshot(path=pictures / "init-picture.png")
    close(page)


def test_the_prompts_history_restores_the_panel(calibrated, opened, memorized):
    """The WebUI's history is params.txt: pasting with an empty prompt reads the last job's parameters."""
    calibrated.one(memorized[2], {key: OWN[key] for key in ("mode", "sensitivity", "strength", "profile")})
    page = opened()
    page.fill("#txt2img_prompt textarea", "")
    page.click("#paste")
    page.wait_for_function(f"document.querySelector('{part('txt2img', 'enable')}-checkbox input').checked")
    wait_for_settings(page, "txt2img", OWN)
    assert page.input_value("#txt2img_prompt textarea") == memorized[2]


@seen_in
def test_every_control_of_the_tab_answers(opened, calibrated, pictures, theme):
    page = opened(f"/?__theme={theme}")
    open_tab(page)
    page.wait_for_function("document.querySelector('#memstab_width input').value == 128")
    small = {"guidance": "7", "trajectories": "64", "batch_size": "2", "name": "x", "steps": "11", "suffix": "star"}
    for name, value in small.items():
        page.fill(f"#memstab_{name} :is(input, textarea)", value)
    for name, value in {"sampler": "DDIM", "scheduler": "Karras"}.items():
        choose(page, name, value)
    choose(page, "sampler", "Euler")
    for name in ("img2img", "pictures"):
        page.uncheck(f"#memstab_{name} input")
    for button in ("calibrate", "anew"):
        page.click(f"#memstab_{button}")
        wait_for_words(page, "line", r"[1-9]\d* of \d+ images")
        page.screenshot(path=pictures / f"tab-{button}-{theme}.png")
        page.click("#memstab_stop")
        wait_for_words(page, "line", "what was measured, .* is kept")
    page.click("#memstab_refresh")
    page.click("#tab_memstab button:has-text('Profiles')")
    page.wait_for_selector("#memstab_table table")
    choose(page, "chosen", "memstab-lab")
    wait_for_words(page, "words", "name +memstab-lab")
    for button, field, answer in (
        ("compare", "words", "Choose two different profiles"),
        ("rename", "answer", "memstab-lab ships with MemStab"),
        ("delete", "answer", "memstab-lab ships with MemStab"),
        ("import", "answer", "Choose a profile's file first"),
    ):
        page.click(f"#memstab_{button}")
        wait_for_words(page, field, answer)
    page.check("#memstab_replace input")
    page.click("#memstab_export")
    page.wait_for_selector("#memstab_file a")
    page.screenshot(path=pictures / f"tab-profiles-{theme}.png")
    page.click("#tab_memstab button:has-text('Learned')")
    page.click("#memstab_forget_today")
    wait_for_words(page, "learned", "images were forgotten")
    page.click("#memstab_forget_all")
    wait_for_words(page, "learned", "once more")
    page.screenshot(path=pictures / f"tab-learned-{theme}.png")
    assert contrast_of(page, "#memstab_learned p") >= 4.5


def test_flagged_images_are_not_saved_where_the_user_says_so(calibrated, opened, memorized, ordinary, option):
    if calibrated.folder is None:
        pytest.skip("the files of a WebUI that runs already are not known")
    outputs = calibrated.folder / "outputs"

    def files():
        return set(outputs.rglob("*.png"))

    option(memstab_files="do not save", save_images_before_highres_fix=True)
    prompts, detect = [memorized[2], ordinary[1], memorized[3]], {"mode": "detect"}
    before = files()
    pictures = calibrated.sample("", detect, batch_size=3, save_images=True, probe={"prompts": prompts})
    new = files() - before
    saved = [Image.open(one).info.get("memstab") for one in new]
    found = sorted(str(chunk and badge.from_chunk(chunk).verdict) for chunk in saved)
    assert found == ["None", "clear"]  # a grid, and the one that is not flagged
    assert [one.report and one.report.verdict for one in pictures] == [None, "flagged", "clear", "flagged"]
    before = files()
    calibrated.one(memorized[2], {"mode": "suppress"}, save_images=True)
    assert len(files() - before) == 1
    before = files()
    hires = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_upscaler": "Latent"}
    calibrated.one(memorized[2], detect, save_images=True, **hires)
    assert files() == before
    page = opened()
    fill(page, infotext(memorized[2]))
    generate(page)
    assert files() == before
    assert report_of(page, "#txt2img_gallery .preview > img").verdict == "flagged"
    assert HELD_BACK in page.inner_text("#html_info_txt2img, #html_log_txt2img") or HELD_BACK in page.content()
    page.click("#save_txt2img")
    page.wait_for_function("document.querySelector('#html_log_txt2img').innerText.includes('Saved')")
    logged = (calibrated.folder / "log").rglob("*.png") if (calibrated.folder / "log").is_dir() else []
    assert [badge.from_chunk(Image.open(one).info["memstab"]).verdict for one in logged] in ([], ["flagged"])
    option(memstab_files="save as usual")
    calibrated.one(memorized[2], detect, save_images=True)
    assert len(files() - before) >= 1
