"""A sampling host of our own: guided denoising of the lab model with the real k-diffusion samplers.

It offers what a WebUI offers: a hook before each denoiser evaluation (text rows may be replaced), one after it (the
guided prediction may be replaced), and extra evaluations. Names, schedules and noise follow WebUI v1.10.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lib_memstab.lab.kdiffusion import sampling as k_sampling
from lib_memstab.lab.sd1_layout import LabModel


@dataclass(frozen=True)
class Sampler:
    """A sampler as the WebUI names it: k-diffusion function (None: DDIM), schedule, and where its noise comes from.

    `discard`: the schedule is made one step longer, and its last noise level above zero is left out.
    """

    function: str | None
    schedule: str = "default"
    noise: str | None = None
    discard: bool = False


SAMPLERS = {
    "Euler": Sampler("sample_euler"),
    "Euler a": Sampler("sample_euler_ancestral", noise="fresh"),
    "Heun": Sampler("sample_heun"),
    "LMS": Sampler("sample_lms"),
    "DPM2": Sampler("sample_dpm_2", "karras", discard=True),
    "DPM2 a": Sampler("sample_dpm_2_ancestral", "karras", noise="fresh", discard=True),
    "DPM++ 2S a": Sampler("sample_dpmpp_2s_ancestral", "karras", noise="fresh"),
    "DPM++ 2M Karras": Sampler("sample_dpmpp_2m", "karras"),
    "DPM++ SDE": Sampler("sample_dpmpp_sde", "karras", noise="brownian"),
    "DPM++ 3M SDE": Sampler("sample_dpmpp_3m_sde", "exponential", noise="brownian", discard=True),
    "DDIM": Sampler(None),
}


@dataclass(frozen=True)
class Job:
    """What a user asks for: a prompt and a seed per image, one negative prompt or one per image.

    `init` latents [B, 4, h, w] and `strength` are for img2img. `text` features [B, T, D], where given, are sampled in
    place of the prompts' own.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    negative: str | Sequence[str] = ""
    sampler: str = "Euler"
    steps: int = 20
    guidance: float = 7.5
    height: int = 128
    width: int = 128
    init: Tensor | None = None
    strength: float = 0.75
    text: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Watcher(Protocol):
    """What watches a job; see `lib_memstab.core.monitor.Monitor`."""

    def condition(self, text: Tensor) -> Tensor:
        """Text rows [B, T, D] for the coming evaluation."""

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The guided prediction to go on with, in place of `eps` [B, C, H, W]."""


Evaluate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x rows, sigma rows, text rows) -> noise prediction rows: one more evaluation of the denoiser."""


