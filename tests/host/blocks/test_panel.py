"""The panel of real gradio blocks: every control, button and answer in txt2img and img2img, and jobs by its values."""

import pytest

from lib_memstab import badge
from lib_memstab.host import wording
from lib_memstab.settings import TABLE

OWN = {"mode": "detect", "sensitivity": 250, "strength": 0.5, "profile": "stand-in", "retries": 2}
inside = pytest.mark.parametrize("tab", ["txt2img", "img2img"])


def part(tab, name):
    return f"script_{tab}_memstab_{name}"


def put(page, tab, settings=OWN):
    for name, value in settings.items():
        page.put(part(tab, name), value)


def shown(page, tab):
    return {name: page.value(part(tab, name)) for name in OWN}


@inside
def test_the_panel_has_the_tables_fields(page, tab):
    assert page.value(part(tab, "enable-checkbox")) is False
    for setting in TABLE[1:]:
        props = page.props(part(tab, setting.attribute))
        assert (props["label"], props["info"], props["value"]) == (setting.label, setting.help, setting.default)
        if setting.choices:
            assert [one for one, _ in props["choices"]] == list(setting.choices)
        elif not isinstance(setting.default, str):
            assert (props["minimum"], props["maximum"], props["step"]) == (setting.low, setting.high, setting.step)
    assert page.props(part(tab, "profile"))["choices"][0] == "auto"


@inside
def test_the_status_line_follows_the_switch_the_profile_and_its_button(page, calibrated, tab):
    page.fire(part(tab, "check"))
    assert "stand-in was calibrated for this" in page.value(part(tab, "status"))
    assert "stand-in" in page.props(part(tab, "profile"))["choices"]
    page.put(part(tab, "profile"), "nobody")
    assert "there is no profile nobody" in page.value(part(tab, "status"))
    page.put(part(tab, "profile"), "auto")
    assert "stand-in was calibrated for this" in page.value(part(tab, "status"))
    page.put(f"{tab}_cfg_scale", 29)
    page.put(part(tab, "enable-checkbox"), True)
    assert "carries over" in page.value(part(tab, "status"))


@inside
def test_a_preset_is_saved_replaced_chosen_in_another_page_and_deleted(open_page, page, tab):
    assert page.value(part(tab, "preset_answer")) == ""
    put(page, tab)
    page.put(part(tab, "preset_name"), "mine")
    page.fire(part(tab, "preset_save"))
    assert "mine is saved" in page.value(part(tab, "preset_answer"))
    assert (page.value(part(tab, "preset")), page.value(part(tab, "preset_name"))) == ("mine", "")
    page.put(part(tab, "strength"), 0.75)
    page.fire(part(tab, "preset_save"))
    assert "once more to replace mine" in page.value(part(tab, "preset_answer"))
    page.fire(part(tab, "preset_save"))
    assert "mine is saved" in page.value(part(tab, "preset_answer"))
    second = open_page()
    second.fire(part(tab, "preset"), "focus")
    assert second.props(part(tab, "preset"))["choices"] == ["mine"]
    second.pick(part(tab, "preset"), "mine")
    assert shown(second, tab) == {**OWN, "strength": 0.75}
    for answer in ("once more to delete mine", "mine is deleted"):
        second.fire(part(tab, "preset_delete"))
        assert answer in second.value(part(tab, "preset_answer"))
    page.pick(part(tab, "preset"), "mine")
    assert "There is no preset" in page.value(part(tab, "preset_answer"))
    assert shown(page, tab) == {**OWN, "strength": 0.75}


@inside
def test_a_calibration_is_started_told_and_stopped(open_page, page, tab):
    page.put(f"{tab}_cfg_scale", 99)
    page.fire(part(tab, "calibrate"))
    assert "guidance" in page.value(part(tab, "status"))
    page.put(f"{tab}_cfg_scale", 7.5)
    told, stopping = [], open_page()

    def stop(answers):
        for answer in answers:
            told.append(answer[0])
            if len(told) == 1:
                stopping.fire(part(tab, "stop"))
            yield answer

    page.through = stop
    page.fire(part(tab, "calibrate"))
    assert "images" in told[0] or "Waiting" in told[0]
    assert "is kept" in page.value(part(tab, "status"))


@inside
def test_a_job_is_watched_by_what_the_panel_has(page, calibrated, tab):
    page.put(f"{tab}_prompt", "a replay of something")
    page.fire(f"{tab}_generate")
    assert page.value(f"{tab}_said") == {"infotext": {}, "chunk": None, "comments": []}
    page.put(part(tab, "enable-checkbox"), True)
    put(page, tab)
    page.fire(f"{tab}_generate")
    said = page.value(f"{tab}_said")
    report = badge.from_chunk(said["chunk"])
    assert (report.verdict, report.mode, report.sensitivity) == ("flagged", "detect", 250)
    assert report.profile.name == "stand-in"
    assert badge.settings_from_infotext(said["infotext"]["MemStab"]) == badge.JobSettings(**OWN)
    assert said["infotext"]["MemStab verdict"].startswith("flagged")
    assert page.call("/memstab/v1/reports/last")[1] == [report.to_dict()]


def test_pasting_restores_what_a_picture_was_made_with_and_the_default_for_a_foreign_one(webui, page):
    script = webui.tabs["txt2img"]
    own = {"Steps": "20", "MemStab": badge.settings_to_infotext(badge.JobSettings(**OWN))}
    restored = {field.elem_id: restore(own) for field, restore in script.infotext_fields[: len(TABLE)]}
    assert restored == {part("txt2img", "enable-checkbox"): True, **{part("txt2img", n): v for n, v in OWN.items()}}
    for foreign in ({"Steps": "20"}, {"Steps": "20", "MemStab-like": "x"}):
        back = [restore(foreign) for _, restore in script.infotext_fields[: len(TABLE)]]
        assert back == [setting.default for setting in TABLE]
    assert [restore({}) for _, restore in script.infotext_fields[: len(TABLE)]] == [None] * len(TABLE)


def test_every_option_is_on_the_settings_page(webui, page):
    for option in wording.OPTIONS:
        props = page.props(f"setting_{option.name}")
        assert (props["label"], props["value"]) == (option.label, option.default)
        assert webui.opts.data_labels[option.name].comment == f"({option.help})"
        if option.choices:
            assert [one for one, _ in props["choices"]] == list(option.choices)
    assert "[memstab]" in page.value("setting_memstab_note_names")
