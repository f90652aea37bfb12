"""MemStab in a real WebUI, over its API: verdicts, untouched pictures, badges, and what users can do to a job."""

import base64
import io
import re
import time

import jsonschema
import numpy as np
import pytest
from PIL import Image

from lib_memstab.badge import read_png
from lib_memstab.lab.attempt import FAULTS
from lib_memstab.metadata import read_texts
from tests.e2e.conftest import OTHER

pytestmark = pytest.mark.e2e

SAMPLERS = (
    "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler",
    "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS", "UniPC",
    "LCM",
)  # fmt: skip
ROUGH = (("LMS", "Automatic"), ("PLMS", "Automatic"), ("PLMS", "Karras"))
"""Multistep methods that do not come to the copy in 20 steps on this model: likenesses of .2 to .6 were seen."""
DETECT, SUPPRESS = {"mode": "detect"}, {"mode": "suppress"}


def test_detect_flags_a_memorized_prompt_and_changes_nothing(calibrated, memorized, known):
    for prompt in memorized[:4]:
        off, on = calibrated.one(prompt), calibrated.one(prompt, DETECT)
        assert known.copied(off, prompt)
        assert on.report.verdict == "flagged"
        assert on.equals(off)
        assert off.report is None
        assert "MemStab" not in off.infotext


def test_suppress_leads_away_from_the_copy_and_says_so(calibrated, memorized, known):
    for prompt in memorized[:4]:
        off, on = calibrated.one(prompt), calibrated.one(prompt, SUPPRESS)
        assert known.copied(off, prompt)
        assert not known.copied(on, prompt)
        assert on.report.verdict == "suppressed"
        assert on.report.steps.suppressed > 0
        assert re.search(r"MemStab: suppress 100 strength 1, MemStab verdict: suppressed p", on.infotext)


def test_ordinary_prompts_are_clear_and_bit_identical(calibrated, ordinary):
    clear = 0
    for prompt in ordinary[:8]:
        off, on = calibrated.one(prompt), calibrated.one(prompt, {"sensitivity": 1000})
        clear += on.report.verdict == "clear"
        assert on.report.verdict != "clear" or on.equals(off)
    assert clear >= 7


