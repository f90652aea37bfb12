"""A batch of flagged images of random predictions, and what a rule is told of them."""

import torch

from lib_memstab.core.evaluation import Evaluation
from lib_memstab.core.measurement import measure
from lib_memstab.core.suppression import Flags, TextRows

SHAPE = (4, 4, 8, 8)
THRESHOLD = 3.0


def random_predictions():
    """x, and predictions without the prompt and with it."""
    torch.manual_seed(0)
    return torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE)


def evaluation(predictions, sigma=5.0, guidance=7.5):
    x, uncond, cond = predictions
    eps = uncond + guidance * (cond - uncond)
    level = torch.full((SHAPE[0],), sigma)
    return Evaluation(x, level, cond, uncond, eps, guidance, None, None, measure(level, cond, uncond))


def flags(before=False):
    count = SHAPE[0]
    return Flags(
        flagged=torch.ones(count, dtype=torch.bool),
        before=torch.full((count,), before),
        excess=torch.full((count,), 3 * THRESHOLD),
        length=torch.ones(count),
        centre=torch.ones(count),
        deviation=torch.full((count,), 0.02),
        anew=torch.full((count,), 0.02),
        threshold=THRESHOLD,
        comes_back=torch.full((count,), THRESHOLD),
    )


def text_rows():
    torch.manual_seed(1)
    words = torch.arange(6)[None] < torch.full((SHAPE[0], 1), 3)
    return torch.randn(SHAPE[0], 6, 5), TextRows(torch.randn(1, 6, 5), words)
