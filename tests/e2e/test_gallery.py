"""Badges and cards on the pictures of a real WebUI in a real browser, against what Python reads in the same files."""

import io
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image

from lib_memstab import badge
from lib_memstab.core.report import Heat
from tests.e2e.conftest import OTHER

pytestmark = pytest.mark.e2e

GALLERY = "#txt2img_gallery"
PREVIEW, SMALL = f"{GALLERY} .preview > .memstab-badge", f"{GALLERY} .thumbnails > .memstab-badge"
THUMBNAIL = f"{GALLERY} .thumbnails > .thumbnail-item"
LIGHTBOX = "#lightboxModal > .memstab-badge"
CARD = ".memstab-card"


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
    """What the stand-in for other people's extensions is to do to the job."""
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


def report_of(page, image):
    """What Python reads in the file behind a picture of the page; None without a badge."""
    data = page.request.get(page.locator(image).first.evaluate("image => image.src")).body()
    chunk = Image.open(io.BytesIO(data)).info.get(badge.CHUNK)
    return None if chunk is None else badge.from_chunk(chunk)


def words(page, badge_):
    return page.locator(badge_).first.inner_text().strip()


def facts(page):
    """What the open card says, by fact."""
    return page.eval_on_selector_all(
        f"{CARD} dd", "all => Object.fromEntries(all.map(dd => [dd.dataset.fact, dd.innerText]))"
    )


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
    assert ("factLook" in told) == (report.second_look is not None)
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
    report = report_of(page, f"{GALLERY} .preview > img")
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
    report = report_of(page, f"{GALLERY} .preview > img")
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


def test_a_switch_in_the_settings_takes_the_badges_away(page, ordinary):
    fill(page, infotext(ordinary[1]))
    generate(page)
    page.wait_for_selector(PREVIEW)
    page.evaluate("opts.memstab_gallery = false; executeCallbacks(uiAfterUpdateCallbacks)")
    page.wait_for_function("!document.querySelector('.memstab-badge')")


