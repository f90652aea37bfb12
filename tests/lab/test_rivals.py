"""Rival mitigations, on a guidance term whose size is known."""

import pytest
import torch

pytest.importorskip("torchsde")

from lib_memstab.lab.rivals import HeldBack, Mitigation, NoGuidance, Opposite


def run(mitigation, sizes):
    """Guidance [steps] that each evaluation ends up with, for a guidance term of these sizes and a scale of 7."""
    direction, uncond = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)
    used = []
    for size in sizes:
        delta = size * direction
        answer = mitigation.evaluated(uncond, torch.ones(1), uncond + delta, uncond, uncond + 7 * delta, None)
        used.append(round(float(((answer - uncond) / delta).mean()), 4))
    return used


SIZES = [3.0, 2.0, 1.0, 1.5, 0.5, 2.0]


@pytest.mark.parametrize(
    ("mitigation", "guidance"),
    [
        (Mitigation(), [7.0] * 6),
        (NoGuidance(), [0.0] * 6),
        (HeldBack(), [0.0, 0.0, 0.0, 7.0, 7.0, 7.0]),
        (Opposite(), [-1.0, -1.0, -1.0, 7.0, 7.0, 7.0]),
    ],
)
def test_guidance_comes_back_after_the_first_local_minimum(mitigation, guidance):
    assert run(mitigation, SIZES) == guidance
    text = torch.ones(1, 3, 2)
    assert mitigation.condition(text) is text
