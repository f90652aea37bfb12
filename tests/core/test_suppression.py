"""What the rules do to a flagged image: how firmly, to which rows of its text, and in which direction."""

import dataclasses

import pytest
import torch

from lib_memstab.core.measurement import measure
from lib_memstab.core.suppression import (
    EndSwap,
    EndSwapAway,
    Evaluation,
    Expel,
    Flags,
    TextRows,
    Windows,
    end_swapped,
)

SHAPE = (4, 4, 8, 8)
THRESHOLD = 3.0


@pytest.fixture
def predictions():
    torch.manual_seed(0)
    return torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE)


def evaluation(predictions, sigma=5.0, guidance=7.5):
    x, uncond, cond = predictions
    eps = uncond + guidance * (cond - uncond)
    level = torch.full((SHAPE[0],), sigma)
    return Evaluation(x, level, cond, uncond, eps, guidance, None, None, measure(level, cond, uncond))


def flags(excess, before=False, length=1.0):
    count = len(excess)
    return Flags(
        flagged=torch.ones(count, dtype=torch.bool),
        before=torch.full((count,), before),
        excess=torch.tensor(excess),
        length=torch.full((count,), length),
        centre=torch.ones(count),
        deviation=torch.full((count,), 0.02),
        threshold=THRESHOLD,
        comes_back=torch.full((count,), THRESHOLD),
    )


def text_rows():
    torch.manual_seed(1)
    words = torch.arange(6)[None] < torch.full((SHAPE[0], 1), 3)
    return torch.randn(SHAPE[0], 6, 5), TextRows(torch.randn(1, 6, 5), words)


def test_a_swap_moves_the_end_by_its_share_and_leaves_the_words():
    text, rows = text_rows()
    swapped = end_swapped(text, rows, torch.tensor([0.0, 0.5, 1.0, 1.0]))
    assert torch.equal(swapped[:, :3], text[:, :3])
    assert torch.equal(swapped[0], text[0])
    torch.testing.assert_close(swapped[1, 3:], (text[1, 3:] + rows.empty[0, 3:]) / 2)
    torch.testing.assert_close(swapped[2, 3:], rows.empty[0, 3:])


def test_a_plain_swap_is_as_firm_for_every_flag():
    assert EndSwap(0.4).firmness(flags([3.0, 4.0, 5.0, 50.0])).tolist() == pytest.approx([0.4] * 4)


def test_at_a_clear_flag_there_is_no_guidance(predictions):
    answer = EndSwapAway().guide(evaluation(predictions), flags([9.0] * 4))
    torch.testing.assert_close(answer, predictions[1])


def test_later_guidance_has_nothing_left_that_points_to_the_recalled_picture(predictions):
    rule, sigma = EndSwapAway(), 5.0
    rule.guide(evaluation(predictions, sigma), flags([9.0] * 4))
    recalled = predictions[0] - sigma * predictions[2]
    later = (torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE))
    answer = rule.guide(evaluation(later, 2.0), flags([9.0] * 4, before=True))
    toward = recalled - (later[0] - 2.0 * later[1])
    push = -2.0 * (answer - later[1])
    assert ((push * toward).flatten(1).sum(1) / toward.flatten(1).norm(dim=1)).max() < 1e-3
    assert push.abs().max() > 0.1


def test_guidance_that_points_elsewhere_is_kept(predictions):
    rule = EndSwapAway()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    recalled = predictions[0] - 5.0 * predictions[2]
    x, uncond = torch.randn(SHAPE), torch.randn(SHAPE)
    cond = uncond + (recalled - (x - 2.0 * uncond)) * 0.1  # an eps that pushes x0 away from the recalled picture
    turned = evaluation((x, uncond, cond), 2.0)
    answer = rule.guide(turned, flags([9.0] * 4, before=True))
    torch.testing.assert_close(answer, turned.eps, rtol=1e-4, atol=1e-4)


@pytest.fixture
def read_rows():
    """Text, and rows with its two readings."""
    text, rows = text_rows()
    return text, dataclasses.replace(rows, halves=torch.randn_like(text), glimpses=torch.randn_like(text))


QUIET = (torch.zeros(SHAPE), torch.full(SHAPE, 0.5), torch.full(SHAPE, 0.5001))