def test_another_checkpoint_is_not_measured_and_the_card_says_why(calibrated, page, memorized):
    _, before = calibrated.call("/sdapi/v1/options")
    # While it is being loaded, a page writes the checkpoint that it was sent with back into the options.
    page.wait_for_load_state("networkidle")
    calibrated.call("/sdapi/v1/options", {"sd_model_checkpoint": f"{OTHER}.safetensors"})
    try:
        fill(page, infotext(memorized[2]))
        generate(page)
    finally:
        calibrated.call("/sdapi/v1/options", {"sd_model_checkpoint": before["sd_model_checkpoint"]})
    report = report_of(page, f"{GALLERY} .preview > img")
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
                const gallery = document.querySelector(name), small = gallery.querySelectorAll('.thumbnails img');
                return gallery.querySelector('.preview > img').src === small[place].src;
            }""",
            arg=[GALLERY, place],
        )
        report = report_of(page, f"{GALLERY} .preview > img")
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
    boxes = sorted(
        (box["x"], box["x"] + box["width"]) for box in (one.bounding_box() for one in page.locator(SMALL).all())
    )
    assert all(end <= start for (_, end), (start, _) in pairwise(boxes))
    page.locator(GALLERY).screenshot(path=pictures / "batch.png")


def test_hires_passes_are_drawn_each_by_itself(page, memorized, pictures):
    hires = "Denoising strength: 0.5, Hires upscale: 1.5, Hires upscaler: Latent, "
    fill(page, infotext(memorized[2], mode="suppress", more=hires))
    generate(page)
    report = report_of(page, f"{GALLERY} .preview > img")
    assert [one.name for one in report.passes] == ["base", "hires"]
    page.click(PREVIEW)
    compare(page, report)
    heads = page.locator(f"{CARD} figcaption").all_inner_texts()
    assert heads == [f"Path of the pass “{one.name}”: {one.verdict}" for one in report.passes]
    page.screenshot(path=pictures / "hires.png")


@pytest.mark.parametrize("stop", ["interrupt_at", "skip_at"])
def test_a_stopped_picture_is_partial(page, ordinary, stop):
    fill(page, infotext(ordinary[1]))
    wish(page, **{stop: 9})
    generate(page)
    report = report_of(page, f"{GALLERY} .preview > img")
    done, planned = report.partial
    assert words(page, SMALL) == "partial"
    assert words(page, PREVIEW) == f"clear, partial: {done} of {planned} steps"
    page.click(PREVIEW)
    compare(page, report)
    assert f"Stopped after {done} of {planned} steps; nothing is known about the rest." in page.inner_text(CARD)


def badged(report, name="a.png", size=(256, 192)):
    """A picture file with a badge, made by Python."""
    data = io.BytesIO()
    picture = Image.effect_noise(size, 60).convert("RGB")
    picture.save(data, "PNG", pnginfo=badge.png_info(report, "a cat\nSteps: 20, Sampler: Euler"))
    return {"name": name, "mimeType": "image/png", "buffer": data.getvalue()}


SHOWN = "#pnginfo_image .memstab-badge"


def look_at(page, file):
    """Open a picture file in the tab PNG Info."""
    page.click("#tabs > .tab-nav > button:has-text('PNG Info')")
    if page.locator("#pnginfo_image img").count():
        page.click("#pnginfo_image button[aria-label='Clear']")
        page.wait_for_selector("#pnginfo_image img", state="detached")
    page.set_input_files("#pnginfo_image input[type=file]", file)
    page.wait_for_selector("#pnginfo_image img")


@pytest.fixture
def report(calibrated, memorized):
    """A report of a flagged picture as a file has it."""
    return replace(calibrated.one(memorized[2], {"mode": "detect"}).report, heat=Heat(2, 3, (0, 0.2, 1, 0, 0, 0.5)))


def test_a_file_alone_is_enough_for_badge_card_and_map(page, report, pictures):
    page.reload()
    page.wait_for_selector("#script_txt2img_memstab_enable")
    look_at(page, badged(report))
    page.click(SHOWN)
    compare(page, report)
    page.click(f"{CARD} .memstab-where button")
    picture, heat = (page.locator(f"#pnginfo_image {one}").bounding_box() for one in ("img", "canvas.memstab-heat"))
    assert heat == pytest.approx(picture, abs=1)
    red = "canvas => [.1, .9].map(x => [...canvas.getContext('2d').getImageData(x * canvas.width, 20, 1, 1).data])"
    cold, hot = page.locator("canvas.memstab-heat").evaluate(red)
    assert (cold[3], hot[3] > 150) == (0, True)
    card = page.locator(CARD).bounding_box()
    assert card["x"] >= picture["x"] + picture["width"]  # nothing of the picture is covered
    page.screenshot(path=pictures / "where.png")
    assert page.inner_text(f"{CARD} .memstab-where button") == "Hide where"
    page.click(f"{CARD} .memstab-where button")
    assert page.locator("canvas.memstab-heat").count() == 0
    page.click(f"{CARD} .memstab-where button")
    close(page)
    assert page.locator("canvas.memstab-heat").count() == 0


def test_a_damaged_badge_says_so_and_hostile_texts_stay_texts(page, report):
    whole = badged(report)
    data = whole["buffer"]
    look_at(page, {**whole, "name": "b.png", "buffer": data.replace(b'"verdict":"flagged"', b'"verdict":"flaggeD"')})
    page.wait_for_selector(SHOWN)
    assert words(page, SHOWN) == "unreadable"
    page.click(SHOWN)
    assert "nothing is known about it" in page.inner_text(CARD)
    close(page)
    evil = "<img src=x onerror=\"document.title='taken'\">"
    look_at(page, badged(replace(report, reason=evil, host=evil), "c.png"))
    page.click(SHOWN)
    assert evil in facts(page)["factReason"]
    assert page.locator(f"{CARD} img").count() == 0
    assert page.title() != "taken"
    close(page)
    look_at(page, {**whole, "name": "d.png", "buffer": data[: data.index(b"memstab") + 300] + bytes(2000)})
    page.wait_for_timeout(1500)
    assert page.locator(SHOWN).count() == 0


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_other_formats_tell_what_their_infotext_does(page, report, kind):
    entries = badge.infotext(badge.JobSettings("detect"), report)
    comment = "a cat\nSteps: 20, " + ", ".join(f"{key}: {value}" for key, value in entries.items())
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + comment.encode("utf-16-be")
    data = io.BytesIO()
    Image.new("RGB", (128, 128), "teal").save(data, kind, exif=exif.tobytes())
    look_at(page, {"name": f"a.{kind}", "mimeType": f"image/{kind}", "buffer": data.getvalue()})
    page.click(SHOWN)
    assert words(page, SHOWN) == "flagged"
    assert facts(page)["factFirst"] == str(report.steps.first_outside)
    assert "Only a line of the badge" in page.inner_text(CARD)


def test_keys_open_and_close_the_card(page, report):
    look_at(page, badged(report))
    button = page.locator(SHOWN)
    assert button.evaluate("one => one.tagName") == "BUTTON"
    assert button.get_attribute("aria-label") == "MemStab badge: flagged"
    for key in ("Enter", "Space"):
        button.focus()
        page.keyboard.press(key)
        page.wait_for_selector(CARD)
        assert page.evaluate("document.activeElement.classList.contains('memstab-card')")
        assert button.get_attribute("aria-expanded") == "true"
        close(page)
        assert button.evaluate("one => one === document.activeElement")
        assert button.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the cross
    page.wait_for_selector(CARD, state="detached")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")  # cross, map, out of the card
    page.wait_for_selector(CARD, state="detached")
    assert button.evaluate("one => one === document.activeElement")


def test_the_pointer_opens_the_card_and_takes_it_away(page, report):
    look_at(page, badged(report))
    page.hover(SHOWN)
    page.wait_for_selector(CARD)
    page.hover(f"{CARD} dl")
    page.wait_for_timeout(600)
    assert page.locator(CARD).count() == 1
    page.mouse.move(5, 5)
    page.wait_for_selector(CARD, state="detached")
    page.click(SHOWN)
    page.mouse.move(5, 5)
    page.wait_for_timeout(600)
    assert page.locator(CARD).count() == 1
    page.click("#tabs > .tab-nav > button:has-text('PNG Info')")
    page.wait_for_selector(CARD, state="detached")


def test_the_lightbox_has_the_badge_and_keeps_its_keys(page, memorized, ordinary, pictures):
    fill(page, infotext(memorized[2]))
    set_number(page, "txt2img_batch_size", 2)
    wish(page, prompts=[memorized[2], ordinary[1]])
    generate(page, count=2)
    page.locator(THUMBNAIL).nth(1).click()
    page.wait_for_function(f"document.querySelector('{PREVIEW}')?.innerText.trim() === 'flagged'")
    page.click(f"{GALLERY} .preview > img")
    page.wait_for_selector(LIGHTBOX)
    says = "([name, word]) => document.querySelector(name)?.innerText.trim() === word"
    page.wait_for_function(says, arg=[LIGHTBOX, "flagged"])
    page.keyboard.press("ArrowRight")
    page.wait_for_function(says, arg=[LIGHTBOX, "clear"])
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(says, arg=[LIGHTBOX, "flagged"])
    page.locator(LIGHTBOX).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(CARD)
    page.screenshot(path=pictures / "lightbox.png")
    page.keyboard.press("ArrowRight")  # the card goes with the picture
    page.wait_for_function(says, arg=[f"{CARD} strong", "MemStab: clear"])
    close(page)
    assert page.is_visible("#lightboxModal")
    page.wait_for_timeout(100)
    page.locator("#lightboxModal").focus()
    page.keyboard.press("Escape")
    assert not page.is_visible("#lightboxModal")


def test_the_card_can_be_read_in_the_dark_and_on_a_telephone(opened, report, pictures):
    for name, page in {
        "dark": opened("/?__theme=dark"),
        "light": opened("/?__theme=light"),
        "telephone": opened("/?__theme=dark", 360, 740, has_touch=True, reduced_motion="reduce"),
    }.items():
        look_at(page, badged(report))
        page.click(SHOWN)
        page.wait_for_selector(CARD)
        compare(page, report)
        box, width = page.locator(CARD).bounding_box(), page.viewport_size["width"]
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate(f"(one => one.scrollWidth <= one.clientWidth)(document.querySelector('{CARD}'))")
        if name == "telephone":
            assert page.eval_on_selector(CARD, "one => getComputedStyle(one).animationName") == "none"
            page.click(f"{CARD} .memstab-where button")
            card, picture = (page.locator(one).bounding_box() for one in (CARD, "#pnginfo_image canvas"))
            assert card["y"] + card["height"] <= 740
            assert min(picture["y"] + picture["height"], card["y"]) - max(picture["y"], 0) > 100
            page.screenshot(path=pictures / "telephone-where.png")
        for part in (f"{CARD} .memstab-meaning", f"{CARD} dt", f"{CARD} strong", SHOWN):
            assert contrast(page, part) >= 4.5, (name, part)
        page.screenshot(path=pictures / f"{name}.png")


def contrast(page, part):
    """Contrast of a text to the card's or badge's own ground, as WCAG counts it."""
    text, ground = page.locator(part).first.evaluate(
        """one => [one, one.closest('.memstab-card, .memstab-badge')].map((each, at) =>
            getComputedStyle(each)[at ? 'backgroundColor' : 'color'].match(/[0-9.]+/g).map(Number))"""
    )
    assert len(ground) == 3 or ground[3] == 1

    def light(colour):
        linear = [one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in colour[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((light(text), light(ground)))
    return (bright + 0.05) / (dark + 0.05)


def test_img2img_and_extras_have_badges_too(page, memorized):
    fill(page, infotext(memorized[2]))
    generate(page)
    page.click("#txt2img_send_to_extras")
    page.wait_for_selector("#extras_image img")
    page.click("#extras_generate")
    page.wait_for_selector("#extras_gallery .preview > img")
    if report_of(page, "#extras_gallery .preview > img"):
        page.wait_for_selector("#extras_gallery .preview > .memstab-badge")
    page.click("#tabs > .tab-nav > button:has-text('txt2img')")
    page.click("#txt2img_send_to_img2img")
    page.wait_for_selector("#img2img_image img")
    page.wait_for_function("document.querySelector('#script_img2img_memstab_enable-checkbox input').checked")
    set_number(page, "img2img_denoising_strength", 0.9)
    generate(page, "img2img")
    report = report_of(page, "#img2img_gallery .preview > img")
    assert words(page, "#img2img_gallery .preview > .memstab-badge") == report.verdict


def test_a_file_is_asked_for_once_and_other_sites_never(page, ordinary):
    asked = []
    page.on("request", lambda request: asked.append(request) if request.resource_type == "fetch" else None)
    fill(page, infotext(ordinary[1]))
    generate(page)
    page.click(SMALL)
    close(page)
    page.wait_for_timeout(2000)
    files = [one.url for one in asked if "/file=" in one.url]
    assert len(files) == len(set(files)) == 1
    asked.clear()
    page.evaluate(
        f"document.querySelector('{GALLERY} .preview > img').src = 'https://picture.invalid/file=outputs/a.png'"
    )
    page.wait_for_selector(PREVIEW, state="detached")
    page.wait_for_timeout(1000)
    assert not [one for one in asked if "picture.invalid" in one.url]
