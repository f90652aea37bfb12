"""Learning while the user generates: which images teach, what is kept on disk, and the profile that comes of it."""

import json
from dataclasses import replace

import pytest
import torch

from lib_memstab.core import profile as profiles
from lib_memstab.core.lessons import EACH, FEWEST, SOURCE
from lib_memstab.core.profile import Checkpoint, Latent, ProfileError, Statistic
from lib_memstab.core.region import Likeness
from lib_memstab.host import learner as learning
from lib_memstab.host import wording
from lib_memstab.host.matching import ENOUGH
from lib_memstab.host.tab import forgetting

DETECT = {"mode": "detect"}
OWN = Checkpoint("stand-in", "ab" * 32)
REPLAY = "a replay of something"


@pytest.fixture
def learns(bare):
    bare.learning = True
    return bare


@pytest.fixture
def judged(extension):
    extension.learning = True
    return extension


def generate(extension, count, first=0, **changes):
    return extension.sample([f"ordinary prompt {first + place}" for place in range(count)], DETECT, **changes)


def file(extension):
    [found] = (extension.folder / "learned").iterdir()
    return found


def test_from_generations_comes_a_profile_that_the_next_one_uses(learns):
    assert generate(learns, FEWEST - 8)[0].report.verdict == "not measured"
    assert learns.store.names() == []
    generate(learns, 8, 100)
    assert learns.store.names() == ["stand-in learned"]
    [stored] = learns.store.all()
    assert stored.profile.modes["txt2img"].covered.prompts == SOURCE
    assert stored.profile.checkpoint == OWN
    picture = learns.sample([REPLAY, "ordinary prompt 216"], DETECT)
    assert [one.report.verdict for one in picture] == ["flagged", "clear"]
    assert picture[0].report.profile.match == "exact"


def test_learning_changes_no_picture_and_can_be_left_off(bare, equal):
    off = generate(bare, 4)
    bare.learning = True
    on = generate(bare, 4)
    assert all(equal(one, other) for one, other in zip(off, on, strict=True))
    assert len(bare.learner.lessons(OWN)) == 4
    bare.learning = False
    generate(bare, 4)
    assert len(bare.learner.lessons(OWN)) == 4


def test_flagged_images_teach_nothing(judged):
    pictures = judged.sample([REPLAY, "ordinary prompt 216", REPLAY], {"mode": "suppress"})
    assert [one.report.verdict for one in pictures] == ["suppressed", "clear", "suppressed"]
    assert len(judged.learner.lessons(OWN)) == 1


def test_stopped_skipped_lora_and_composed_images_teach_nothing(learns):
    def stop_at_nine(p):
        original = p.sampler.callback_state

        def step(state):
            if state["i"] == 9:
                learns.state.interrupted = True
            return original(state)

        p.sampler.callback_state = step

    learns.sample(["ordinary prompt 1"], DETECT, [stop_at_nine])
    learns.state.interrupted = False
    learns.sample(["ordinary prompt 2"], DETECT, skip_uncond_from=5)
    network = type("Params", (), {"items": ["style", "0.8"]})()
    learns.sample(["ordinary prompt 3"], DETECT, extra_network_data={"lora": [network]})
    learns.sample(["ordinary prompt 4 AND ordinary prompt 5"], DETECT)
    assert learns.learner.lessons(OWN) == []


def test_img2img_negative_prompts_and_hires_passes_teach_their_own(learns):
    generate(learns, 2, init_latent=torch.zeros(2, 4, 16, 16))
    generate(learns, 2, 10, negative="blurry")
    generate(learns, 2, 20, hires=True)
    found = [(one.mode, one.conditions.negative, bool(one.sketch)) for one in learns.learner.lessons(OWN)]
    assert found == [
        *[("img2img", False, False)] * 2,
        *[("txt2img", True, True)] * 2,
        *[("txt2img", False, False)] * 2,
        *[("img2img", False, False)] * 2,
    ]


