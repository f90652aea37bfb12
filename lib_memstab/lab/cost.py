"""What the method costs: its time per evaluation beside an SD-1.5-sized UNet's, and its waits for the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import GRID, Band, Conditions, Region
from lib_memstab.core.suppression import DEFAULT_RULE, RULES, TextRows

SIZES = ((1, 64), (8, 128))
WAITING = frozenset(
    {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim"}
)
"""Operations that make the host wait: reading a value, or a size that depends on values."""


class HostWaits(TorchDispatchMode):
    """Counts, while entered, operations of `WAITING` and copies from a device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        down = name in ("_to_copy", "copy_") and isinstance(result, Tensor) and result.device.type == "cpu"
        came = next((value.device.type for value in args[::-1] if isinstance(value, Tensor)), "cpu")
        self.count += name in WAITING or (down and came != "cpu")
        return result


def _median_seconds(work: Callable[[], Any], rounds: int, device: torch.device) -> float:
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _region() -> Region:
    """Numbers of a plausible region; its values do not change the time."""
    return Region(GRID, (Band(Conditions(), np.zeros(len(GRID)), np.full(len(GRID), 0.02)),), np.linspace(0.5, 3.0, 64))


@torch.no_grad()
def measure_cost(device: torch.device, rounds: int = 15) -> list[dict[str, Any]]:
    """One row per latent size: seconds of the monitor's hooks and of one UNet evaluation (random weights), and waits.

    The UNet evaluates the conditional and the unconditional rows, as a host does, in bfloat16.
    """
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8).to(device, torch.bfloat16).eval()
    rows = []
    for count, side in SIZES:
        x, cond, uncond = torch.randn(3, count, 4, side, side, device=device).unbind(0)
        text, sigma = torch.randn(count, 77, 768, device=device), torch.full((count,), 5.0, device=device)
        words = TextRows(
            torch.zeros(1, 77, 768, device=device),
            torch.zeros(count, 77, dtype=torch.bool, device=device),
            halves=text,
            glimpses=text,
        )
        monitor = Monitor(_region(), Settings(), RULES[DEFAULT_RULE](1.0), 7.5, words)

        def hooks(
            monitor: Monitor = monitor,
            x: Tensor = x,
            text: Tensor = text,
            sigma: Tensor = sigma,
            cond: Tensor = cond,
            uncond: Tensor = uncond,
        ) -> None:
            monitor.condition(text)
            monitor.evaluated(x, sigma, cond, uncond, cond)

        hooks()
        with HostWaits() as waits:
            hooks()
        both = torch.randn(2 * count, 4, side, side, device=device, dtype=torch.bfloat16)
        context = torch.randn(2 * count, 77, 768, device=device, dtype=torch.bfloat16)
        predict = partial(unet, both, 500, context)
        evaluation = _median_seconds(predict, 1 if device.type == "cpu" else rounds, device)
        rows.append(
            {
                "latents": f"{count}x4x{side}x{side}",
                "device": str(device),
                "hooks_seconds": _median_seconds(hooks, rounds, device),
                "unet_seconds": evaluation,
                "host_waits": waits.count,
            }
        )
    return rows
