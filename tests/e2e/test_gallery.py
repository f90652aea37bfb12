"""Badges and cards on the pictures of a real WebUI in a real browser, against what Python reads in the same files."""

import io
import json
import re
import shutil
import struct
import urllib.parse
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lib_memstab import badge
from lib_memstab.badge import read_png
from lib_memstab.core.report import Heat
from tests.e2e.conftest import OTHER

pytestmark = pytest.mark.e2e

PATIENCE_MS = 240_000
"""How long a busy machine may take for a page."""

GALLERY = "#txt2img_gallery"
PREVIEW, SMALL = f"{GALLERY} .preview > .memstab-badge", f"{GALLERY} .thumbnails > .memstab-badge"
THUMBNAIL = f"{GALLERY} .thumbnails > .thumbnail-item"
LIGHTBOX = "#lightboxModal > .memstab-badge"
CARD = ".memstab-card"


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


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where screenshots are kept."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def opened(calibrated, browser):
    """Opens the WebUI in a page of its own, which must not say a word of errors."""
    pages, errors = [], []

    def open_page(address="/", width=1400, height=1200, **context):
        page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(calibrated.address + address)
        page.wait_for_selector("#script_txt2img_memstab_enable")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert errors == []


@pytest.fixture
def page(opened):
    return opened()


def infotext(prompt, *, mode="detect", size="128x128", more=""):
    return (
        f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: {size}, {more}MemStab: {mode} 100 "
        "strength 1, MemStab verdict: clear p=0.5 score 1"
    )


def fill(page, text, tab="txt2img"):
    """Paste an infotext, which sets the tab's fields and MemStab's."""
    page.fill(f"#{tab}_prompt textarea", text)
    page.click("#paste" if tab == "txt2img" else f"#{tab}_tools #paste")
    page.wait_for_function(f"document.querySelector('#{tab}_seed input').value == 1")
    page.wait_for_function(f"document.querySelector('#script_{tab}_memstab_enable-checkbox input').checked")


def set_number(page, name, value):
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.blur()


def wish(page, **wishes):
    """What the stand-in for other people's extensions does to the job."""
    page.fill("#script_txt2img_memstab_probe_order textarea", json.dumps(wishes))
    page.locator("#script_txt2img_memstab_probe_order textarea").blur()


def generate(page, tab="txt2img", count=1):
    """Generate, and wait for the pictures and their badges."""
    shown = f"[...document.querySelectorAll('#{tab}_gallery .thumbnails img')].map(image => image.src).join()"
    before = page.evaluate(shown)
    page.click(f"#{tab}_generate")
    page.wait_for_function(f"before => ![before, ''].includes({shown})", arg=before)
    page.wait_for_function(
        "([name, count]) => document.querySelectorAll(name).length === count",
        arg=[f"#{tab}_gallery .thumbnails > .memstab-badge", count],
    )


def file_of(page, image):
    """The file behind a picture of the page."""
    address = page.locator(image).first.evaluate("image => image.src")
    return Path(urllib.parse.unquote(urllib.parse.urlparse(address).path).partition("/file=")[2])


def words(page, badge_):
    return page.locator(badge_).first.inner_text().strip()


def facts(page):
    """What the open card says, by fact."""
    return page.eval_on_selector_all(f"{CARD} dd", "all => Object.fromEntries(all.map(dd => [dd.dataset.fact, dd.innerText]))")


def compare(page, report):
    """The open card against a report."""
    told = facts(page)
    steps = report.steps
    assert page.get_attribute(CARD, "role") == "dialog"
    assert report.verdict in page.get_attribute(CARD, "aria-label")
    assert told["factSteps"].startswith(
        f"{steps.measured} measured, {steps.outside} outside, {steps.suppressed} suppressed"
    )
    assert told.get("factFirst") == (steps.first_outside and str(steps.first_outside))
    assert told["factMode"] == report.mode
    assert told["factSensitivity"] == f"about 1 in {report.sensitivity:g} ordinary pictures"
    assert told["factVersion"] == f"MemStab {report.version}, {report.host}"
    assert told.get("factReason", "") == report.reason
    if report.score is not None:
        assert float(told["factScore"].replace(",", "")) == pytest.approx(report.score, rel=5e-3)
    if report.profile is not None:
        assert told["factProfile"].startswith(report.profile.name)
        assert told["factProfile"].endswith(report.profile.reason)
    traces = [one.trace for one in report.passes] or [report.trace]
    if not report.trace.sigma:
        assert page.locator(f"{CARD} svg.memstab-curve").count() == 0
        return
    drawn = page.locator(f"{CARD} svg.memstab-curve")
    assert drawn.count() == len(traces)
    for place, trace in enumerate(traces):
        outside = sum(path > high for path, high in zip(trace.norm, trace.high, strict=True))
        assert drawn.nth(place).locator(".memstab-outside").count() == outside
        assert drawn.nth(place).locator(".memstab-inside").count() == len(trace.norm) - outside