def leading(predictions, row, share=1.0, sigma=4.0):
    """Predictions that lead this row so much of the way to the picture recalled at 5, and are quiet in the others."""
    x, uncond, cond = (one.clone() for one in QUIET)
    recalled = predictions[0] - 5.0 * predictions[2]
    cond[row] = uncond[row] - share * (recalled[row] - (x[row] - sigma * uncond[row])) / sigma
    return x, uncond, cond


def test_a_flagged_prompt_is_read_in_halves_while_the_path_stays_inside(predictions, read_rows):
    text, rows = read_rows
    rule = Windows()
    assert torch.equal(rule.condition(text, rows), text)
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    for sigma in (4.0, 3.0, 2.0):
        torch.testing.assert_close(rule.condition(text, rows), rows.halves)
        rule.guide(evaluation(QUIET, sigma), flags([9.0] * 4, before=True))


def test_a_prompt_whose_pieces_recall_the_picture_is_read_in_glimpses_from_then_on(predictions, read_rows):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    for later in (leading(predictions, 1), QUIET):
        rule.guide(evaluation(later, 4.0), flags([9.0] * 4, before=True))
        read = rule.condition(text, rows)
        torch.testing.assert_close(read[1], rows.glimpses[1])
        torch.testing.assert_close(read[[0, 2, 3]], rows.halves[[0, 2, 3]])


@pytest.mark.parametrize(("share", "recalls"), [(Windows.LED - 0.01, False), (Windows.LED + 0.01, True), (-1.0, False)])
def test_pieces_that_pull_hard_at_another_picture_do_not_recall_it(predictions, read_rows, share, recalls):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    x, uncond, cond = leading(predictions, 0, share=-3.0)
    cond[1] = leading(predictions, 1, share)[2][1]
    later = evaluation((x, uncond, cond), 4.0)
    assert later.measured.update_norm()[:2].min() > 2
    rule.guide(later, flags([9.0] * 4, before=True))
    read = rule.condition(text, rows)
    torch.testing.assert_close(read[1], rows.glimpses[1] if recalls else rows.halves[1])
    torch.testing.assert_close(read[[0, 2, 3]], rows.halves[[0, 2, 3]])


def test_a_path_that_comes_far_out_since_its_first_evaluation_is_read_in_glimpses_wherever_it_leads(
    predictions, read_rows
):
    text, rows = read_rows
    rule, found = Windows(), flags([9.0] * 4, before=True)
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    away = evaluation(leading(predictions, slice(0, 2), share=-3.0), 4.0)
    excess = away.measured.update_norm().log() / found.deviation
    # Row 0 goes out from well inside; row 1 was there at its first evaluation.
    rule.guide(away, dataclasses.replace(found, centre=torch.tensor([1e9, 1.0, 1.0, 1.0])))
    for _ in range(2):
        rule.guide(away, dataclasses.replace(found, comes_back=excess - 0.1))
        read = rule.condition(text, rows)
        torch.testing.assert_close(read[0], rows.glimpses[0])
        torch.testing.assert_close(read[1], rows.halves[1])


def test_a_path_that_leaves_the_region_after_its_pieces_led_there_is_read_in_glimpses(predictions, read_rows):
    text, rows = read_rows
    rule, found = Windows(), flags([9.0] * 4, before=True)
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    inside = dataclasses.replace(found, comes_back=torch.full((4,), 1e4))
    rule.guide(evaluation(leading(predictions, 1), 4.0), inside)
    torch.testing.assert_close(rule.condition(text, rows), rows.halves)
    rule.guide(evaluation(leading(predictions, slice(0, 2), share=-3.0), 4.0), found)
    read = rule.condition(text, rows)
    torch.testing.assert_close(read[1], rows.glimpses[1])
    torch.testing.assert_close(read[[0, 2, 3]], rows.halves[[0, 2, 3]])


def test_the_path_of_a_prompt_whose_pieces_recall_the_picture_is_held_against_what_says_that_it_comes_back(
    predictions, read_rows
):
    text, rows = read_rows
    rule, found = Windows(), flags([9.0] * 4, before=True)
    led = evaluation(leading(predictions, slice(None)), 4.0)
    excess = led.measured.update_norm().log() / found.deviation
    held = dataclasses.replace(found, comes_back=excess + torch.tensor([-0.1, 0.1, -0.1, 0.1]))
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    rule.guide(led, held)
    read = rule.condition(text, rows)
    torch.testing.assert_close(read[[0, 2]], rows.glimpses[[0, 2]])
    torch.testing.assert_close(read[[1, 3]], rows.halves[[1, 3]])