def test_lessons_outlive_the_program_and_a_power_cut(learns, caplog):
    generate(learns, 5)
    with file(learns).open("a") as lines:
        lines.write('{"mode": "txt2img", "samp')
    again = learning.Learner(learns.host, lambda: learns.folder / "learned", learns.store, lambda: True)
    assert len(again.lessons(OWN)) == 5
    assert "left out 1 lines" in caplog.text
    assert file(learns).read_text().count("\n") == 5
    assert all(json.loads(line)["day"] for line in file(learns).read_text().splitlines())
    assert "ordinary prompt" not in file(learns).read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 39},
        {"offset": -1},
        {"path": []},
        {"sketch": "%"},
        {"mode": "video"},
        {"size": [1]},
        {"over": "sigma"},
        {"smaller_end": False},
    ],
)
def test_a_line_that_was_tampered_with_or_measured_otherwise_is_left_out(learns, change):
    generate(learns, 2)
    first, second = file(learns).read_text().splitlines()
    file(learns).write_text(json.dumps({**json.loads(first), **change}) + "\n" + second + "\n")
    again = learning.Learner(learns.host, lambda: learns.folder / "learned", learns.store, lambda: True)
    assert len(again.lessons(OWN)) == 1


def test_what_was_learned_can_be_forgotten(learns):
    assert "Nothing has been learned" in learns.learner.line(OWN)
    generate(learns, FEWEST)
    [before] = learns.store.all()
    old = [replace(one, day="2026-01-01") for one in learns.learner.lessons(OWN)]
    learns.learner._write(file(learns), old)
    generate(learns, 8, 200)
    assert f"{FEWEST + 8} of your generations" in learns.learner.line(OWN)
    assert learns.learner.forget(OWN, "2026-01-02") == 8
    [after] = learns.store.all()
    assert after.profile.modes["txt2img"].region.peaks.tolist() == before.profile.modes["txt2img"].region.peaks.tolist()
    assert learns.learner.forget(OWN) == FEWEST
    assert learns.learner.lessons(OWN) == []
    assert file(learns).read_text() == ""
    assert learns.store.names() == []


def test_too_few_left_take_the_profile_away_but_not_one_that_was_renamed_or_made_otherwise(learns):
    generate(learns, FEWEST)
    learns.store.rename("stand-in learned", "mine")
    generate(learns, 24, 100)
    assert set(learns.store.names()) == {"mine", "stand-in learned"}
    today = learns.learner.lessons(OWN)[-1].day
    learns.learner.forget(OWN, today)
    assert learns.store.names() == ["mine"]
    [own] = learns.store.all()
    [calibration] = own.profile.modes.values()
    other = replace(calibration, covered=replace(calibration.covered, prompts="a list"))
    learns.store.save(replace(own.profile, name="stand-in learned", modes={"txt2img": other}))
    learns.learner.forget(OWN)
    assert set(learns.store.names()) == {"mine", "stand-in learned"}


def test_a_profile_that_cannot_be_deleted_is_told(learns, monkeypatch):
    generate(learns, FEWEST)

    def fail(name):
        raise ProfileError("it is open in another program: close that")

    monkeypatch.setattr(learns.store, "delete", fail)
    _, armed = forgetting.forget(learns.learner, OWN, "", False)
    said, _ = forgetting.forget(learns.learner, OWN, armed, False)
    assert "it is open in another program" in said
    assert learns.learner.lessons(OWN) == []


def test_the_oldest_lessons_go_when_there_are_too_many(learns, monkeypatch):
    monkeypatch.setattr(learning, "MOST", 16)
    generate(learns, 12)
    generate(learns, 6, 100)
    kept = learns.learner.lessons(OWN)
    assert len(kept) == 12
    assert file(learns).read_text().count("\n") == 12
    assert kept[-1].prompt == learning.digest("ordinary prompt 105")


def test_one_prompt_over_and_over_makes_no_profile(learns):
    for _ in range(6):
        learns.sample(["ordinary prompt 7"] * 8, DETECT)
    assert learns.store.names() == []
    assert len(learning.ordinary(learns.learner.lessons(OWN))) <= EACH


def test_an_error_while_learning_leaves_the_job_alone(learns, monkeypatch, caplog):
    monkeypatch.setattr(learning, "lessons_of", lambda taught: 1 / 0)
    assert len(generate(learns, 2)) == 2
    assert "learned nothing from this batch (ZeroDivisionError" in caplog.text


