"""MemStab's tab of real gradio blocks: every button of all its parts does what it says."""

import base64
import csv
import io
import re
import time
from dataclasses import replace

import pytest

from lib_memstab.badge import JobSettings
from lib_memstab.core import profile as profiles
from lib_memstab.evidence.live.names import BLIND
from lib_memstab.host import wording
from lib_memstab.host.tab import attacking, verifying, working
from lib_memstab.host.tab.form import FIELDS
from lib_memstab.store import SHIPPED
from tests.evidence.pictures import png
from tests.host.standin import SAMPLERS
from tests.test_badge import CLEAR, FLAGGED

SHIPPED_NAME = "memstab-lab"
PATIENCE_S = 120


def name(field):
    return f"memstab_{field}"


def text(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html or "")).strip()


def told(page, field):
    return text(page.value(name(field)))


def file(data, called):
    return {"name": called, "data": f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"}


def choose(page, profile):
    page.put(name("chosen"), profile)
    assert profile in told(page, "words")


@pytest.fixture
def tab(open_page):
    """A page whose tab was opened."""
    page = open_page()
    page.fire(name("refresh"))
    return page


def test_the_form_has_every_field_and_the_checkpoints_size(tab):
    for field in FIELDS:
        props = tab.props(name(field.name))
        assert (props["label"], props["info"]) == (field.label, field.help)
        if field.name not in ("width", "height"):
            assert props["value"] == field.default
    assert (tab.value(name("width")), tab.value(name("height"))) == (128, 128)


def test_a_form_or_a_file_of_prompts_that_cannot_be_used_is_refused_in_a_sentence(tab):
    tab.put(name("guidance"), "much")
    tab.fire(name("calibrate"))
    assert "“Guidance scales (CFG)” should be" in told(tab, "line")
    tab.put(name("guidance"), "7.5")
    tab.put(name("prompts"), file(b"one\ntwo\nthree\n", "few.txt"))
    tab.fire(name("anew"))
    assert "has 3 different prompts" in told(tab, "line")
    tab.fire(name("stop"))
    assert wording.IDLE in told(tab, "line")


def test_a_calibration_grows_ends_and_its_profile_is_listed_told_and_deleted(tab):
    prompts = "\n".join(f"ordinary prompt {number}" for number in range(48))
    tab.put(name("prompts"), file(prompts.encode(), "mine.txt"))
    for field, value in {"guidance": "7.5", "trajectories": 40, "batch_size": 20, "name": "from the tab"}.items():
        tab.put(name(field), value)
    tab.put(name("img2img"), False)
    tab.fire(name("calibrate"))
    assert 'data-busy="yes"' in tab.value(name("line"))
    begun = time.monotonic()
    while 'data-busy="no"' not in tab.value(name("line")) and time.monotonic() - begun < PATIENCE_S:
        time.sleep(0.05)
        tab.fire(name("tick"))
    assert "saved as from the tab" in told(tab, "line")
    assert tab.value(name("region")).startswith('<img src="data:image/png')
    tab.fire(name("refresh"))
    assert "from the tab" in told(tab, "table")
    assert "Sampled as under Calibrate: from the tab was calibrated for this" in told(tab, "applies")
    choose(tab, "from the tab")
    for answer in ("once more to remove from the tab", "from the tab is deleted"):
        tab.fire(name("delete"))
        assert answer in told(tab, "answer")
    assert "from the tab" not in told(tab, "table")


def test_a_profile_is_imported_renamed_compared_exported_and_deleted(tab):
    shipped = profiles.load(SHIPPED / f"{SHIPPED_NAME}.json")
    tab.fire(name("import"))
    assert "Choose a profile's file first" in told(tab, "answer").replace("&#x27;", "'")
    data = replace(shipped, name="copy").to_bytes()
    tab.put(name("upload"), file(data, "copy.json"))
    tab.fire(name("import"))
    assert "copy is imported" in told(tab, "answer")
    assert "copy" in told(tab, "words")
    assert tab.value(name("plot")).startswith('<img src="data:image/png')
    tab.put(name("new"), SHIPPED_NAME)
    tab.fire(name("rename"))
    assert f"there is a profile {SHIPPED_NAME} already" in told(tab, "answer")
    tab.put(name("new"), "twin")
    tab.fire(name("rename"))
    assert "copy is now twin" in told(tab, "answer")
    tab.fire(name("compare"))
    assert "Choose two different profiles" in told(tab, "words")
    tab.put(name("other"), SHIPPED_NAME)
    tab.fire(name("compare"))
    assert "against those of twin" in told(tab, "words")
    tab.fire(name("export"))
    [offered] = [tab.value(name("file"))] if isinstance(tab.value(name("file")), dict) else tab.value(name("file"))
    assert profiles.from_bytes(tab.download(offered), "the export").name == "twin"
    for answer in ("once more", "twin is deleted"):
        tab.fire(name("delete"))
        assert answer in told(tab, "answer")
    choose(tab, SHIPPED_NAME)
    for button in ("rename", "delete"):
        tab.fire(name(button))
        assert f"{SHIPPED_NAME} ships with MemStab" in told(tab, "answer")


def test_an_attack_is_counted_before_it_starts_and_what_cannot_start_says_why(tab):
    chosen = tab.props(name("attack_attacks"))
    assert chosen["multiselect"] is True
    assert chosen["value"] == attacking.choices(SAMPLERS)
    assert (chosen["label"], chosen["info"]) == (attacking.ATTACKS, attacking.ATTACKS_HELP)
    assert told(tab, "attack_about") == verifying.NO_PROMPTS
    for button in ("attack", "attack_anew"):
        tab.fire(name(button))
        assert verifying.NO_PROMPTS in told(tab, "attack_line")
    tab.put(name("pasted"), "one\ntwo\nthree")
    blind = len([one for one in chosen["value"] if one in BLIND])
    assert f"at most {3 * blind * 4 * 2:,} pictures: 3 prompts, {blind} attacks, 4 seeds" in told(tab, "attack_about")
    for field, value in {"verify_seeds": 2, "verify_limit": 1, "attack_attacks": ["CFG 3", "6 steps"]}.items():
        tab.put(name(field), value)
    assert "at most 12 pictures: 1 prompt, 2 attacks, 2 seeds" in told(tab, "attack_about")
    tab.put(name("attack_attacks"), [])
    assert attacking.NO_ATTACKS in told(tab, "attack_about")
    tab.fire(name("attack"))
    assert attacking.NO_ATTACKS in told(tab, "attack_line")
    tab.put(name("attack_attacks"), ["CFG 3"])
    tab.put(name("verify_steps"), 1)
    assert "“Steps” should be a whole number from 2 to 150" in told(tab, "attack_about")
    for button, answer in (("attack_stop", working.NOT_ATTACKING), ("attack_on", working.NO_ATTACK_STOPPED)):
        tab.fire(name(button))
        assert answer in told(tab, "attack_line")
    tab.fire(name("attack_tick"))
    assert 'data-busy="no"' in tab.value(name("attack_line"))


def test_a_file_of_prompts_is_counted_too(tab):
    tab.put(name("memorized"), file(b"one\ntwo\n", "mine.txt"))
    tab.put(name("verify_seeds"), 3)
    assert "2 prompts" in told(tab, "attack_about")
    tab.put(name("memorized"), file(b"\0", "mine.txt"))
    assert "“Prompts that are known to replay" in told(tab, "attack_about")


def test_forgetting_everything_takes_two_clicks(tab):
    tab.fire(name("forget_today"))
    assert "0 images were forgotten" in told(tab, "learned")
    tab.fire(name("forget_all"))
    assert wording.ARMED in told(tab, "learned")
    tab.fire(name("forget_all"))
    assert "0 images were forgotten" in told(tab, "learned")


def test_an_audit_tells_how_far_it_is_lists_links_and_offers_its_own_files(webui, open_page, tab):
    for number in range(3):
        png(webui.outputs / f"flagged {number}.png", JobSettings("detect", 1000.0), FLAGGED)
    png(webui.outputs / "clear.png", JobSettings("detect", 1000.0), CLEAR)
    second = open_page()
    second.put(name("audit_only"), ["clear"])
    for page in (tab, second):
        page.fire(name("audit_start"))
    assert told(tab, "audit_result").startswith("flagged clear 3 1")
    assert {f"{webui.outputs}/flagged {number}.png" for number in range(3)} <= set(webui.served)
    assert "flagged%200.png" in tab.value(name("audit_result"))
    for page, states in ((tab, ["flagged"] * 3), (second, ["clear"])):
        table, lines = page.value(name("audit_files"))
        rows = list(csv.DictReader(io.StringIO(page.download(table).decode("utf-8-sig"))))
        assert [row["state"] for row in rows] == states
        assert len(page.download(lines).splitlines()) == len(states)
    tab.put(name("audit_folder"), "/")
    tab.fire(name("audit_start"))
    assert "only the WebUI" in told(tab, "audit_result")