def test_without_pieces_of_the_prompt_its_end_is_swapped(predictions):
    text, rows = text_rows()
    rule = Windows(0.5)
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    torch.testing.assert_close(rule.condition(text, rows), end_swapped(text, rows, torch.full((4,), 0.5)))


def test_without_pieces_of_the_prompt_one_that_recalls_the_picture_again_is_empty_from_then_on(predictions):
    text, rows = text_rows()
    rule = Windows()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    for later in (leading(predictions, 1), QUIET):
        rule.guide(evaluation(later, 4.0), flags([9.0] * 4, before=True))
        read = rule.condition(text, rows)
        assert torch.equal(read[1], rows.empty[0])
        swapped = end_swapped(text, rows, torch.ones(4))
        torch.testing.assert_close(read[[0, 2, 3]], swapped[[0, 2, 3]])


def test_text_rows_of_and_parts_follow_their_image(predictions, read_rows):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    rule.guide(evaluation(leading(predictions, 1), 4.0), flags([9.0] * 4, before=True))
    read = rule.condition(text, dataclasses.replace(rows, owner=torch.tensor([0, 1, 1, 3])))
    torch.testing.assert_close(read[1:3], rows.glimpses[1:3])
    torch.testing.assert_close(read[[0, 3]], rows.halves[[0, 3]])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_prediction_is_like_the_recalled_picture_no_more_than_is_kept(predictions, strength):
    rule, sigma = Windows(strength), 5.0
    rule.guide(evaluation(predictions, sigma), flags([9.0] * 4))
    recalled = predictions[0] - sigma * predictions[2]
    begun = (recalled + 3 * torch.randn(SHAPE), torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE))
    later = evaluation(begun, 2.0)
    x0 = later.x - 2.0 * rule.guide(later, flags([9.0] * 4, before=True))
    before, after = (likeness(one, recalled) for one in (later.x - 2.0 * later.eps, x0))
    assert before.min() > 0.5
    if strength == 1:
        torch.testing.assert_close(after, torch.full((4,), Windows.KEPT))
    else:
        assert (after > Windows.KEPT).all()
        assert (after < before).all()
    torch.testing.assert_close(x0.mean(dim=(2, 3)), (later.x - 2.0 * later.eps).mean(dim=(2, 3)))


def test_a_prediction_less_alike_is_left_as_it_is(predictions):
    rule = Windows()
    rule.guide(evaluation(predictions), flags([9.0] * 4))
    recalled = predictions[0] - 5.0 * predictions[2]
    later = evaluation((-recalled, torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE)), 2.0)
    torch.testing.assert_close(rule.guide(later, flags([9.0] * 4, before=True)), later.eps)


def likeness(one, other):
    one, other = (latent - latent.mean(dim=(2, 3), keepdim=True) for latent in (one, other))
    return torch.cosine_similarity(one.flatten(1), other.flatten(1))


def test_nothing_of_the_recalled_picture_is_left_in_the_prediction(predictions):
    rule, sigma = Expel(), 5.0
    rule.guide(evaluation(predictions, sigma), flags([9.0] * 4))
    recalled = predictions[0] - sigma * predictions[2]
    recalled = recalled - recalled.mean(dim=(2, 3), keepdim=True)
    begun = (recalled + torch.randn(SHAPE), torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE))
    later = evaluation(begun, 2.0)
    x0 = later.x - 2.0 * rule.guide(later, flags([9.0] * 4, before=True))
    before = later.x - 2.0 * EndSwapAway().guide(later, flags([9.0] * 4))
    along = [(part * recalled).flatten(1).sum(1) / (recalled**2).flatten(1).sum(1) for part in (before, x0)]
    assert along[0].min() > 0.5
    assert along[1].abs().max() < 1e-4


def test_a_prediction_unlike_the_recalled_picture_is_left_alone(predictions):
    rule, plain = Expel(), EndSwapAway()
    for one in (rule, plain):
        one.guide(evaluation(predictions), flags([9.0] * 4))
    recalled = predictions[0] - 5.0 * predictions[2]
    other = evaluation((-recalled, torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE)), 2.0)
    answers = [one.guide(other, flags([9.0] * 4, before=True)) for one in (rule, plain)]
    torch.testing.assert_close(answers[0], answers[1])
