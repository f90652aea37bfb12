"""The beginning of a path with a negative prompt, measured against no prompt."""

import numpy as np
import pytest
import torch

from lib_memstab.core.beginning import Levels
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.suppression import Rule, Windows
from tests.core.test_monitor import GUIDANCE, SIGMAS, evaluations, region, rows_of  # noqa: F401

EULER_20 = [14.6, 10.7, 8.08, 6.2, 4.86, 3.9, 3.1, 2.5, 2.0]


def phases(levels, steered=False):
    asked = []

    def steers():
        asked.append(True)
        return steered

    followed = Levels()
    found = [followed.at(torch.full((2,), level), steers) for level in levels]
    assert len(asked) <= 1
    return found, followed.evaluations


def test_it_ends_at_a_share_of_the_first_noise_level():
    found, count = phases(EULER_20)
    assert found == ["begins"] * 4 + ["over"] * 5
    assert count == 4


def test_where_a_picture_is_steered_away_it_is_followed_for_longer():
    found, count = phases(EULER_20, steered=True)
    assert found == ["begins"] * 4 + ["steers"] * 3 + ["over"] * 2
    assert count == 7


def test_many_small_steps_cost_no_more_than_a_few_large_ones():
    levels = np.exp(np.linspace(np.log(14.6), np.log(0.03), 300))
    found, count = phases(levels)
    assert found[:2] == ["begins", "holds"]
    assert count <= 7
    found, count = phases(levels, steered=True)
    assert {"steers", "waits"} < set(found)
    assert count <= 11


def test_a_noise_level_that_rises_again_does_not_begin_anew():
    found, _ = phases([14.6, 5.0, 14.6, 14.0])
    assert found == ["begins", "over", "over", "over"]


def hidden(monitor, gains, negative, seed=0, asked=None):
    """Evaluations whose negative prompt goes this share of the way to the prompt; noise levels of the extra ones."""
    asked = [] if asked is None else asked
    for sigma, cond, plain in evaluations(gains, seed):
        uncond = plain + negative * (cond - plain)
        eps = uncond + GUIDANCE * (cond - uncond)

        def without(sigma=sigma, plain=plain):
            asked.append(float(sigma[0]))
            return plain, None

        monitor.condition(rows_of(len(gains))[0])
        assert monitor.evaluated(eps, sigma, cond, uncond, eps, without=without) is eps
    return asked


def monitor_of(region, negative):  # noqa: F811
    return Monitor(region, Settings("detect", 100.0), Rule(), GUIDANCE, negative=negative)


def test_a_negative_prompt_that_says_half_of_the_same_hides_nothing(region):  # noqa: F811
    strong, share = [0.02, 0.08], 0.9
    alone = monitor_of(region, negative=False)
    for sigma, cond, plain in evaluations(strong):
        uncond = plain + share * (cond - plain)
        alone.evaluated(cond, sigma, cond, uncond, cond)
    assert [one.verdict for one in alone.reports(2)] == ["clear", "clear"]
    monitor = monitor_of(region, negative=True)
    asked = hidden(monitor, strong, share)
    reports = monitor.reports(2)
    assert [one.verdict for one in reports] == ["clear", "flagged"]
    assert asked == pytest.approx([level for level in SIGMAS if level >= 0.4 * SIGMAS[0]])
    assert [one.extra_evaluations for one in reports] == [len(asked)] * 2
    assert [one.steps.measured for one in reports] == [20, 20]
    assert [one.reason for one in reports] == ["", ""]


def test_without_a_negative_prompt_nothing_more_is_evaluated(region):  # noqa: F811
    monitor = monitor_of(region, negative=False)
    assert hidden(monitor, [0.02], 0.0) == []
    assert monitor.reports(1)[0].extra_evaluations == 0


def test_between_two_extra_evaluations_the_last_verdict_holds(region, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Levels, "SPACING", 0.7)
    monitor = monitor_of(region, negative=True)
    asked = hidden(monitor, [0.02, 0.3], 0.5)
    assert len(asked) == 2
    steps = monitor.detector.steps
    assert float(steps[0].sigma[0]) > float(steps[1].sigma[0])
    assert torch.equal(steps[0].length, steps[1].length)
    assert torch.equal(steps[0].excess, steps[1].excess)
    assert not torch.equal(steps[1].length, steps[2].length)