class GuidedDenoiser:
    """Classifier-free guidance over the lab's UNet, called as k-diffusion calls a model: (x, sigma) -> denoised."""

    def __init__(self, model: LabModel, text: Tensor, empty: Tensor, guidance: float, watcher: Watcher | None) -> None:
        self.model, self.text, self.empty = model, text, empty
        self.guidance, self.watcher = guidance, watcher
        alphas = model.alphas_cumprod.double()
        self.log_sigmas = (((1 - alphas) / alphas).log() / 2).float().to(text.device)
        self.evaluations = 0

    @property
    def sigmas(self) -> Tensor:
        """Noise levels of the 1000 training steps, rising."""
        return self.log_sigmas.exp()

    def schedule(self, steps: int, name: str, discard: bool = False) -> Tensor:
        """Falling noise levels [steps + 1] with a final zero; `discard` as a `Sampler` has it."""
        if discard:
            longer = self.schedule(steps + 1, name)
            return torch.cat([longer[:-2], longer[-1:]])
        if name in ("karras", "exponential"):
            low, high = float(self.sigmas[0]), float(self.sigmas[-1])
            make = getattr(k_sampling, f"get_sigmas_{name}")
            return make(steps, low, high, device=self.text.device)
        index = torch.linspace(len(self.log_sigmas) - 1, 0, steps, device=self.text.device)
        return torch.cat([self.sigma_at(index), index.new_zeros(1)])

    def sigma_at(self, index: Tensor) -> Tensor:
        """Noise level at fractional training steps."""
        low = index.floor().long().clamp(max=len(self.log_sigmas) - 1)
        high = index.ceil().long().clamp(max=len(self.log_sigmas) - 1)
        return torch.lerp(self.log_sigmas[low], self.log_sigmas[high], index.frac()).exp()

    def index_at(self, sigma: Tensor) -> Tensor:
        """Fractional training step of each noise level [B]."""
        log_sigma = sigma.log()
        low = (torch.searchsorted(self.log_sigmas, log_sigma.contiguous()) - 1).clamp(0, len(self.log_sigmas) - 2)
        start, end = self.log_sigmas[low], self.log_sigmas[low + 1]
        return low + ((log_sigma - start) / (end - start)).clamp(0, 1)

    def predict(self, x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        """Noise prediction [B, C, h, w] at x = x0 + sigma noise; of a v-prediction (Salimans and Ho 2022) too."""
        self.evaluations += len(x)
        sigma_rows = sigma[:, None, None, None]
        scale = (sigma_rows**2 + 1).sqrt()
        predicted = self.model.unet(x / scale, self.index_at(sigma), encoder_hidden_states=text).sample.to(x.dtype)
        if self.model.config.prediction_type == "epsilon":
            return predicted
        return (predicted + sigma_rows * x / scale) / scale

    def guided(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided noise prediction, as the watcher leaves it."""
        count = len(x)
        text = self.text if self.watcher is None else self.watcher.condition(self.text)
        both = self.predict(torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([text, self.empty]))
        eps_cond, eps_uncond = both[:count], both[count:]
        eps = eps_uncond + self.guidance * (eps_cond - eps_uncond)
        if self.watcher is None:
            return eps
        return self.watcher.evaluated(x, sigma, eps_cond, eps_uncond, eps, self.predict)

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        return x - sigma[:, None, None, None] * self.guided(x, sigma)


@torch.no_grad()
def sample(
    model: LabModel, job: Job, watcher: Watcher | None = None, progress: Callable[[int], None] | None = None
) -> Tensor:
    """Run a job on the model's device; final latents [B, 4, height / 8, width / 8], on the CPU.

    Every image is independent of the rest of its batch.
    """
    device = model.device
    negative = [job.negative] * len(job.prompts) if isinstance(job.negative, str) else list(job.negative)
    text = model.encode_prompts(list(job.prompts)) if job.text is None else job.text.to(device)
    empty = model.encode_prompts(negative)
    denoiser = GuidedDenoiser(model, text, empty, job.guidance, watcher)
    sampler = SAMPLERS[job.sampler]
    generators = [torch.Generator().manual_seed(int(seed)) for seed in job.seeds]
    shape = (model.config.latent_channels, job.height // 8, job.width // 8)

    def fresh(*_: Any) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)

    noise = fresh()
    if sampler.function is None:
        return _ddim(denoiser, noise, job).cpu()
    sigmas = denoiser.schedule(job.steps, sampler.schedule, sampler.discard)
    if job.init is None:
        x = noise * sigmas[0]
    else:
        sigmas = sigmas[job.steps - _img2img_steps(job) - 1 :]
        x = job.init.to(device) + noise * sigmas[0]
    extra: dict[str, Any] = dict(job.extra)
    if sampler.noise == "fresh":
        extra["noise_sampler"] = fresh
    if sampler.noise == "brownian":
        low, high = sigmas[sigmas > 0].min(), sigmas.max()
        extra["noise_sampler"] = k_sampling.BrownianTreeNoiseSampler(
            x, low, high, seed=[int(seed) for seed in job.seeds]
        )
    callback = None if progress is None else lambda state: progress(int(state["i"]))
    latents: Tensor = getattr(k_sampling, sampler.function)(
        denoiser, x, sigmas, disable=True, callback=callback, **extra
    )
    return latents.cpu()


def _img2img_steps(job: Job) -> int:
    return int(min(job.strength, 0.999) * job.steps)


def _ddim(denoiser: GuidedDenoiser, noise: Tensor, job: Job) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12, eta 0) on variance-preserving latents: an eps-type sampler."""
    alphas = denoiser.model.alphas_cumprod.to(noise)
    times = torch.arange(0, len(alphas), len(alphas) // job.steps) + 1
    times = times.clamp(max=len(alphas) - 1)
    if job.init is not None:
        times = times[: _img2img_steps(job) + 1]
    alpha = alphas[times[-1]]
    x = noise if job.init is None else alpha.sqrt() * job.init.to(noise) + (1 - alpha).sqrt() * noise
    for index in range(len(times) - 1, 0, -1):
        alpha, before = alphas[times[index]], alphas[times[index - 1]]
        sigma = ((1 - alpha) / alpha).sqrt().expand(len(x))
        eps = denoiser.guided(x / alpha.sqrt(), sigma)
        x0 = (x - (1 - alpha).sqrt() * eps) / alpha.sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x
