"""Attacks on the lab model: wordings, texts moved by noise and by gradients, AND and prompt editing."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torchsde")
import torch

from lib_memstab.core.likeness import likeness
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.second_look import look, noises
from lib_memstab.core.suppression import Rule
from lib_memstab.lab import truth
from lib_memstab.lab.adversary import Watch, bare_denoiser, invert, lessons_of_picture, lessons_of_prompt
from lib_memstab.lab.attacks import ATTACKS, Effort
from lib_memstab.lab.attempts import Play, carried, play
from lib_memstab.lab.composing import Composed, Edited
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.sampling import Job, sample
from lib_memstab.lab.tools import load_tools
from lib_memstab.lab.trials import memorized_trials
from lib_memstab.lab.wordings import WORDINGS

SETTINGS = Settings("suppress", 100.0)
EFFORT = Effort((3,), (0.01,))
STEPS = 5


@pytest.fixture(scope="module")
def tools():
    return load_tools()


@pytest.fixture(scope="module")
def trials():
    """Two heavily duplicated titles."""
    return memorized_trials(load_splits()["tuning"], 1, 7, ("heavy",))[:2]


@pytest.mark.parametrize("name", WORDINGS)
def test_a_wording_is_another_text_and_the_same_again_with_the_same_chance(name, trials):
    for trial in trials:
        one, again = (WORDINGS[name](trial.text, trial.pair, np.random.default_rng(3)) for _ in range(2))
        assert one == again
        assert one.strip()
        assert one != trial.text


def test_a_noised_embedding_replays_without_suppression_and_less_with_it(tools, trials):
    _, judge, regions = tools
    found = ATTACKS["embedding noise, 0.3 std"].run(judge, regions, trials, SETTINGS, EFFORT)
    copies = [sum(getattr(one, name) > truth.COPY_THRESHOLD for one in found) for name in ("without", "suppressed")]
    assert copies[0] == 2
    assert copies[1] == 0
    assert all(one.flagged for one in found)


def test_gradients_lower_the_loss_against_a_picture_and_the_penalty_lowers_the_excess(tools, trials):
    model, judge, regions = tools
    start = model.encode_prompts([trials[0].text])[0]
    chance = torch.Generator().manual_seed(1)
    lessons = lessons_of_picture(model, judge.references[0], judge.masks[0], 40, chance)
    watch = Watch.of(model, regions["txt2img"], 100.0, Job.guidance, load_splits()["calibration"][:4])

    def told(text):
        with torch.no_grad():
            eps = bare_denoiser(model).predict(lessons.x, lessons.sigma, text.expand(40, -1, -1))
        error = (eps - lessons.wanted).square().mean()
        return float(error), float(watch.excess(lessons.sigma, eps, lessons.uncond).mean())

    (_, plain), (_, hidden) = (
        next(iter(invert(model, start, lessons, [15], watch, penalty))) for penalty in (0.0, 0.1)
    )
    assert told(plain)[0] < told(start)[0]
    assert told(hidden)[1] < told(plain)[1]


def test_what_an_attacker_takes_for_usual_is_what_other_ordinary_prompts_do_at_every_noise_level(tools):
    model, _, regions = tools
    prompts = load_splits()["calibration"]
    watch = Watch.of(model, regions["txt2img"], 100.0, Job.guidance, prompts[:24])
    seen = [lessons_of_prompt(model, prompt, [seed]) for seed, prompt in enumerate(prompts[24:40])]
    excess = torch.stack([watch.excess(one.sigma, one.wanted, one.uncond) for one in seen])
    assert excess.shape == (16, Job.steps)
    assert excess.mean(0).abs().max() < watch.threshold / 2


def test_an_attacker_who_is_shy_of_second_looks_makes_them_less_alike(tools, trials):
    model, _, _ = tools
    start, empty = model.encode_prompts([trials[0].text, ""]).split(1)
    lessons = lessons_of_prompt(model, trials[0].text, [1, 2])
    [picture] = sample(model, Job([trials[0].text], [3])).split(1)

    @torch.no_grad()
    def alike(text):
        def both(x, sigma):
            return tuple(bare_denoiser(model).predict(x, sigma, one.expand(len(x), -1, -1)) for one in (text, empty))

        return float(likeness(look(noises(picture), both), picture).mean())

    bold, shy = (next(iter(invert(model, start[0], lessons, [12], unlike=one)))[1] for one in (None, picture))
    assert alike(shy[None]) < alike(bold[None]) - 0.01


def test_checkpoints_are_stations_of_one_descent(tools, trials):
    model, judge, _ = tools
    start = model.encode_prompts([trials[0].text])[0]
    lessons = lessons_of_picture(model, judge.references[0], judge.masks[0], 20, torch.Generator().manual_seed(1))
    stations = dict(invert(model, start, lessons, [4, 2]))
    assert list(stations) == [2, 4]
    assert torch.equal(stations[4], dict(invert(model, start, lessons, [4]))[4])
    assert not torch.equal(stations[2], stations[4])


def test_an_imitator_learns_from_what_the_prompt_predicts_by_itself(tools, trials):
    model, _, _ = tools
    lessons = lessons_of_prompt(model, trials[0].text, [1, 2])
    assert lessons.x.shape == lessons.wanted.shape == (2 * Job.steps, 4, 16, 16)
    assert float(lessons.sigma.max()) > 10
    assert not torch.allclose(lessons.wanted, lessons.uncond, atol=1e-2)


def monitor_of(tools, rule=None):
    return Monitor(tools[2]["txt2img"], Settings("detect"), rule or Rule(), Job.guidance)


def test_the_mean_of_two_equal_parts_pulls_twice_as_much(tools, trials):
    model = tools[0]
    prompt = trials[0].text
    once = sample(model, Job([prompt], [3], guidance=2 * Job.guidance, steps=STEPS))
    monitor = Monitor(tools[2]["txt2img"], Settings("detect"), Rule(), Job.guidance)
    both = sample(model, Job([prompt], [3], steps=STEPS), Composed(model, monitor, [[prompt], [prompt]]))
    torch.testing.assert_close(both, once, atol=2e-3, rtol=1e-3)


def test_an_edited_prompt_is_its_first_text_until_then_and_its_second_afterwards(tools, trials):
    model = tools[0]
    texts = ([trials[0].text], [trials[1].text])
    pictures = {
        until: sample(model, Job(texts[0], [3], steps=STEPS), Edited(model, monitor_of(tools), texts, until))
        for until in (0, 2, STEPS)
    }
    for until, text in ((STEPS, texts[0]), (0, texts[1])):
        torch.testing.assert_close(pictures[until], sample(model, Job(text, [3], steps=STEPS)), atol=2e-3, rtol=1e-3)
    assert not torch.allclose(pictures[2], pictures[0], atol=0.1)
    assert not torch.allclose(pictures[2], pictures[STEPS], atol=0.1)


def test_a_memorized_prompt_that_was_cut_in_two_is_found_by_a_look_at_both_halves_as_one_text(tools, monkeypatch):
    model, judge, regions = tools
    trial = replace(memorized_trials(load_splits()["tuning"], 1, 7, ("heavy", "medium"))[25], seed=2032)
    words, again = trial.text.split(), Composed._again
    halves = [[words[0]], [" ".join(words[1:])]]
    plan = Play(Job([trial.text], [trial.seed]), wrap=lambda model, monitor: Composed(model, monitor, halves))
    latents, [found] = play(model, plan, regions["txt2img"], Settings("detect"))
    assert judge.similarities(latents, [trial])[0] > truth.COPY_THRESHOLD
    assert found.verdict == "flagged"
    for of in ("prompt", "hardest part"):
        monkeypatch.setattr(Composed, "_again", lambda *given, of=of: again(*given[:-1], of))
        _, [without] = play(model, plan, regions["txt2img"], Settings("detect"))
        assert without.verdict == "clear"
        assert without.second_look.likeness < found.second_look.likeness - 0.05


def test_text_features_in_place_of_prompts_are_what_is_sampled(tools, trials):
    model, _, regions = tools
    text = model.encode_prompts([trials[0].text])
    job = Job([trials[0].text], [4], steps=STEPS)
    given = Play(Job(["another"], [4], steps=STEPS, text=text), carried(model, text))
    latents, reports = play(model, given, regions["txt2img"], Settings("detect"))
    torch.testing.assert_close(latents, sample(model, job))
    assert reports[0].steps.measured == STEPS
