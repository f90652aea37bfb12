"""The tab's form: what its fields make of a calibration, and what it says of fields that cannot be used."""

import pytest

from lib_memstab.calibration.plan import SCALES, read_plan
from lib_memstab.host.tab.form import FIELDS, FormError, read_form, read_prompts, sampling_of, without_size

SAMPLERS, SCHEDULERS = ["Euler", "DDIM"], ["Automatic", "Karras"]
PROMPTS = [f"a picture of {number} apples" for number in range(8)]


def form(**changes):
    values = {field.name: field.default for field in FIELDS}
    assert set(changes) <= set(values)
    return list({**values, **changes}.values())


def plan(prompts=None, resume=True, size=lambda: (768, 640), **changes):
    return read_form(form(**changes), prompts, resume, SAMPLERS, SCHEDULERS, size)


def test_an_untouched_form_is_what_an_empty_call_of_the_api_is():
    assert plan() == read_plan({}, SAMPLERS, SCHEDULERS, (768, 640))


def test_the_form_has_every_field_of_a_plan():
    asked = {field.name for field in FIELDS} - {"img2img"} | {"modes", "prompts", "resume"}
    with pytest.raises(ValueError, match="foreign") as error:
        read_plan({"foreign": 1}, SAMPLERS, SCHEDULERS)
    assert set(error.value.allowed.removeprefix("one of ").split(", ")) == asked


def test_every_field_arrives():
    made = plan(
        "\n".join(PROMPTS).encode(),
        resume=False,
        sampler="DDIM",
        scheduler="Karras",
        steps=12,
        width=128,
        height=256,
        guidance="7.5, 1",
        trajectories=80,
        batch_size=2,
        img2img=False,
        suffix="<lora:style:1>",
        name="mine",
        pictures=True,
    )
    assert made == read_plan(
        {
            "sampler": "DDIM",
            "scheduler": "Karras",
            "steps": 12,
            "width": 128,
            "height": 256,
            "guidance": [7.5, 1],
            "trajectories": 80,
            "batch_size": 2,
            "modes": "txt2img",
            "prompts": PROMPTS,
            "suffix": "<lora:style:1>",
            "name": "mine",
            "resume": False,
            "pictures": True,
        },
        SAMPLERS,
        SCHEDULERS,
    )


def test_the_size_is_asked_for_only_where_the_form_does_not_say():
    def never():
        raise AssertionError("the checkpoint would be loaded")

    assert plan(size=never, width=128, height=64).height == 64
    assert (plan(width=128).width, plan(width=128).height) == (128, 768)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "“Steps” should be a whole number from 1 to 150."),
        ({"width": 100}, "“Width” should be a whole number from 64 to 2048 in steps of 8."),
        ({"guidance": "seven"}, "“Guidance scales (CFG)” should be up to 8 different numbers from 1 to 30"),
        ({"guidance": "7, 99"}, "“Guidance scales (CFG)” should be up to 8 different numbers from 1 to 30"),
        ({"guidance": "7 7"}, "“Guidance scales (CFG)” should be up to 8 different numbers from 1 to 30"),
        ({"trajectories": 16}, "“Pictures in each mode” should be at least 32 with these guidance scales."),
        ({"name": "../other"}, "“Name of the profile” should be a profile's name"),
    ],
)
def test_a_refusal_names_the_field_as_the_tab_does(changes, words):
    with pytest.raises(FormError) as error:
        plan(**changes)
    assert str(error.value).startswith(words)


def test_guidance_scales_are_parted_as_people_like():
    assert plan(guidance="7.5; 1 3,12").guidance == (7.5, 1.0, 3.0, 12.0)


def test_prompts_are_lines_of_text():
    lines = ["# my prompts", PROMPTS[0], "", f"  {PROMPTS[1]} ", *PROMPTS[2:], PROMPTS[0], "einé «zwölf»"]
    for newline in ("\n", "\r\n"):
        assert read_prompts(newline.join(lines).encode("utf-8-sig")) == [*PROMPTS, "einé «zwölf»"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has 0 different prompts: give 8 to 4096"),
        ("\n".join(PROMPTS[:7]).encode(), "has 7 different prompts"),
        ("\n".join([*PROMPTS[:7], PROMPTS[0], "#"]).encode(), "has 7 different prompts"),
        ("\n".join(PROMPTS).encode("utf-16"), "no plain text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no plain text in UTF-8"),
        (b"PK\x03\x04" + b"\0" * 40, "no plain text in UTF-8"),
        ("\n".join([*PROMPTS, "a" * 2001]).encode(), "Line 9 .* is longer than 2000 characters"),
    ],
    ids=["empty", "seven", "repeated", "utf-16", "picture", "archive", "long line"],
)
def test_a_wrong_file_of_prompts_is_refused_in_a_sentence(data, words):
    with pytest.raises(FormError, match=words):
        plan(data)


def test_a_form_as_a_job_takes_what_it_leaves_open_from_the_checkpoint():
    known = sampling_of(form(guidance="5, 1"), (768, 640))
    assert (known["width"], known["height"], known["cfg_scale"], known["steps"]) == (640, 768, 5.0, 20)
    unknown = sampling_of(form(guidance="many", steps=None, width=64), None)
    assert (unknown["width"], unknown["height"], unknown["cfg_scale"], unknown["steps"]) == (64, 512, SCALES[0], 20)


def test_a_size_that_a_checkpoint_filled_in_gives_way_to_the_next_ones_and_a_typed_one_stays():
    filled = without_size(form(width=512, height=640), (512, 512))
    known = sampling_of(filled, (1024, 1024))
    assert (known["width"], known["height"]) == (1024, 640)
    assert without_size(form(width=512), None) == form(width=512)
    assert without_size(form(), (20, 256)) == form()