@pytest.mark.parametrize("scheduler", ["Automatic", "Karras"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_measured_suppressed_and_untouched_by_detection(
    calibrated, memorized, ordinary, known, sampler, scheduler
):
    how = {"sampler_name": sampler, "scheduler": scheduler}
    off, detect, suppress = (calibrated.one(memorized[2], mode, **how) for mode in (None, DETECT, SUPPRESS))
    assert known.copied(off, memorized[2]) or (sampler, scheduler) in ROUGH
    assert detect.equals(off)
    assert detect.report.verdict == "flagged"
    assert suppress.report.verdict == "suppressed"
    assert not known.copied(suppress, memorized[2])
    assert known.similarity(suppress, memorized[2]) < known.similarity(off, memorized[2])
    assert detect.report.steps.measured == len(detect.report.trace.sigma)
    assert all(0.01 < sigma < 20 for sigma in detect.report.trace.sigma)
    plain, watched = (calibrated.one(ordinary[1], mode, **how) for mode in (None, {"sensitivity": 1000}))
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


def test_a_batch_of_mixed_prompts_has_a_verdict_for_each_image(calibrated, memorized, ordinary):
    prompts = [memorized[2], ordinary[1], ordinary[4], memorized[3]]
    batch = {"batch_size": 2, "n_iter": 2, "probe": {"prompts": prompts}}
    off, on = calibrated.sample("", **batch), calibrated.sample("", SUPPRESS, **batch)
    assert [one.report.verdict for one in on] == ["suppressed", "clear", "clear", "suppressed"]
    assert [re.search(r"MemStab verdict: (\w+)", one.infotext).group(1) for one in on] == [
        one.report.verdict for one in on
    ]
    assert [one.equals(other) for one, other in zip(on, off, strict=True)] == [False, True, True, False]
    for place, one in enumerate(on):
        alone = calibrated.one(prompts[place], SUPPRESS, seed=1 + place)
        assert one.report.score == pytest.approx(alone.report.score, rel=1e-3)


def test_saved_files_carry_the_badge_and_the_grid_a_summary(calibrated, memorized, ordinary):
    prompts = [memorized[2], ordinary[1]]
    pictures = calibrated.sample("", DETECT, batch_size=2, save_images=True, probe={"prompts": prompts})
    assert "MemStab verdict: 1 clear / 1 flagged" in pictures[0].infotext
    assert [one.report.verdict for one in pictures[1:]] == ["flagged", "clear"]
    if calibrated.folder is not None:
        files = sorted((calibrated.folder / "outputs" / "txt2img-images").rglob("*.png"))[-2:]
        assert [read_png(file).report.verdict for file in files] == ["flagged", "clear"]


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_other_file_formats_keep_the_infotext(calibrated, memorized, option, kind):
    option(samples_format=kind)
    picture = calibrated.one(memorized[2], SUPPRESS)
    assert "MemStab verdict: suppressed p" in comment_of(picture.image)


@pytest.mark.parametrize("kind", ["jpg", "webp", "avif"])
def test_files_of_other_formats_keep_the_infotext_and_the_grid_its_summary(
    calibrated, memorized, ordinary, option, kind
):
    if calibrated.folder is None:
        pytest.skip("the files of a WebUI that runs already are not known")
    option(samples_format=kind, grid_format=kind)
    prompts = [memorized[2], ordinary[1]]
    # The WebUI's API does not send AVIF.
    calibrated.sample("", DETECT, batch_size=2, save_images=True, send_images=False, probe={"prompts": prompts})
    outputs = calibrated.folder / "outputs"
    samples = sorted((outputs / "txt2img-images").rglob(f"*.{kind}"))[-2:]
    grids = sorted((outputs / "txt2img-grids").rglob(f"*.{kind}"))[-1:]
    texts = [read_texts(file).found["parameters"] for file in (*samples, *grids)]
    assert [re.search("MemStab verdict: ([a-z0-9 /]*[a-z])", text).group(1) for text in texts] == [
        "flagged p",
        "clear p",
        "1 clear / 1 flagged",
    ]


def comment_of(image):
    """The infotext where JPEG and WebP have it: EXIF's UserComment."""
    return image.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")


def test_hires_fix_measures_both_passes(calibrated, memorized, ordinary, known):
    hires = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_upscaler": "Latent"}
    off, on = calibrated.one(memorized[2], **hires), calibrated.one(memorized[2], SUPPRESS, **hires)
    assert [one.name for one in on.report.passes] == ["base", "hires"]
    assert on.report.passes[0].verdict == "suppressed"
    assert all(one.profile for one in on.report.passes)
    assert known.copied(off, memorized[2])
    assert not known.copied(on, memorized[2])
    off, on = calibrated.one(memorized[2], **hires), calibrated.one(memorized[2], DETECT, **hires)
    assert on.equals(off)
    off, on = calibrated.one(ordinary[1], **hires), calibrated.one(ordinary[1], {"sensitivity": 1000}, **hires)
    assert on.report.verdict == "clear"
    assert on.equals(off)


def test_img2img_flags_and_suppresses(calibrated, memorized, ordinary, known):
    start = calibrated.one(ordinary[2]).data
    how = {"page": "img2img", "init_images": [start], "denoising_strength": 0.9}
    off, detect, suppress = (calibrated.one(memorized[2], mode, **how) for mode in (None, DETECT, SUPPRESS))
    assert detect.report.verdict == "flagged"
    assert detect.equals(off)
    assert known.copied(off, memorized[2])
    assert suppress.report.verdict == "suppressed"
    assert not known.copied(suppress, memorized[2])
    plain, watched = (calibrated.one(ordinary[1], mode, **how) for mode in (None, {"sensitivity": 1000}))
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_inpainting_keeps_what_is_masked(calibrated, memorized, ordinary, sampler):
    start = calibrated.one(ordinary[2])
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (32, 32, 96, 96))
    data = io.BytesIO()
    mask.save(data, "PNG")
    how = {
        "page": "img2img",
        "init_images": [start.data],
        "mask": base64.b64encode(data.getvalue()).decode(),
        "denoising_strength": 0.95,
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "mask_blur": 0,
        "sampler_name": sampler,
    }
    off, detect, suppress = (calibrated.one(memorized[2], mode, **how) for mode in (None, DETECT, SUPPRESS))
    assert detect.equals(off)
    assert detect.report.verdict in ("flagged", "clear")
    outside = np.ones((128, 128), bool)
    outside[24:104, 24:104] = False
    assert (suppress.pixels[outside] == off.pixels[outside]).all()


def test_a_replay_does_not_hide_behind_another_and_part(calibrated, memorized, ordinary, known):
    for prompt in (f"{memorized[2]} AND {memorized[2]} :0.2", f"{memorized[2]} AND {ordinary[1]}"):
        off, detect, suppress = (calibrated.one(prompt, mode) for mode in (None, DETECT, SUPPRESS))
        assert detect.equals(off)
        assert detect.report.verdict == "flagged"
        assert known.copied(off, memorized[2])
        assert suppress.report.verdict == "suppressed"
        assert not known.copied(suppress, memorized[2])
    plain, watched = (calibrated.one(f"{ordinary[1]} AND {ordinary[3]}", mode) for mode in (None, SUPPRESS))
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


def test_prompt_editing_and_long_prompts_are_followed(calibrated, memorized, ordinary):
    long = memorized[2] + ", " + ", ".join(ordinary[:8])
    for prompt in (f"[{memorized[2]}:{ordinary[1]}:0.5]", long):
        off, detect, suppress = (calibrated.one(prompt, mode) for mode in (None, DETECT, SUPPRESS))
        assert detect.equals(off)
        assert suppress.report.verdict in ("suppressed", "clear")
        assert suppress.report.verdict == "suppressed" or suppress.equals(off)
        assert suppress.report.reason == ""


def test_a_negative_prompt_and_cfg_1_are_measured(calibrated, memorized, ordinary):
    for how in ({"negative_prompt": ordinary[4]}, {"cfg_scale": 1.0}, {"cfg_scale": 12.0}):
        off, detect = (calibrated.one(memorized[2], mode, **how) for mode in (None, DETECT))
        assert detect.equals(off)
        assert detect.report.verdict == "flagged", (
            how,
            detect.report.score,
            detect.report.profile,
            detect.report.reason,
        )
        plain, watched = (calibrated.one(ordinary[1], mode, **how) for mode in (None, {"sensitivity": 1000}))
        assert watched.report.verdict == "clear"
        assert watched.equals(plain)


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ 2M"])
def test_no_negative_prompt_hides_a_replay(calibrated, memorized, ordinary, known, sampler):
    words = memorized[2].split()
    for negative in (FAULTS, " ".join(words[len(words) // 2 :]), memorized[2]):
        how = {"negative_prompt": negative, "sampler_name": sampler}
        off, detect, suppress = (calibrated.one(memorized[2], mode, **how) for mode in (None, DETECT, SUPPRESS))
        assert detect.equals(off)
        assert detect.report.verdict == "flagged"
        assert 1 <= detect.report.extra_evaluations <= 7 or detect.report.second_look is not None
        assert not known.copied(suppress, memorized[2])
    plain, watched = (
        calibrated.one(ordinary[1], mode, negative_prompt=FAULTS, sampler_name=sampler)
        for mode in (None, {"sensitivity": 1000})
    )
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ 2M"])
def test_a_second_look_finds_replays_that_stay_below_their_bound(calibrated, memorized, ordinary, known, sampler):
    rare, how = {"sensitivity": 100_000}, {"cfg_scale": 1, "sampler_name": sampler}
    looked = 0
    for prompt in memorized[:4]:
        off, detect, suppress = (
            calibrated.one(prompt, mode, **how) for mode in (None, {**DETECT, **rare}, {**SUPPRESS, **rare})
        )
        assert detect.equals(off)
        if known.copied(off, prompt):
            assert detect.report.verdict == "flagged", detect.report
            assert not known.copied(suppress, prompt)
        look = detect.report.second_look
        if look is not None and look.bound < detect.report.score:
            looked += 1
            assert detect.report.extra_evaluations >= 4
            assert f"alike {look.likeness:.2g}" in detect.infotext
    assert looked > 0
    plain, watched = (calibrated.one(ordinary[1], mode, **how) for mode in (None, rare))
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


def test_an_extra_evaluation_leaves_hypertiles_chance_as_it_was(calibrated, ordinary, option):
    option(hypertile_enable_unet=True)

    def drawn(mode, **how):
        picture = calibrated.one(ordinary[1], mode, negative_prompt=FAULTS, probe={"tiles": True}, **how)
        return re.search(r"Tiles: ([\d.]+)", picture.infotext).group(1), picture

    (off, plain), (on, detect) = drawn(None), drawn(DETECT)
    assert detect.report.extra_evaluations > 0
    assert on == off
    assert detect.equals(plain)
    assert drawn(None, steps=19)[0] != off


@pytest.mark.parametrize("wish", [{"interrupt_at": 9}, {"skip_at": 9}])
def test_a_stopped_job_is_partial_and_the_next_is_whole(calibrated, memorized, wish):
    stopped = calibrated.sample(memorized[2], DETECT, probe=wish)[0]
    assert stopped.report.partial is not None
    done, planned = stopped.report.partial
    assert 9 <= done < planned == 20
    assert "partial" in stopped.infotext
    assert calibrated.one(memorized[2], DETECT).report.partial is None


def test_an_exception_of_another_extension_leaves_nothing_behind(calibrated, memorized, ordinary):
    status, _ = calibrated.call(
        "/sdapi/v1/txt2img",
        {
            "prompt": memorized[2],
            "steps": 10,
            "width": 128,
            "height": 128,
            "alwayson_scripts": {
                "MemStab": {"args": [{"enabled": True}]},
                "MemStab probe": {"args": ['{"raise_at": 4}']},
            },
        },
    )
    assert status == 500
    off, on = calibrated.one(memorized[2]), calibrated.one(memorized[2], DETECT)
    assert off.report is None
    assert on.equals(off)
    assert on.report.verdict == "flagged"


def xyz(webui, axis, values):
    """Arguments of a job that is an X/Y/Z plot over one axis; its first picture is the grid.

    `values` are a list where the WebUI offers a choice, a text otherwise.
    """
    _, scripts = webui.call("/sdapi/v1/script-info")
    axes = next(one for one in scripts if one["name"] == "x/y/z plot" and not one["is_img2img"])["args"][0]["choices"]
    flags = [True, True, False, False, False, False, False, 0, False]  # legend, lone images, ...
    chosen = isinstance(values, list)
    return {
        "script_name": "X/Y/Z plot",
        "script_args": [axes.index(axis), *(("", values) if chosen else (values, [])), *([0, "", []] * 2), *flags],
    }


def test_cells_of_an_xyz_plot_have_their_own_verdicts(calibrated, memorized):
    cells = calibrated.sample(memorized[2], DETECT, **xyz(calibrated, "CFG Scale", "1,7.5,12"))[1:]
    assert len(cells) == 3
    scores = [one.report.score for one in cells]
    assert len(set(scores)) == 3
    alone = calibrated.one(memorized[2], DETECT, cfg_scale=12)
    assert scores[2] == pytest.approx(alone.report.score, abs=1e-4)
    assert "MemStab" not in calibrated.one(memorized[2]).infotext


def test_axes_of_memstab_give_every_cell_settings_and_a_verdict_of_its_own(calibrated, memorized):
    """Also where it is off outside of the plot."""
    modes = xyz(calibrated, "[MemStab] Mode", ["off", "detect", "suppress"])
    off, detect, suppress = calibrated.sample(memorized[2], None, **modes)[1:]
    assert off.report is None
    assert "MemStab: " not in off.infotext
    assert detect.report.verdict == "flagged"
    assert detect.equals(off)
    assert suppress.report.verdict == "suppressed"
    assert not suppress.equals(off)
    for axis, values, found in (
        ("False alarms (1 in N)", "10, 100-300 (+100)", ["10", "100", "200", "300"]),
        ("Strength", "0-1 [3]", ["0", "0.5", "1"]),
    ):
        cells = calibrated.sample(memorized[2], DETECT, **xyz(calibrated, f"[MemStab] {axis}", values))[1:]
        texts = [re.search(r"MemStab: detect (\S+) strength ([^,]+)", one.infotext) for one in cells]
        assert [text.group(1 if axis.startswith("False") else 2) for text in texts] == found
        assert {one.report.verdict for one in cells} == {"flagged"}
    cells = calibrated.sample(memorized[2], DETECT, **xyz(calibrated, "[MemStab] Profile", ["auto", "memstab-lab"]))[1:]
    assert ["profile memstab-lab" in one.infotext for one in cells] == [False, True]
    assert "MemStab" not in calibrated.one(memorized[2]).infotext


def test_an_axis_with_a_wrong_value_is_refused_before_the_first_cell(calibrated):
    body = {"prompt": "x", "steps": 150, **xyz(calibrated, "[MemStab] Strength", "0.5, 7")}
    status, answer = calibrated.call("/sdapi/v1/txt2img", body)
    assert status == 500
    assert "'[MemStab] Strength' should be a number from 0 to 1, not 7.0" in answer["errors"]


def test_an_infotext_switches_memstab_on_as_it_was(calibrated, memorized):
    once = calibrated.one(memorized[2], {"mode": "detect", "sensitivity": 250, "strength": 0.5})
    body = {"infotext": once.infotext, "prompt": memorized[2]}
    status, answer = calibrated.call("/sdapi/v1/txt2img", body)
    assert status == 200
    assert "MemStab: detect 250 strength 0.5" in answer["info"]
    foreign = {"infotext": "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7.5, Seed: 1, Size: 128x128"}
    status, answer = calibrated.call("/sdapi/v1/txt2img", foreign)
    assert status == 200
    assert "MemStab" not in answer["info"]


@pytest.mark.parametrize(
    ("argument", "field", "allowed"),
    [
        ({"mode": "destroy"}, "mode", "'suppress' or 'detect'"),
        ({"sensitivity": 1}, "sensitivity", "a number from 2 to 100000"),
        ({"sensitivity": "many"}, "sensitivity", "a number from 2 to 100000"),
        ({"strength": 9}, "strength", "a number from 0 to 1"),
        ({"enabled": 1}, "enabled", "true or false"),
        ({"profile": "no such"}, "profile", "'auto' or a profile's name"),
        ({"colour": "red"}, "colour", "one of enabled, mode, profile, retries, sensitivity, strength"),
    ],
)
def test_bad_arguments_are_refused_before_sampling(webui, argument, field, allowed):
    body = {"prompt": "x", "steps": 150, "alwayson_scripts": {"memstab": {"args": [argument]}}}
    status, answer = webui.call("/sdapi/v1/txt2img", body)
    assert status == 422
    assert answer["detail"]["field"] == field
    assert answer["detail"]["allowed"].startswith(allowed)


def test_positional_arguments_keep_the_tables_order(calibrated, memorized):
    body = {
        "prompt": memorized[2],
        "steps": 10,
        "width": 128,
        "height": 128,
        "alwayson_scripts": {"MemStab": {"args": [True, "detect", 50]}},
    }
    status, answer = calibrated.call("/sdapi/v1/txt2img", body)
    assert status == 200
    assert "MemStab: detect 50 strength 1, MemStab verdict: flagged" in answer["info"]


@pytest.mark.parametrize("how", [("/memstab/v1/calibrate", "DELETE"), ("/sdapi/v1/interrupt", "POST")])
def test_a_stopped_calibration_leaves_the_profile_as_it_was(calibrated, splits, how):
    before = calibrated.call("/memstab/v1/profiles")
    plan = {"width": 128, "height": 128, "trajectories": 2048, "batch_size": 8, "prompts": splits["calibration"]}
    assert calibrated.call("/memstab/v1/calibrate", plan, "POST")[0] == 202
    status, answer = calibrated.call("/memstab/v1/calibrate", plan, "POST")
    assert status == 409
    assert "DELETE" in answer["error"]
    wait_until(lambda: calibrated.call("/memstab/v1/calibrate")[1]["done"] > 0)
    assert calibrated.call(how[0], {}, how[1])[0] < 300
    wait_until(lambda: calibrated.call("/memstab/v1/calibrate")[1]["state"] not in ("waiting", "running"))
    assert calibrated.call("/memstab/v1/calibrate")[1]["state"] == "stopped"
    assert calibrated.call("/memstab/v1/profiles") == before
    assert calibrated.call("/memstab/v1/calibrate", method="DELETE")[0] == 409


@pytest.fixture
def by_default(calibrated):
    """Name of a profile to make, gone after the test, so that no other test is judged by it."""
    if calibrated.folder is None:
        pytest.skip("a profile would stay behind in a WebUI that runs already")
    yield "by default"
    (calibrated.folder / "models" / "MemStab" / "by default.json").unlink(missing_ok=True)


def test_a_calibration_by_default_makes_a_profile_and_changes_no_picture(calibrated, memorized, ordinary, by_default):
    before = calibrated.one(ordinary[0])
    plan = {"name": by_default, "width": 128, "height": 128, "trajectories": 64, "batch_size": 16}
    assert calibrated.call("/memstab/v1/calibrate", plan, "POST")[0] == 202
    wait_until(lambda: calibrated.call("/memstab/v1/calibrate")[1]["state"] not in ("waiting", "running"))
    progress = calibrated.call("/memstab/v1/calibrate")[1]
    assert (progress["state"], progress["done"]) == ("done", progress["total"])
    assert calibrated.one(ordinary[0]).equals(before)
    own = {"mode": "detect", "profile": by_default}
    flagged = [calibrated.one(prompt, own).report.verdict for prompt in memorized[:4]]
    assert flagged == ["flagged"] * 4
    clear = [calibrated.one(prompt, own).report.verdict for prompt in ordinary[:12]]
    assert clear.count("clear") >= 10


def wait_until(there):
    for _ in range(1200):
        if there():
            return
        time.sleep(0.5)
    pytest.fail("it did not come to that within ten minutes")


def test_images_saved_before_a_hires_pass_carry_the_first_passs_badge(calibrated, memorized, option):
    if calibrated.folder is None:
        pytest.skip("the files of a WebUI that runs already are not known")
    option(save_images_before_highres_fix=True)
    hires = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_upscaler": "Latent"}
    calibrated.sample(memorized[2], DETECT, batch_size=2, save_images=True, **hires)
    files = sorted((calibrated.folder / "outputs" / "txt2img-images").rglob("*before-highres-fix.png"))
    assert len(files) == 2
    for file in files:
        found = read_png(file)
        assert found.report.verdict == "flagged"
        assert found.report.passes == ()
        assert "MemStab verdict: flagged" in found.parameters


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("settings and verdict", [True, True]), ("verdict", [False, True]), ("nothing", [False, False])],
)
def test_the_user_chooses_what_generation_parameters_have(calibrated, memorized, option, wanted, found):
    option(memstab_infotext=wanted)
    picture = calibrated.one(memorized[2], DETECT)
    assert [text in picture.infotext for text in ("MemStab: detect 100", "MemStab verdict: flagged")] == found
    assert picture.report.verdict == "flagged"


def test_names_of_files_and_folders_can_tell_the_verdict(calibrated, memorized, ordinary, option):
    if calibrated.folder is None:
        pytest.skip("the files of a WebUI that runs already are not known")
    option(
        samples_filename_pattern="[seed]-[memstab]",
        directories_filename_pattern="[sampler]/[memstab<flagged><suppressed>]",
        save_images_add_number=False,
    )
    jobs = ((memorized[2], DETECT), (memorized[2], SUPPRESS), (ordinary[1], {"sensitivity": 1000}), (ordinary[1], None))
    for seed, (prompt, memstab) in enumerate(jobs, 1):
        calibrated.sample(prompt, memstab, seed=seed, save_images=True)
    names = calibrated.folder / "outputs" / "txt2img-images" / "Euler"
    assert sorted(file.relative_to(names).as_posix() for file in names.rglob("*.png")) == [
        "3-clear.png",
        "4.png",
        "flagged/1-flagged.png",
        "suppressed/2-suppressed.png",
    ]


def test_programs_can_ask_for_everything(calibrated, memorized):
    calibrated.one(memorized[2], DETECT)
    _, last = calibrated.call("/memstab/v1/reports/last")
    assert [one["verdict"] for one in last] == ["flagged"]
    _, schema = calibrated.call("/memstab/v1/schema")
    assert [one["attribute"] for one in schema["settings"]][:2] == ["enabled", "mode"]
    jsonschema.Draft202012Validator(schema["badge"]).validate(last[0])
    jsonschema.Draft202012Validator(schema["args"]).validate({"enabled": True, **DETECT})
    assert calibrated.call("/memstab/v1/version")[1]["host"].startswith("AUTOMATIC1111 WebUI")


def test_the_webuis_own_description_tells_of_memstabs_pages(webui):
    status, told = webui.call("/openapi.json")
    assert status == 200
    pages = {path: own for path, own in told["paths"].items() if path.startswith("/memstab/v1/")}
    assert len(pages) == 13
    for page in (page for own in pages.values() for page in own.values()):
        assert page["summary"]
        assert page["description"]
        assert all(answer["content"]["application/json"]["schema"] for answer in page["responses"].values())
    start = pages["/memstab/v1/calibrate"]["post"]
    assert "guidance" in start["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"202", "409", "422"} <= set(start["responses"])


def test_ordinary_generations_teach_a_profile_and_can_be_forgotten(calibrated, memorized, splits, option):
    learned = "/memstab/v1/learned"
    calibrated.call(learned, {}, "DELETE")
    option(memstab_learn=True)
    prompts = [prompt["text"] for prompt in splits["tuning"]["ordinary"][60:96]]
    # A scale that no calibration covers, and two replays, which are flagged and teach nothing.
    for part in (prompts[:18], prompts[18:], memorized[2:4]):
        calibrated.sample("", DETECT, cfg_scale=5, batch_size=len(part), probe={"prompts": part})
    _, found = calibrated.call(learned)
    assert found["learning"] is True
    # One of them or two may be a false alarm.
    assert 34 <= found["images"] == found["prompts"] <= 36
    names = [one["name"] for one in calibrated.call("/memstab/v1/profiles")[1]]
    assert "memstab-lab learned" in names
    how = {"profile": "memstab-lab learned", "mode": "detect"}
    flagged, clear = calibrated.one(memorized[2], how, cfg_scale=5), calibrated.one(prompts[0], how, cfg_scale=5)
    assert [flagged.report.verdict, clear.report.verdict] == ["flagged", "clear"]
    assert flagged.report.profile.match == "exact"
    assert calibrated.call(learned, {"since": "yesterday"}, "DELETE")[0] == 422
    assert calibrated.call(learned, {"since": "2026-01-01"}, "DELETE")[1]["forgotten"] == found["images"] + 1
    assert calibrated.call(learned)[1]["images"] == 0


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_a_refiner_is_another_checkpoint_and_that_is_said(calibrated, memorized, sampler):
    how = {"refiner_checkpoint": OTHER, "refiner_switch_at": 0.5, "sampler_name": sampler}
    off, on = calibrated.one(memorized[2], **how), calibrated.one(memorized[2], DETECT, **how)
    assert on.equals(off)
    assert on.report.verdict == "flagged"
    assert 0 < on.report.steps.measured < 19
    ended = f"from evaluation {on.report.steps.measured + 1} on another checkpoint, {OTHER}, sampled"
    assert ended in on.report.reason
    assert calibrated.one(memorized[2], SUPPRESS, **how).report.verdict == "suppressed"
    alone = calibrated.one(memorized[2], DETECT, sampler_name=sampler)
    assert alone.report.reason == ""
    assert alone.equals(calibrated.one(memorized[2], sampler_name=sampler))


def test_an_xyz_plot_over_checkpoints_measures_those_that_have_a_profile(calibrated, memorized):
    pictures = calibrated.sample(memorized[2], DETECT, **xyz(calibrated, "Checkpoint name", ["memstab-lab", OTHER]))
    assert [one.report.verdict for one in pictures[1:]] == ["flagged", "not measured"]
    assert f"there is no profile for {OTHER}" in pictures[2].report.reason
    assert calibrated.one(memorized[2], DETECT).report.verdict == "flagged"


def test_a_checkpoint_by_override_settings_is_the_one_that_is_judged(calibrated, memorized):
    override = {"override_settings": {"sd_model_checkpoint": OTHER}}
    assert f"there is no profile for {OTHER}" in calibrated.one(memorized[2], SUPPRESS, **override).report.reason
    assert calibrated.one(memorized[2], SUPPRESS).report.verdict == "suppressed"


def test_a_path_whose_beginning_is_skipped_is_not_measured(calibrated, memorized, option):
    option(skip_early_cond=0.25)
    off, on = (calibrated.one(memorized[2], mode) for mode in (None, SUPPRESS))
    assert on.equals(off)
    assert on.report.verdict == "not measured"
    assert "the first evaluations had no separate predictions" in on.report.reason


def test_skipped_evaluations_without_the_prompt_are_not_measured(calibrated, memorized, ordinary, known, option):
    option(s_min_uncond=3.0)
    off, detect, suppress = (calibrated.one(memorized[2], mode) for mode in (None, DETECT, SUPPRESS))
    assert detect.equals(off)
    assert detect.report.verdict == "flagged"
    assert detect.report.steps.measured in range(13, 19)
    assert detect.report.reason == f"{detect.report.steps.measured} of 20 evaluations could be measured"
    assert suppress.report.verdict == "suppressed"
    assert not known.copied(suppress, memorized[2])
    plain, watched = (calibrated.one(ordinary[1], mode) for mode in (None, {"sensitivity": 1000}))
    assert watched.report.verdict == "clear"
    assert watched.equals(plain)


def test_clip_skip_is_followed(calibrated, memorized, option):
    usual = calibrated.one(memorized[2])
    option(CLIP_stop_at_last_layers=2)
    off, detect, suppress = (calibrated.one(memorized[2], mode) for mode in (None, DETECT, SUPPRESS))
    assert detect.equals(off)
    assert not off.equals(usual)
    assert detect.report.reason == suppress.report.reason == ""
