"""What a form knows of the attacks without loading them: their names, which need the picture, how many pictures."""

import subprocess
import sys

import pytest

from lib_memstab.evidence.descriptors import chosen
from lib_memstab.evidence.live.attacks import LIVE_ATTACKS
from lib_memstab.evidence.live.campaign import Campaign
from lib_memstab.evidence.live.judging import References
from lib_memstab.evidence.live.names import NAMES, WITH_PICTURE, chosen_attacks, most_pictures
from lib_memstab.evidence.prompt_lists import parse_list
from lib_memstab.evidence.verify.plan import Sampling, subjects_of

PROMPTS = "the mill of nobody, painted by hand\nanother picture that is known\n"


def test_the_names_are_those_of_the_attacks():
    assert list(LIVE_ATTACKS) == list(NAMES)
    assert [name for name, one in LIVE_ATTACKS.items() if one.knows == "picture"] == list(WITH_PICTURE)


def test_they_are_known_without_torch():
    code = "import sys, lib_memstab.evidence.live.names; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_an_attack_in_the_webui_needs_nothing_that_only_the_lab_model_does():
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from lib_memstab.evidence.live import campaign, judging, report\n"
        "print('lib_memstab.lab.attempt' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("asked", [None, ["CFG 3", "Euler a"], ["half AND half", WITH_PICTURE[0]]])
@pytest.mark.parametrize("held", [False, True], ids=["without training pictures", "with them"])
def test_the_number_of_pictures_that_is_told_beforehand_is_what_is_taken_of_prompts_that_can_be_attacked(
    asked, held, tmp_path
):
    subjects = subjects_of([parse_list("mine", PROMPTS.encode())], [], None)
    names, lacking = chosen_attacks(asked, ["Euler", "Euler a", "DPM++ 2M"])
    assert lacking == ([] if asked else ["DDIM"])
    files = {one.number: tmp_path for one in subjects} if held else {}
    campaign = Campaign(subjects, [], names, [], 3, Sampling(), chosen(None), References({}, files, "none"))
    taken = {(one.subject, one.name) for one in (*campaign.plain(), *campaign.attempts(subjects))}
    assert most_pictures(2, 3, names, held) == 2 * len(taken)


@pytest.mark.parametrize(("scheduler", "tried"), [("Automatic", False), ("", False), ("Karras", True)])
def test_an_attack_that_asks_for_what_is_sampled_anyway_is_left_out(scheduler, tried):
    subjects = subjects_of([parse_list("mine", b"one prompt")], [], None)
    sampling = Sampling("DDIM", scheduler, steps=6)
    campaign = Campaign(subjects, [], NAMES, [], 2, sampling, chosen(None), References({}, {}, "none"))
    made = {one.name.partition(" @ ")[0] for one in campaign.attempts(subjects)}
    assert ("DDIM" in made, "6 steps" in made, "CFG 3" in made) == (tried, False, True)