def close(page):
    page.keyboard.press("Escape")
    page.wait_for_selector(CARD, state="detached")


@pytest.mark.parametrize(("mode", "verdict"), [("detect", "flagged"), ("suppress", "suppressed")])
def test_a_memorized_prompt_is_badged_and_its_card_says_what_the_file_does(page, memorized, pictures, mode, verdict):
    fill(page, infotext(memorized[2], mode=mode))
    generate(page)
    report = read_png(file_of(page, f"{GALLERY} .preview > img")).report
    assert report.verdict == verdict
    assert words(page, PREVIEW) == words(page, SMALL) == verdict
    assert page.locator(f"{PREVIEW} svg").count() == 1
    page.click(PREVIEW)
    compare(page, report)
    assert "can be a false alarm" in page.inner_text(CARD)
    page.screenshot(path=pictures / f"{verdict}.png")
    close(page)


def test_an_ordinary_prompt_is_clear_and_never_called_original(page, ordinary):
    fill(page, infotext(ordinary[1]))
    generate(page)
    report = read_png(file_of(page, f"{GALLERY} .preview > img")).report
    assert words(page, PREVIEW) == report.verdict == "clear"
    page.click(SMALL)
    compare(page, report)
    assert "no proof that the picture is new" in page.inner_text(CARD)


def test_without_memstab_there_is_no_badge_and_no_card(page, ordinary):
    fill(page, infotext(ordinary[1]))
    page.evaluate("document.querySelector('#script_txt2img_memstab_enable-checkbox input').click()")
    page.click("#txt2img_generate")
    page.wait_for_selector(f"{GALLERY} .preview > img")
    page.wait_for_timeout(3000)
    assert page.locator(".memstab-badge").count() == 0


def test_another_checkpoint_is_not_measured_and_the_card_says_why(calibrated, page, memorized):
    _, before = calibrated.call("/sdapi/v1/options")
    calibrated.call("/sdapi/v1/options", {"sd_model_checkpoint": f"{OTHER}.safetensors"})
    try:
        fill(page, infotext(memorized[2]))
        generate(page)
    finally:
        calibrated.call("/sdapi/v1/options", {"sd_model_checkpoint": before["sd_model_checkpoint"]})
    report = read_png(file_of(page, f"{GALLERY} .preview > img")).report
    assert words(page, PREVIEW) == report.verdict == "not measured"
    page.click(PREVIEW)
    compare(page, report)
    assert "nothing is known about this picture" in page.inner_text(CARD)


def test_a_mixed_batch_has_a_badge_for_each_picture_and_none_for_the_grid(page, memorized, ordinary, pictures):
    fill(page, infotext(memorized[2], mode="suppress"))
    set_number(page, "txt2img_batch_size", 2)
    wish(page, prompts=[memorized[2], ordinary[1]])
    generate(page, count=2)
    assert page.locator(THUMBNAIL).count() == 3
    seen = []
    for place in range(3):
        page.locator(THUMBNAIL).nth(place).click()
        page.wait_for_function(
            """([name, place]) => {
                const [big, small] = [`${name} .preview > img`, `${name} .thumbnails img`].map(one => [...document.querySelectorAll(one)]);
                return big[0].src === small[place].src;
            }""",
            arg=[GALLERY, place],
        )
        report = read_png(file_of(page, f"{GALLERY} .preview > img")).report
        if report is None:
            page.wait_for_selector(PREVIEW, state="detached")
            continue
        page.wait_for_function(
            "([name, word]) => document.querySelector(name)?.innerText.trim() === word", arg=[PREVIEW, report.verdict]
        )
        seen.append(report.verdict)
    assert seen == ["suppressed", "clear"]
    assert page.locator(SMALL).all_inner_texts() == seen
    # Each stands below its own thumbnail, and is next to it for those who go by keys.
    places = page.evaluate(
        """name => [...document.querySelectorAll(name)].map(one => {
            const [own, other] = [one, one.previousElementSibling].map(each => each.getBoundingClientRect());
            return Math.abs(own.left + own.width / 2 - other.left - other.width / 2);
        })""",
        SMALL,
    )
    assert max(places) < 2
    boxes = sorted((box["x"], box["x"] + box["width"]) for box in (one.bounding_box() for one in page.locator(SMALL).all()))
    assert all(end <= start for (_, end), (start, _) in zip(boxes, boxes[1:], strict=False))
    page.locator(GALLERY).screenshot(path=pictures / "batch.png")