def test_an_evaluation_that_fails_ends_the_measurement_and_leaves_the_picture(region, caplog):  # noqa: F811
    monitor = monitor_of(region, negative=True)

    def fails():
        raise RuntimeError("no memory left")

    for sigma, cond, uncond in evaluations([0.3]):
        assert monitor.evaluated(cond, sigma, cond, uncond, cond, without=fails) is cond
    report = monitor.reports(1)[0]
    assert report.verdict == "not measured"
    assert "no memory left" in report.reason
    assert len(caplog.records) == 1


def test_the_text_of_no_prompt_is_evaluated_where_the_host_gives_nothing_else(region):  # noqa: F811
    rows = rows_of(2)[1]
    monitor = Monitor(region, Settings("detect"), Rule(), GUIDANCE, rows, negative=True)
    asked = []

    def evaluate(x, sigma, text):
        asked.append(text)
        return torch.zeros_like(x)

    for sigma, cond, uncond in evaluations([0.02, 0.02]):
        monitor.evaluated(cond, sigma, cond, uncond, cond, evaluate)
    assert 1 <= len(asked) <= 7
    assert all(torch.equal(text, rows.empty.expand(2, -1, -1)) for text in asked)


def test_a_job_that_cannot_say_what_no_prompt_gives_is_not_measured(region):  # noqa: F811
    monitor = monitor_of(region, negative=True)
    for sigma, cond, uncond in evaluations([0.3]):
        assert monitor.evaluated(cond, sigma, cond, uncond, cond) is cond
    assert "without any prompt" in monitor.reports(1)[0].reason


def steering(region, gains, only=None):  # noqa: F811
    """A job that steers: its monitor, what its rule was told, and its answers; `only` some of these images."""
    own = list(range(len(gains))) if only is None else only
    rows = rows_of(len(own))[1]
    monitor = Monitor(region, Settings("suppress"), Windows(), GUIDANCE, rows, negative=True)
    told, answers, guide = [], [], monitor.rule.guide
    monitor.rule.guide = lambda evaluation, flags: told.append((evaluation, flags)) or guide(evaluation, flags)
    for step, (sigma, cond, plain) in enumerate(evaluations(gains)):
        # The last image pulls only after the beginning.
        cond[-1] = plain[-1] + (30 if step >= 3 else 1) * (cond[-1] - plain[-1])
        uncond = plain + 0.5 * (cond - plain)
        eps = (uncond + GUIDANCE * (cond - uncond))[own]
        answers.append(
            (
                eps,
                monitor.evaluated(eps, sigma[own], cond[own], uncond[own], eps, without=lambda e=plain: (e[own], None)),
            )
        )
    return monitor, told, answers


def test_a_path_that_is_steered_is_held_against_no_prompt_for_longer_and_then_begins_anew(region):  # noqa: F811
    monitor, told, answers = steering(region, [0.3, 0.02, 0.02], only=[0, 1])
    assert [one.verdict for one in monitor.reports(2)] == ["suppressed", "clear"]
    assert all(torch.equal(eps[1], answer[1]) for eps, answer in answers)
    over = next(place for place, level in enumerate(SIGMAS) if level < 0.2 * SIGMAS[0])
    anew = [None if evaluation.anew is None else evaluation.anew.tolist() for evaluation, _ in told]
    assert [place for place, rows in enumerate(anew) if rows] == [over]
    assert anew[over] == [True, False]


def test_what_is_done_to_a_picture_does_not_depend_on_the_others_of_its_batch(region):  # noqa: F811
    gains = [0.3, 0.02, 0.03]
    monitor, _, among = steering(region, gains)
    assert [one.verdict for one in monitor.reports(3)] == ["suppressed", "clear", "suppressed"]
    # It pulls from the fourth evaluation on, and a path is longer where two in a row pull.
    assert monitor.reports(3)[2].steps.first_outside == 5
    for place in range(3):
        alone, _, answers = steering(region, gains, only=[place])
        for (_, one), (_, other) in zip(answers, among, strict=True):
            torch.testing.assert_close(one[0], other[place])
        assert alone.reports(1)[0].score == pytest.approx(monitor.reports(3)[place].score)


def test_where_nothing_is_flagged_nothing_is_evaluated_after_the_beginning(region):  # noqa: F811
    monitor, _, answers = steering(region, [0.02, 0.02, 0.02], only=[0, 1])
    assert monitor.reports(2)[0].extra_evaluations == sum(level >= 0.4 * SIGMAS[0] for level in SIGMAS)
    assert all(torch.equal(eps, answer) for eps, answer in answers)
