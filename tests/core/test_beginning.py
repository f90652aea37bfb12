"""The beginning of a path with a negative prompt, measured against no prompt."""

import numpy as np
import pytest
import torch

from lib_memstab.core.beginning import Beginning
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.suppression import RULES
from tests.core.test_monitor import GUIDANCE, SIGMAS, evaluations, play, region, rows_of  # noqa: F401

EULER_20 = [14.6, 10.7, 8.08, 6.2, 4.86, 3.9, 3.1, 2.5]


def phases(levels):
    beginning = Beginning()
    return [beginning.at(torch.full((2,), level)) for level in levels], beginning.evaluations


def test_it_ends_at_a_share_of_the_first_noise_level():
    found, count = phases(EULER_20)
    assert found == ["measured"] * 4 + ["over"] * 4
    assert count == 4


def test_many_small_steps_cost_no_more_than_a_few_large_ones():
    found, count = phases(np.exp(np.linspace(np.log(14.6), np.log(0.03), 300)))
    assert found[:2] == ["measured", "held"]
    assert count <= 7
    assert "held" not in found[found.index("over") :]


def test_a_noise_level_that_rises_again_does_not_begin_anew():
    found, _ = phases([14.6, 5.0, 14.6, 14.0])
    assert found == ["measured", "over", "over", "over"]


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
    return Monitor(region, Settings("detect", 100.0), RULES["none"](), GUIDANCE, negative=negative)


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
    monkeypatch.setattr(Beginning, "SPACING", 0.7)
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
    monitor = Monitor(region, Settings("detect"), RULES["none"](), GUIDANCE, rows, negative=True)
    asked = []

    def evaluate(x, sigma, text):
        asked.append(text)
        return torch.zeros_like(x)

    for sigma, cond, uncond in evaluations([0.02, 0.02]):
        monitor.evaluated(cond, sigma, cond, uncond, cond, evaluate)
    assert 1 <= len(asked) <= 7
    assert all(torch.equal(text, rows.empty.expand(2, -1, -1)) for text in asked)


def test_a_flagged_path_begins_anew_when_the_beginning_is_over(region):  # noqa: F811
    """What was walked against no prompt is not held against paths with a negative one."""
    monitor = Monitor(region, Settings("suppress"), RULES["windows"](), GUIDANCE, rows_of(1)[1], negative=True)
    answers, _ = play(monitor, [0.3])
    assert monitor.reports(1)[0].verdict == "suppressed"
    assert any(not torch.equal(eps, answer) for eps, answer in answers)
    begun = float(monitor.rule._path._unit)
    over = [level for level in SIGMAS if level < 0.4 * SIGMAS[0]]
    assert begun == pytest.approx(over[0] - over[-1], rel=1e-4)
