"""What the method costs: its time beside that of UNets of real size, and its waits for the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import GRID, Band, Conditions, Likeness, Region
from lib_memstab.core.report import Verdict
from lib_memstab.core.suppression import TextRows, Windows

STEPS = 20

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


@dataclass(frozen=True)
class Denoiser:
    """A UNet of real size with random weights: how it is built, the width of its text, and what it is asked for.

    `batches`: images at once; `side`: of their latents.
    """

    name: str
    build: Callable[[], UNet2DConditionModel]
    text_width: int
    side: int
    batches: tuple[int, ...]


def _sd15() -> UNet2DConditionModel:
    return UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)


def _sdxl() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


DENOISERS = (
    Denoiser("SD 1.5, 512x512", _sd15, 768, 64, (1, 8)),
    Denoiser("SDXL, 1024x1024", _sdxl, 2048, 128, (1,)),
)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _region(centre: float) -> Region:
    """A region that every path is inside of, or outside; its other values do not change the time."""
    count = len(GRID)
    band = Band(Conditions(), np.full(count, centre), np.full(count, 0.02), 64, Likeness(0.0, 0.1))
    return Region(GRID, (band,), np.linspace(0.5, 3.0, 64))


REGIONS: dict[Verdict, Region] = {"clear": _region(9.0), "suppressed": _region(-9.0)}


class _Batch:
    """Some images in the middle of sampling: what a host evaluates and hands on, in the device's usual precision."""

    def __init__(self, denoiser: Denoiser, unet: UNet2DConditionModel, count: int) -> None:
        device, side = unet.device, denoiser.side
        self._unet, self.count = unet, count
        self._x = torch.randn(count, 4, side, side, device=device)
        self._text = torch.randn(count, 77, denoiser.text_width, device=device)
        self._empty = torch.randn(1, 77, denoiser.text_width, device=device)
        words = torch.ones(count, 77, dtype=torch.bool, device=device)
        self._rows = TextRows(self._empty, words, halves=self._text, glimpses=self._text)
        added = {"text_embeds": self._empty.new_zeros(2 * count, 1280), "time_ids": self._empty.new_zeros(2 * count, 6)}
        self._added = added if unet.config.addition_embed_type else None
        self._sigmas = torch.linspace(14.6, 0.03, STEPS, device=device)

    def monitor(self, verdict: Verdict) -> Monitor:
        """What watches these images, so that they get this verdict."""
        return Monitor(REGIONS[verdict], Settings(), Windows(), 7.5, self._rows)

    def evaluate(self, text: Tensor) -> Tensor:
        """One evaluation of the UNet with the prompt and without, [2 B, C, h, w]."""
        context = torch.cat([text, self._empty.expand(self.count, -1, -1)]).to(self._unet.dtype)
        both = torch.cat([self._x, self._x]).to(self._unet.dtype)
        predicted: Tensor = self._unet(both, 500, context, added_cond_kwargs=self._added).sample
        return predicted.float()

    def hooks(self, monitor: Monitor, step: int, both: Tensor | None = None) -> Tensor:
        """The monitor's two hooks around one evaluation; without a UNet's predictions, around made-up ones."""
        text = monitor.condition(self._text)
        eps_cond, eps_uncond = (self.evaluate(text) if both is None else both).chunk(2)
        eps = eps_uncond + 7.5 * (eps_cond - eps_uncond)
        sigma = self._sigmas[step].expand(self.count)
        return monitor.evaluated(self._x, sigma, eps_cond, eps_uncond, eps, lambda x, sigma, text: x)

    def sample(self, verdict: Verdict | None, steps: int) -> None:
        """So many evaluations, each read back for values that are no numbers as the WebUI does; None: unwatched."""
        monitor = None if verdict is None else self.monitor(verdict)
        for step in range(steps):
            if monitor is None:
                eps_cond, eps_uncond = self.evaluate(self._text).chunk(2)
                eps = eps_uncond + 7.5 * (eps_cond - eps_uncond)
            else:
                eps = self.hooks(monitor, step)
            if bool(eps.isnan().all()):
                raise RuntimeError("the UNet predicts no numbers")
        if monitor is not None:
            found = {report.verdict for report in monitor.reports(self.count)}
            if found != {verdict}:
                raise RuntimeError(f"the images are {found}, where they should be {verdict}")


@torch.no_grad()
def measure_cost(device: torch.device, rounds: int = 3) -> list[dict[str, Any]]:
    """One row for each UNet and batch: seconds of sampling without MemStab, and with it by what it finds; waits.

    A round samples each way in turn, and medians of the rounds are told; `hooks` is of the monitor's hooks alone, for
    an evaluation of images that are clear. In bfloat16; both rows of guidance in one evaluation. On a CPU a UNet's
    evaluations take so long, and so unevenly, that only two are sampled, of the smallest and without MemStab.
    """
    if device.type == "cpu":
        return _of(DENOISERS[0], device, DENOISERS[0].batches[:1], 2, 1)
    return [row for one in DENOISERS for row in _of(one, device, one.batches, STEPS, rounds)]


def _of(
    denoiser: Denoiser, device: torch.device, batches: Sequence[int], steps: int, rounds: int
) -> list[dict[str, Any]]:
    """One UNet's rows; it is gone afterwards, so that the next one has the device's memory."""
    with device:
        unet = denoiser.build().to(torch.bfloat16).eval()
    return [_measured(_Batch(denoiser, unet, count), denoiser, device, steps, rounds) for count in batches]


def _measured(batch: _Batch, denoiser: Denoiser, device: torch.device, steps: int, rounds: int) -> dict[str, Any]:
    ways: tuple[Verdict | None, ...] = (None,) if device.type == "cpu" else (None, "clear", "suppressed")
    batch.sample("suppressed", 2)
    times = [[_seconds(partial(batch.sample, way, steps), device) for way in ways] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    seconds: dict[str, float] = {str(way or "without"): median for way, median in zip(ways, medians, strict=True)}
    both = torch.randn(2 * batch.count, 4, denoiser.side, denoiser.side, device=device)
    watching = batch.monitor("clear")
    batch.hooks(watching, 0, both)
    with HostWaits() as waits:
        batch.hooks(watching, 1, both)
    alone = [_seconds(partial(batch.hooks, watching, 2, both), device) for _ in range(rounds * STEPS)]
    return {
        "model": denoiser.name,
        "images": batch.count,
        "device": "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "evaluations": steps,
        **seconds,
        "hooks": statistics.median(alone),
        "host_waits": waits.count,
    }
