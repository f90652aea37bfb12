"""Procedural scenes, and the caption checker that reads them."""

import numpy as np
import pytest
import torch

pytest.importorskip("safetensors")

from lib_memstab.lab import scenes
from lib_memstab.lab.checker import CELLS, CaptionChecker, all_claims, checker_loss
from lib_memstab.lab.scenes import COLORS, OUTLINES, RGB, column, draw_scenes, object_maps, render


@pytest.fixture(scope="module")
def batch():
    return draw_scenes(64, np.random.default_rng(3))


def test_a_scene_is_drawn_the_same_every_time_and_alone(batch):
    pictures = render(batch)
    assert pictures.shape == (64, 3, 128, 128)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    torch.testing.assert_close(render(batch.rows(slice(5, 6))), pictures[5:6])


def test_object_maps_show_where_which_colour_is(batch):
    color, outline = object_maps(batch, CELLS)
    small = torch.nn.functional.avg_pool2d(render(batch), 8)
    nothing = color == len(COLORS)
    assert torch.equal(nothing, outline == len(OUTLINES))
    assert nothing.flatten(1).any(dim=1).all()
    assert (~nothing).flatten(1).any(dim=1).all()
    gap = (small[:, None] - torch.tensor(RGB)[None, :, :, None, None]).square().sum(dim=2).sqrt()
    named = gap.gather(1, color.clamp(max=len(COLORS) - 1)[:, None])[:, 0]
    assert named[~nothing].median() < 0.15


def test_a_reader_of_the_true_maps_accepts_every_caption_and_no_other(batch, monkeypatch):
    color, outline = object_maps(batch, CELLS)
    checker = CaptionChecker().eval()

    def truth(classes, count):
        return 20.0 * torch.nn.functional.one_hot(classes, count).float()

    read = {
        name: truth(
            torch.from_numpy(column(batch.attributes, name)).clamp(max=head.out_features - 1), head.out_features
        )
        for name, head in checker.heads.items()
    }
    read["color"] = truth(color, len(COLORS) + 1).permute(0, 3, 1, 2)
    read["outline"] = truth(outline, len(OUTLINES) + 1).permute(0, 3, 1, 2)
    monkeypatch.setattr(CaptionChecker, "forward", lambda self, pictures: read)
    claims = all_claims(batch.attributes)
    pictures = render(batch)
    assert checker.fits(pictures, claims).all()
    assert checker.fits(pictures, claims[1:] + claims[:1]).mean() < 0.05
    assert checker.fits(pictures, [{}] * len(claims)).all()
    only_shapes = [{"objects": [[None, shape] for _, shape in claim.get("objects", [])]} for claim in claims]
    assert checker.fits(pictures, only_shapes).all()


def test_the_checker_learns_from_its_loss(batch):
    torch.manual_seed(0)
    checker, few = CaptionChecker(), batch.rows(slice(0, 16))
    pictures, maps = render(few), object_maps(few, CELLS)
    optimizer = torch.optim.AdamW(checker.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = checker_loss(checker(pictures), few, maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_a_checker_comes_back_from_its_file(tmp_path, batch):
    torch.manual_seed(1)
    checker = CaptionChecker().eval()
    checker.save(tmp_path / "checker.safetensors")
    again = CaptionChecker.load(tmp_path / "checker.safetensors")
    pictures = render(batch.rows(slice(0, 4)))
    assert pictures.shape[-1] == scenes.SIZE
    for name, logits in checker(pictures).items():
        torch.testing.assert_close(again(pictures)[name], logits, rtol=0.05, atol=0.05)