def test_many_images_of_the_user_come_before_a_calibration(judged):
    generate(judged, ENOUGH // 2)
    assert judged.sample(["ordinary prompt 216"], DETECT)[0].report.profile.name == "stand-in"
    generate(judged, ENOUGH, 300)
    assert "stand-in learned" in judged.store.names()
    assert judged.sample(["ordinary prompt 216"], DETECT)[0].report.profile.name == "stand-in learned"
    negative = judged.sample(["ordinary prompt 216"], DETECT, negative="blurry")[0].report
    assert negative.profile.name == "stand-in"


LIKENESS = Likeness(2.0, 0.5)  # the stand-in's pictures of one prompt are all much alike


def looked_at(profile, likeness=LIKENESS, **changes):
    """A calibrated profile whose bands know how alike pictures are; `changes` of the profile, or of what it covers."""
    covered = {name: changes.pop(name) for name in ("prompts", "loras") if name in changes}
    modes = {
        mode: replace(
            one,
            covered=replace(one.covered, **covered),
            region=replace(one.region, bands=tuple(replace(band, likeness=likeness) for band in one.region.bands)),
        )
        for mode, one in profile.modes.items()
    }
    return replace(profile, **{"modes": modes, **changes})


def learned(extension):
    """The likeness of each band of the learned profile, by mode."""
    [profile] = [one.profile for one in extension.store.all() if one.name == "stand-in learned"]
    return {mode: [band.likeness for band in one.region.bands] for mode, one in profile.modes.items()}


def learned_anew(extension):
    """The same of a profile that is made now, of the lessons there are."""
    assert extension.learner.forget(OWN, "2999-01-01") == 0
    return learned(extension)


def test_what_is_learned_takes_over_from_a_calibration_how_alike_pictures_are(judged, made):
    judged.store.save(looked_at(made.profile))
    generate(judged, FEWEST)
    assert learned(judged) == {"txt2img": [LIKENESS]}
    generate(judged, FEWEST + 8, 100, init_latent=torch.zeros(FEWEST + 8, 4, 16, 16))
    assert learned_anew(judged) == {"txt2img": [LIKENESS], "img2img": [LIKENESS]}
    generate(judged, 12, 200, negative="blurry")
    assert learned_anew(judged) == {"txt2img": [LIKENESS] * 2, "img2img": [LIKENESS]}


def test_without_a_calibration_that_looked_twice_nothing_is_known_of_it(judged, made):
    generate(judged, FEWEST)
    assert learned(judged) == {"txt2img": [None]}
    judged.store.save(looked_at(made.profile))
    assert learned_anew(judged) == {"txt2img": [LIKENESS]}
    judged.store.delete("stand-in")
    assert learned_anew(judged) == {"txt2img": [None]}


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": Checkpoint("stand-in", "cd" * 32)},
        {"latent": Latent(16)},
        {"statistic": Statistic()},
        {"loras": ("style",)},
        {"prompts": SOURCE},
        {"modes": "img2img"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_of_another_checkpoint_mode_or_lora_and_of_other_lessons_nothing_is_taken_over(made, learns, changes):
    profile = looked_at(made.profile, **{name: value for name, value in changes.items() if name != "modes"})
    modes = {mode: one for mode, one in profile.modes.items() if mode == changes.get("modes", mode)}
    learns.store.save(replace(profile, name="another", modes=modes))
    generate(learns, FEWEST)
    assert learned(learns) == {"txt2img": [None]}


def test_of_several_calibrations_the_users_newest_says_how_alike_pictures_are(made, learns):
    shipped = learns.folder / "shipped"
    shipped.mkdir()
    profiles.save(looked_at(made.profile, Likeness(2.1, 0.5), name="c", created="2026-09-09"), shipped)
    generate(learns, FEWEST)
    assert learned(learns) == {"txt2img": [Likeness(2.1, 0.5)]}
    for name, day, mean in (("a", "2026-03-03", 2.3), ("b", "2026-02-02", 2.2)):
        learns.store.save(looked_at(made.profile, Likeness(mean, 0.5), name=name, created=day))
    learns.store.save(replace(made.profile, name="d", created="2026-04-04"))
    (learns.folder / "broken.json").write_text("{")
    assert learned_anew(learns) == {"txt2img": [Likeness(2.3, 0.5)]}


def test_the_tab_forgets_today_at_once_and_everything_on_the_second_click(learns):
    generate(learns, 3)
    assert "3 of your generations" in forgetting.told(learns.learner, OWN)
    assert wording.LEARNING in forgetting.told(learns.learner, OWN)
    said, armed = forgetting.forget(learns.learner, OWN, "", False)
    assert wording.ARMED in said
    assert len(learns.learner.lessons(OWN)) == 3
    assert forgetting.forget(learns.learner, Checkpoint("another", None), armed, False)[1] == "another"
    said, armed = forgetting.forget(learns.learner, OWN, armed, False)
    assert "3 images were forgotten" in said
    assert armed == ""
    generate(learns, 2)
    assert "2 images were forgotten" in forgetting.forget(learns.learner, OWN, "", True)[0]
    learns.learning = False
    assert wording.NOT_LEARNING in forgetting.told(learns.learner, None)
