"""Which text rows are the user's words."""

import pytest
import torch

from lib_memstab.host.port import HostError, Schedule
from lib_memstab.host.texts import PassTexts, word_mask
from tests.host.standin import BEGIN, END, TOKENS


def test_words_and_begin_marks_are_told_from_ends_and_padding():
    assert word_mask([[BEGIN, 7, 8, END, END], [BEGIN, 9, END, END, END]], END) == [True] * 3 + [False] * 2 + [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_schedule_holds_until_its_step_and_begins_anew_behind_its_end():
    schedule = Schedule((5, 20), ("first", "second"))
    assert [schedule.at(step) for step in (0, 5, 6, 20, 21)] == [0, 0, 1, 1, 0]


def test_masks_follow_prompt_editing_and_parts(bare):
    texts = PassTexts(bare.host, ["[one:two words here:0.5]", "a AND b c :0.5"], 20, None)
    text, owner = torch.zeros(3, TOKENS, 4), torch.tensor([0, 1, 1])
    assert texts.rows(0, text, owner).words.sum(1).tolist() == [2, 2, 3]
    late = texts.rows(15, text, owner)
    assert late.words.sum(1).tolist() == [4, 2, 3]
    assert late.owner is owner


def test_the_empty_prompt_is_repeated_for_prompts_of_several_chunks(bare):
    texts = PassTexts(bare.host, ["word " * 90, "short"], 20, None)
    rows = texts.rows(0, torch.zeros(2, 2 * TOKENS, 4), torch.tensor([0, 1]))
    assert rows.empty.shape == (1, 2 * TOKENS, 4)
    assert rows.words.sum(1).tolist() == [76 + 16, 2]


def test_other_texts_than_the_prompts_are_refused(bare):
    texts = PassTexts(bare.host, ["one"], 20, None)
    with pytest.raises(HostError, match="2 texts where the prompts have 1"):
        texts.rows(0, torch.zeros(2, TOKENS, 4), torch.tensor([0, 0]))
    with pytest.raises(HostError, match="does not fit"):
        texts.rows(0, torch.zeros(1, TOKENS, 9), torch.tensor([0]))
