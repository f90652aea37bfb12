"""The rules that the one that ships was held against."""

import pytest
import torch

from lib_memstab.core.suppression import Rule, end_swapped
from lib_memstab.lab.rules import RULES, EndSwap, EndSwapAway, Expel
from tests.core.flagged import SHAPE, evaluation, flags, random_predictions, text_rows
from tests.core.looking import Prompts, sample, watched


@pytest.fixture
def predictions():
    return random_predictions()


@pytest.mark.parametrize("name", sorted(set(RULES) - {Rule.name}))
def test_a_rule_moves_the_flagged_image_and_leaves_the_others_bit_identical(name):
    prompts = Prompts([0.3, 6.0, 0.25], [False, True, False])
    plain = sample(prompts, lambda x, sigma, cond, uncond, eps: eps)
    watching, latents = watched(prompts, mode="suppress", rule=RULES[name])
    reports = watching.reports(3)
    assert [one.verdict for one in reports] == ["clear", "suppressed", "clear"]
    assert [one.rule for one in reports] == [name] * 3
    assert torch.equal(latents[[0, 2]], plain[[0, 2]])
    assert not torch.equal(latents[1], plain[1])


def test_a_swap_is_as_firm_as_it_is_told(predictions):
    text, rows = text_rows()
    rule = EndSwap(0.4)
    assert torch.equal(rule.condition(text, rows), text)
    found = evaluation(predictions)
    answer = rule.guide(found, flags())
    torch.testing.assert_close(answer, 0.6 * found.eps + 0.4 * found.eps_uncond)
    torch.testing.assert_close(rule.condition(text, rows), 0.6 * text + 0.4 * end_swapped(text, rows))


def test_at_a_clear_flag_there_is_no_guidance(predictions):
    answer = EndSwapAway().guide(evaluation(predictions), flags())
    torch.testing.assert_close(answer, predictions[1])


def test_later_guidance_has_nothing_left_that_points_to_the_recalled_picture(predictions):
    rule, sigma = EndSwapAway(), 5.0
    rule.guide(evaluation(predictions, sigma), flags())
    recalled = predictions[0] - sigma * predictions[2]
    later = (torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE))
    answer = rule.guide(evaluation(later, 2.0), flags(before=True))
    toward = recalled - (later[0] - 2.0 * later[1])
    push = -2.0 * (answer - later[1])
    assert ((push * toward).flatten(1).sum(1) / toward.flatten(1).norm(dim=1)).max() < 1e-3
    assert push.abs().max() > 0.1


def test_guidance_that_points_elsewhere_is_kept(predictions):
    rule = EndSwapAway()
    rule.guide(evaluation(predictions), flags())
    recalled = predictions[0] - 5.0 * predictions[2]
    x, uncond = torch.randn(SHAPE), torch.randn(SHAPE)
    cond = uncond + (recalled - (x - 2.0 * uncond)) * 0.1  # an eps that pushes x0 away from the recalled picture
    turned = evaluation((x, uncond, cond), 2.0)
    answer = rule.guide(turned, flags(before=True))
    torch.testing.assert_close(answer, turned.eps, rtol=1e-4, atol=1e-4)


def test_nothing_of_the_recalled_picture_is_left_in_the_prediction(predictions):
    rule, sigma = Expel(), 5.0
    rule.guide(evaluation(predictions, sigma), flags())
    recalled = predictions[0] - sigma * predictions[2]
    recalled = recalled - recalled.mean(dim=(2, 3), keepdim=True)
    begun = (recalled + torch.randn(SHAPE), torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE))
    later = evaluation(begun, 2.0)
    x0 = later.x - 2.0 * rule.guide(later, flags(before=True))
    before = later.x - 2.0 * EndSwapAway().guide(later, flags())
    along = [(part * recalled).flatten(1).sum(1) / (recalled**2).flatten(1).sum(1) for part in (before, x0)]
    assert along[0].min() > 0.5
    assert along[1].abs().max() < 1e-4


def test_a_prediction_unlike_the_recalled_picture_is_left_alone(predictions):
    rule, plain = Expel(), EndSwapAway()
    for one in (rule, plain):
        one.guide(evaluation(predictions), flags())
    recalled = predictions[0] - 5.0 * predictions[2]
    other = evaluation((-recalled, torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE)), 2.0)
    answers = [one.guide(other, flags(before=True)) for one in (rule, plain)]
    torch.testing.assert_close(answers[0], answers[1])
