"""A WebUI that starts with the user's own defaults for the panel, and in another language."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest

from lib_memstab.evidence import audit_table
from lib_memstab.evidence.live import names
from lib_memstab.host import wording
from lib_memstab.host.tab import attacking, catalogue, extracting, form, verifying, working
from tests.e2e.conftest import ROOT, place_of, running

pytestmark = pytest.mark.e2e

PATIENCE_MS = 240_000
LATER = {
    *(wording.NOT_LOADED, wording.BUSY, wording.STOPPING, wording.IDLE, wording.DOWNLOAD, form.NO_TEXT),
    *(wording.HELD_BACK, wording.NO_PRESET),
    *(wording.ARMED, wording.LEARNING, wording.NOT_LEARNING),
    *(wording.NO_FOLDERS, wording.NO_PICTURES, wording.EVERYTHING, *audit_table.HEADS),
    *(catalogue.NONE_CHOSEN, catalogue.NOT_TWO, catalogue.NO_FILE, *catalogue.HEADS),
    *(*working.ANSWERS, *attacking.ANSWERS, wording.ATTEMPTS, *names.HEADS, *names.HOLDS, names.ALL_BLIND),
    *(*verifying.ANSWERS, wording.REPORT, *extracting.HEADS, extracting.NO_REPLAYS),
}
"""Texts that answer something, or stand in a field or a list that opens."""
CLOCK = Path(__file__).with_name("clock.py")
MOST_MS = 100
"""What a start may cost more with MemStab, also on a busy machine."""
OWN = {"txt2img/MemStab/value": True, "img2img/Strength/value": 0.4}


def test_defaults_of_the_panel_and_a_localization_of_the_users(request, tmp_path, browser, pictures):
    place = place_of(request.config)
    if place.startswith("http"):
        pytest.skip("a WebUI that runs already cannot be started with other settings")
    theirs = tmp_path / "extensions" / "a full localization" / "localizations"
    theirs.mkdir(parents=True)
    (theirs / "de_DE.json").write_text(json.dumps({"Generate": "Erzeugen", "Width": "Weite"}), "utf-8")
    before = tmp_path / "extensions" / "a clock" / "scripts"
    before.mkdir(parents=True)
    shutil.copy(CLOCK, before / "memstab_clock.py")
    (tmp_path / "config.json").write_text(json.dumps({"localization": "de_DE"}), "utf-8")
    saved = {f"customscript/memstab.py/{path}": value for path, value in OWN.items()}
    (tmp_path / "ui-config.json").write_text(json.dumps(saved), "utf-8")
    with running(place, tmp_path, "--api") as webui:
        page = urllib.request.urlopen(webui.address, timeout=60).read().decode()
        fields = {one["props"].get("elem_id"): one["props"] for one in webui.call("/config")[1]["components"]}
        options = webui.call("/sdapi/v1/options")[1]
        spent = webui.call("/memstab-probe/clock")[1]
        read = read_in(browser, webui.address)
    (pictures / "start.json").write_text(json.dumps(spent), "utf-8")
    assert sum(spent.values()) < MOST_MS, spent
    words = json.loads(re.search(r"window\.localization = (\{.*?\})</script>", page).group(1))
    own = json.loads((ROOT / "localizations" / "de (MemStab).json").read_text("utf-8"))
    assert words == {**own, "Generate": "Erzeugen", "Width": "Weite"}
    assert fields["script_txt2img_memstab_enable-checkbox"]["value"] is True
    assert fields["script_img2img_memstab_enable-checkbox"]["value"] is False
    assert fields["script_img2img_memstab_strength"]["value"] == 0.4
    assert fields["script_txt2img_memstab_strength"]["value"] == 1
    assert all(options[one.name] == one.default for one in wording.OPTIONS)
    assert [text for text in wording.visible() if text not in LATER and words[text] not in read] == []
    assert [text for text in (wording.KEPT, wording.LEARN.label, f"({wording.LEARN.help})") if text in read] == []


def read_in(browser, address):
    """All that stands in the page, also on its hidden parts."""
    opened = browser.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    opened.goto(address)
    opened.wait_for_selector("#script_txt2img_memstab_enable")
    # The WebUI translates what it adds later, and adds the help of its options last.
    opened.wait_for_selector("#setting_memstab_learn .settings-comment", state="attached")
    opened.wait_for_timeout(3000)
    read = opened.evaluate("gradioApp().textContent")
    opened.close()
    return read
