"""Styles, and what the gallery sends to other tabs: MemStab's settings come back exactly, and prompts stay prompts."""

import csv
import io

import pytest
from PIL import Image

from lib_memstab import badge
from tests.e2e.test_gallery import fill, generate, infotext
from tests.e2e.test_panel import DEFAULTS, OWN, a_picture, give, inside, open_panel, part, put, wait_for_settings
from tests.e2e.test_panel import paste as paste_text
from tests.e2e.test_panel import shown as shown_in

pytestmark = pytest.mark.e2e

STYLE = "of another make"
TEXT, NEGATIVE = "a drawing of {prompt}, MemStab: retry 7 strength 1", "blur, MemStab verdict: clear"
PROMPT = "a red star"
WHOLE = TEXT.format(prompt=PROMPT)


def prompt_of(page, tab):
    return page.input_value(f"#{tab}_prompt textarea"), page.input_value(f"#{tab}_neg_prompt textarea")


def wait_for_prompt(page, tab, prompt):
    page.wait_for_function(
        "([name, prompt]) => document.querySelector(name).value === prompt", arg=[f"#{tab}_prompt textarea", prompt]
    )


def styles_of(page, tab):
    return page.eval_on_selector_all(f"#{tab}_styles .token", "all => all.map(one => one.innerText.trim())")


def open_styles(page, tab):
    page.click(f"#{tab}_styles_edit_button")
    page.wait_for_selector(f"#{tab}_styles_edit_select input", state="visible")


def parameters(page, tab):
    """The infotext in the file of the picture that is shown."""
    data = page.request.get(page.get_attribute(f"#{tab}_gallery .preview > img", "src")).body()
    return Image.open(io.BytesIO(data)).info["parameters"]


@pytest.fixture
def style(calibrated):
    """A style of the user's, which a page chooses."""
    if calibrated.folder is None:
        pytest.skip("a style would stay behind in a WebUI that runs already")
    file = calibrated.folder / "styles.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as table:
        csv.writer(table).writerows([("name", "prompt", "negative_prompt"), (STYLE, TEXT, NEGATIVE)])

    def choose(page, tab):
        open_styles(page, tab)
        page.click(f"#refresh_{tab}_styles")
        page.wait_for_timeout(1000)
        page.click(f"#{tab}_edit_style_close")
        page.click(f"#{tab}_styles input")
        page.click(f"#{tab}_styles ul.options li[data-value='{STYLE}']")
        page.keyboard.press("Escape")
        assert styles_of(page, tab) == [STYLE]

    yield choose
    file.unlink()


@inside
def test_a_style_changes_the_prompt_only_and_its_pictures_restore_settings_and_prompt(opened, style, option, tab):
    page = opened()
    open_panel(page, tab)
    fill(page, infotext(PROMPT), tab)
    put(page, tab, OWN)
    if tab == "img2img":
        give(page, a_picture())
    style(page, tab)
    wait_for_settings(page, tab, OWN)
    generate(page, tab)
    text = parameters(page, tab)
    first, second, last = text.split("\n")
    assert (first, second) == (WHOLE, f"Negative prompt: {NEGATIVE}")
    assert f"MemStab: {badge.settings_to_infotext(badge.JobSettings(**OWN))}" in last

    put(page, tab, DEFAULTS)
    page.fill(f"#{tab}_neg_prompt textarea", "another")
    paste_text(page, tab, text)
    wait_for_settings(page, tab, OWN)
    assert prompt_of(page, tab) == (PROMPT, "")
    assert styles_of(page, tab) == [STYLE]
    assert page.is_checked(f"{part(tab, 'enable')}-checkbox input")

    open_styles(page, tab)
    page.click(f"#{tab}_style_apply_dialog")
    wait_for_prompt(page, tab, WHOLE)
    assert prompt_of(page, tab) == (WHOLE, NEGATIVE)
    assert styles_of(page, tab) == []
    assert shown_in(page, tab) == OWN

    option(infotext_styles="Ignore")
    put(page, tab, DEFAULTS)
    paste_text(page, tab, text)
    wait_for_settings(page, tab, OWN)
    assert prompt_of(page, tab) == (WHOLE, NEGATIVE)


def test_a_prompt_that_looks_like_settings_is_a_prompt(opened):
    page = opened()
    open_panel(page, "txt2img")
    put(page, "txt2img", OWN)
    paste_text(page, "txt2img", WHOLE)
    page.wait_for_timeout(1000)
    assert prompt_of(page, "txt2img") == (WHOLE, "")
    assert shown_in(page, "txt2img") == OWN


def test_the_gallery_sends_a_picture_with_its_settings_to_inpaint_and_without_to_extras(opened, pictures):
    page = opened()
    fill(page, infotext(PROMPT))
    put(page, "txt2img", OWN)
    generate(page)
    page.click("#txt2img_send_to_inpaint")
    page.wait_for_function(f"document.querySelector('{part('img2img', 'enable')}-checkbox input').checked")
    wait_for_settings(page, "img2img", OWN)
    wait_for_prompt(page, "img2img", PROMPT)
    page.wait_for_selector("#img2maskimg img", state="attached")
    page.screenshot(path=pictures / "sent-to-inpaint.png")
    page.click("#tabs > .tab-nav > button:text-is('txt2img')")
    page.click("#txt2img_send_to_extras")
    page.wait_for_selector("#extras_image img")
    assert shown_in(page, "txt2img") == OWN
    page.wait_for_selector("#extras_image .memstab-badge")
