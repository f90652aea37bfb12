"""Telling copies: the built-in comparison, a copy-detection network from a file, and how both are held to the truth."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib_memstab.evidence.descriptors import DescriptorError, SscdDescriptor, TileDescriptor


def scene(seed, side=128):
    """A picture with something everywhere: smooth noise."""
    rough = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 8, 8)))
    smooth = nn.functional.interpolate(rough, (side, side), mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).numpy()


def likeness(one, other, descriptor=None):
    descriptor = descriptor or TileDescriptor()
    return float(descriptor.similarity(descriptor.describe(one), descriptor.describe(other))[0, 0])


def test_a_picture_is_like_itself_and_not_like_another():
    descriptor = TileDescriptor()
    first = np.concatenate([scene(seed) for seed in range(6)])
    table = descriptor.similarity(descriptor.describe(first), descriptor.describe(first))
    assert np.diag(table) == pytest.approx(np.ones(6), abs=1e-5)
    assert (table[~np.eye(6, dtype=bool)] < descriptor.threshold).all()
    assert table == pytest.approx(table.T, abs=1e-6)


def test_noise_contrast_and_size_do_not_hide_a_copy():
    original = scene(1, 256)
    noisy = original + np.random.default_rng(2).normal(0, 12, original.shape)
    pale = original * 0.5 + 90
    for copy in (noisy, pale, scene(1, 256)[:, ::2, ::2]):
        assert likeness(original, np.clip(copy, 0, 255).astype(np.uint8)) > 0.9


def test_a_template_is_a_copy_although_its_middle_differs():
    first, second = scene(1), scene(1)
    second[:, 32:96, 32:96] = scene(2)[:, 32:96, 32:96]
    assert likeness(first, second) > 0.9
    mostly = scene(1)
    mostly[:, :, 32:] = scene(3)[:, :, 32:]
    assert likeness(first, mostly) < TileDescriptor.threshold


def test_a_shared_ground_is_no_likeness_and_a_small_copy_on_it_is():
    first, second, third = (np.full((1, 128, 128, 3), 250, np.uint8) for _ in range(3))
    first[:, 8:56, 8:56], second[:, 8:56, 8:56] = scene(1)[:, 8:56, 8:56], scene(1)[:, 8:56, 8:56]
    third[:, 24:88, 40:104] = scene(4)[:, 24:88, 40:104]
    assert likeness(first, second) == pytest.approx(1, abs=1e-5)
    assert likeness(first, third) < TileDescriptor.threshold
    black = np.zeros((1, 64, 64, 3), np.uint8)
    assert likeness(black, black) == 0


def test_without_pictures_there_is_nothing_to_compare():
    descriptor = TileDescriptor()
    nothing = descriptor.describe(np.zeros((0, 8, 8, 3), np.uint8))
    assert descriptor.similarity(nothing, descriptor.describe(scene(1))).shape == (0, 1)


class Network(nn.Module):
    """A small stand-in for SSCD's network: mean colours of 4 by 4 places, of the input as it comes."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[1:] == (3, 320, 320)
        return nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1)


class Wrong(nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures


class Broken(nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((2, 3)) / 0


def saved(tmp_path, module):
    path = tmp_path / "sscd.torchscript.pt"
    torch.jit.script(module).save(str(path))
    return path


def test_a_network_is_fed_as_sscd_is_and_compared_by_its_cosine(tmp_path):
    descriptor = SscdDescriptor(saved(tmp_path, Network()))
    assert descriptor.threshold == 0.5
    white = descriptor.describe(np.full((1, 32, 48, 3), 255, np.uint8)).astype(float)
    expected = np.repeat([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], 16)
    assert white[0] == pytest.approx(expected / np.linalg.norm(expected), abs=2e-3)
    assert likeness(scene(1), scene(1), descriptor) == pytest.approx(1)
    black, snow = (np.full((1, 32, 48, 3), value, np.uint8) for value in (0, 255))
    assert likeness(black, snow, descriptor) < -0.9


def test_two_files_have_two_names(tmp_path):
    one = SscdDescriptor(saved(tmp_path, Network())).name
    assert one != SscdDescriptor(saved(tmp_path, nn.Sequential(Network()))).name
    assert "sha256" in one


@pytest.mark.parametrize("module", [Wrong(), Broken()])
def test_a_module_that_gives_no_embedding_is_refused(tmp_path, module):
    with pytest.raises(DescriptorError, match="give an SSCD file"):
        SscdDescriptor(saved(tmp_path, module))


@pytest.mark.parametrize("content", [b"", b"no module", b"PK\x03\x04 neither"])
def test_a_file_that_is_no_module_is_refused_with_what_to_give(tmp_path, content):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(DescriptorError, match="give SSCD's own"):
        SscdDescriptor(path)
    with pytest.raises(DescriptorError, match="give SSCD's own"):
        SscdDescriptor(tmp_path / "nothing.pt")


def test_the_command_holds_the_comparison_to_the_ground_truth(shell):
    code, told, _ = shell("similarity", "--split", "tuning", "--limit", 1, "--seeds", 2, "--steps", 12, "--json")
    rows = json.loads(told)
    assert {(row["comparison"], row["question"], row["kind"]) for row in rows} >= {
        (TileDescriptor.name, question, kind)
        for question in ("copy of this training picture", "two copies of one picture")
        for kind in ("verbatim", "template")
    }
    own = [row for row in rows if row["comparison"] == TileDescriptor.name]
    assert sum(row["copies"] for row in own) > 0
    assert all((row["auc"] or 1) > 0.99 and row["precision"] > 0.9 for row in own if row["copies"])
    assert any(row["auc"] for row in own)
    assert code == 0


def test_the_command_refuses_what_cannot_be_followed(shell, tmp_path):
    assert shell("similarity", "--seeds", 1)[0] == 2
    code, _, complaint = shell("similarity", "--sscd", tmp_path / "nothing.pt")
    assert code == 2
    assert "give SSCD's own" in complaint
