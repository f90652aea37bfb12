"""How the rule that ships steers: what it does to a flagged image's text, and in which direction it goes on."""

import dataclasses

import pytest
import torch

from lib_memstab.core.suppression import Windows, end_swapped
from tests.core.flagged import SHAPE, evaluation, flags, random_predictions, text_rows


@pytest.fixture
def predictions():
    return random_predictions()


def test_a_swap_takes_the_end_of_the_empty_prompt_and_leaves_the_words():
    text, rows = text_rows()
    swapped = end_swapped(text, rows)
    assert torch.equal(swapped[:, :3], text[:, :3])
    assert torch.equal(swapped[:, 3:], rows.empty[:, 3:].expand(SHAPE[0], -1, -1))


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
    rule.guide(evaluation(predictions), flags())
    for sigma in (4.0, 3.0, 2.0):
        torch.testing.assert_close(rule.condition(text, rows), rows.halves)
        rule.guide(evaluation(QUIET, sigma), flags(before=True))


def test_a_prompt_whose_pieces_recall_the_picture_is_read_in_glimpses_from_then_on(predictions, read_rows):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags())
    for later in (leading(predictions, 1), QUIET):
        rule.guide(evaluation(later, 4.0), flags(before=True))
        read = rule.condition(text, rows)
        torch.testing.assert_close(read[1], rows.glimpses[1])
        torch.testing.assert_close(read[[0, 2, 3]], rows.halves[[0, 2, 3]])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_where_pieces_lead_to_the_picture_for_the_first_time_there_is_no_guidance(predictions, strength):
    rule, later = Windows(strength), evaluation(leading(predictions, 1), 4.0)
    rule.guide(evaluation(predictions), flags())
    unguided = later.eps.clone()
    unguided[1] = torch.lerp(later.eps[1], later.eps_uncond[1], strength)
    assert (unguided[1] - later.eps[1]).mean(dim=(1, 2)).abs().min() > 0.1
    for expected in (unguided, later.eps):
        # What is taken out for its likeness to the picture leaves the channels' means.
        found = rule.guide(later, flags(before=True))
        torch.testing.assert_close(found.mean(dim=(2, 3)), expected.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("share", "recalls"), [(Windows.LED - 0.01, False), (Windows.LED + 0.01, True), (-1.0, False)])
def test_pieces_that_pull_hard_at_another_picture_do_not_recall_it(predictions, read_rows, share, recalls):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags())
    x, uncond, cond = leading(predictions, 0, share=-3.0)
    cond[1] = leading(predictions, 1, share)[2][1]
    later = evaluation((x, uncond, cond), 4.0)
    assert later.measured.update_norm()[:2].min() > 2
    rule.guide(later, flags(before=True))
    read = rule.condition(text, rows)
    torch.testing.assert_close(read[1], rows.glimpses[1] if recalls else rows.halves[1])
    torch.testing.assert_close(read[[0, 2, 3]], rows.halves[[0, 2, 3]])


def test_a_path_that_comes_far_out_since_its_first_evaluation_is_read_in_glimpses_wherever_it_leads(
    predictions, read_rows
):
    text, rows = read_rows
    rule, found = Windows(), flags(before=True)
    rule.guide(evaluation(predictions), flags())
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
    rule, found = Windows(), flags(before=True)
    rule.guide(evaluation(predictions), flags())
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
    rule, found = Windows(), flags(before=True)
    led = evaluation(leading(predictions, slice(None)), 4.0)
    excess = led.measured.update_norm().log() / found.deviation
    held = dataclasses.replace(found, comes_back=excess + torch.tensor([-0.1, 0.1, -0.1, 0.1]))
    rule.guide(evaluation(predictions), flags())
    rule.guide(led, held)
    read = rule.condition(text, rows)
    torch.testing.assert_close(read[[0, 2]], rows.glimpses[[0, 2]])
    torch.testing.assert_close(read[[1, 3]], rows.halves[[1, 3]])


def test_without_pieces_of_the_prompt_its_end_is_swapped(predictions):
    text, rows = text_rows()
    rule = Windows(0.5)
    rule.guide(evaluation(predictions), flags())
    torch.testing.assert_close(rule.condition(text, rows), (text + end_swapped(text, rows)) / 2)


def test_without_pieces_of_the_prompt_one_that_recalls_the_picture_again_is_empty_from_then_on(predictions):
    text, rows = text_rows()
    rule = Windows()
    rule.guide(evaluation(predictions), flags())
    for later in (leading(predictions, 1), QUIET):
        rule.guide(evaluation(later, 4.0), flags(before=True))
        read = rule.condition(text, rows)
        assert torch.equal(read[1], rows.empty[0])
        swapped = end_swapped(text, rows)
        torch.testing.assert_close(read[[0, 2, 3]], swapped[[0, 2, 3]])


def test_text_rows_of_and_parts_follow_their_image(predictions, read_rows):
    text, rows = read_rows
    rule = Windows()
    rule.guide(evaluation(predictions), flags())
    rule.guide(evaluation(leading(predictions, 1), 4.0), flags(before=True))
    read = rule.condition(text, dataclasses.replace(rows, owner=torch.tensor([0, 1, 1, 3])))
    torch.testing.assert_close(read[1:3], rows.glimpses[1:3])
    torch.testing.assert_close(read[[0, 3]], rows.halves[[0, 3]])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_prediction_is_like_the_recalled_picture_no_more_than_is_kept(predictions, strength):
    rule, sigma = Windows(strength), 5.0
    rule.guide(evaluation(predictions, sigma), flags())
    recalled = predictions[0] - sigma * predictions[2]
    begun = (recalled + 3 * torch.randn(SHAPE), torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE))
    later = evaluation(begun, 2.0)
    x0 = later.x - 2.0 * rule.guide(later, flags(before=True))
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
    rule.guide(evaluation(predictions), flags())
    recalled = predictions[0] - 5.0 * predictions[2]
    later = evaluation((-recalled, torch.zeros(SHAPE), 0.01 * torch.randn(SHAPE)), 2.0)
    torch.testing.assert_close(rule.guide(later, flags(before=True)), later.eps)


def likeness(one, other):
    one, other = (latent - latent.mean(dim=(2, 3), keepdim=True) for latent in (one, other))
    return torch.cosine_similarity(one.flatten(1), other.flatten(1))
