"""Which text rows are the user's words."""

import pytest
import torch

from lib_memstab.core.windows import GLIMPSES, HALVES, read
from lib_memstab.host.port import HostError, Schedule
from lib_memstab.host.texts import PassTexts
from tests.host.standin import TOKENS


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


def test_rows_before_the_first_chunk_stay_as_controlnet_put_them(bare):
    prompts = ["some words", "word " * 80]
    plain, marked = torch.randn(2, 2 * TOKENS, 4), torch.full((2, 1, 4), -300.0)
    owner = torch.tensor([0, 1])
    without = PassTexts(bare.host, prompts, 20, None).rows(0, plain, owner)
    rows = PassTexts(bare.host, prompts, 20, None).rows(0, torch.cat([marked, plain], 1), owner)
    assert rows.words[:, 0].all()
    assert torch.equal(rows.words[:, 1:], without.words)
    assert torch.equal(rows.empty, torch.cat([marked[:1], without.empty], 1))
    assert torch.equal(rows.halves, torch.cat([marked, without.halves], 1))
    assert torch.equal(rows.glimpses, torch.cat([marked, without.glimpses], 1))


def test_other_texts_than_the_prompts_are_refused(bare):
    texts = PassTexts(bare.host, ["one"], 20, None)
    with pytest.raises(HostError, match="2 texts where the prompts have 1"):
        texts.rows(0, torch.zeros(2, TOKENS, 4), torch.tensor([0, 0]))
    with pytest.raises(HostError, match="does not fit"):
        texts.rows(0, torch.zeros(1, TOKENS, 9), torch.tensor([0]))
    with pytest.raises(HostError, match="does not fit"):
        texts.rows(0, torch.zeros(1, TOKENS - 1, 4), torch.tensor([0]))


def test_prompts_are_read_in_windows_chunk_by_chunk(bare):
    prompts = ["word " * 80, "short one"]
    texts = PassTexts(bare.host, prompts, 20, None)
    text = torch.zeros(2, 2 * TOKENS, 4)
    rows = texts.rows(0, text, torch.tensor([0, 1]))
    encode = bare.host.encoder("")
    for index, prompt in enumerate(prompts):
        for number, chunk in enumerate(bare.host.chunks(prompt)):
            halves, glimpses = read(chunk, bare.host.chunks("")[0], encode, (HALVES, GLIMPSES))
            own = slice(number * TOKENS, (number + 1) * TOKENS)
            assert torch.equal(rows.halves[index, own], halves)
            assert torch.equal(rows.glimpses[index, own], glimpses)
    assert torch.equal(rows.halves[1, TOKENS:], rows.empty[0, TOKENS:])


def test_a_text_whose_pieces_cannot_be_encoded_has_its_end_swapped_and_then_is_the_empty_one(bare, monkeypatch):
    encode = bare.host.encoder("")
    monkeypatch.setattr(bare.host, "encoder", lambda text: None if text == "whole" else encode)
    text = torch.randn(2, TOKENS, 4)
    rows = PassTexts(bare.host, ["whole", "in pieces"], 20, None).rows(0, text, torch.tensor([0, 1]))
    assert torch.equal(rows.halves[0, :2], text[0, :2])
    torch.testing.assert_close(rows.halves[0, 2:], rows.empty[0, 2:])
    assert torch.equal(rows.glimpses[0], rows.empty[0])
    assert not torch.equal(rows.halves[1, 1:3], text[1, 1:3])
