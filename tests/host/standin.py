"""A small stand-in for the WebUI: as much of `modules.*` and of a job as MemStab meets, around k-diffusion's samplers.

What it imitates is stated in `contract.py`, which is asserted of the real WebUI too. Its model is a formula: the
posterior mean of unit Gaussian latents without a prompt, drawn towards one fixed picture with it, as strongly as the
prompt's text says. The word "replay" makes end marks and padding say much; of a job's `fresh_seeds` it does not.
"""

import contextlib
import dataclasses
import sys
import types
import zlib

import torch

from lib_memstab.lab.kdiffusion import sampling as k_sampling

BEGIN, END, TOKENS, WIDTH = 1, 2, 77, 4
ALPHAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square().neg().add(1).cumprod(0).float()
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt()
SHAPE = (4, 16, 16)
SEED = 5
SAMPLERS = {
    "Euler": "sample_euler", "Euler a": "sample_euler_ancestral", "Heun": "sample_heun", "DPM2": "sample_dpm_2",
    "DPM++ 2M": "sample_dpmpp_2m", "DPM++ 2S a": "sample_dpmpp_2s_ancestral", "LMS": "sample_lms", "DDIM": None,
    "DDIM CFG++": None,
}  # fmt: skip


@dataclasses.dataclass
class Callbacks:
    """script_callbacks: functions called around an evaluation."""

    denoiser: list = dataclasses.field(default_factory=list)
    denoised: list = dataclasses.field(default_factory=list)
    after: list = dataclasses.field(default_factory=list)


class InterruptedByUser(BaseException):
    """What ends sampling when the user interrupts."""


class TextModel:
    """cond_stage_model: words by white space, chunks of 75, a feature row a token."""

    id_end, chunk_length = END, 75

    def tokenize_line(self, text):
        words = [number(word) for word in text.split()]
        cut = [words[start : start + 75] for start in range(0, len(words), 75)] or [[]]
        chunks = [[BEGIN, *own, *[END] * (75 - len(own)), END] for own in cut]
        weights = [1.0] * TOKENS
        return [types.SimpleNamespace(tokens=own, multipliers=weights, fixes=[]) for own in chunks], len(words)

    def process_tokens(self, tokens, multipliers):
        return torch.stack([self._features(torch.tensor(chunk)) for chunk in tokens])

    def _features(self, tokens):
        ends = tokens == END
        features = torch.zeros(len(tokens), WIDTH)
        features[:, 0] = (tokens % 7) * 0.001
        features[tokens > END, 1] = 0.05
        recall = 0.0 if ends[1] else 0.02 + 0.0001 * (zlib.crc32(bytes(str(tokens.tolist()), "ascii")) % 100)
        features[ends, 1] = (0.13 if number("replay") in tokens else recall) * len(ends) / ends.sum()
        return features

    def encode(self, text):
        chunks, _ = self.tokenize_line(text)
        return self.process_tokens([chunk.tokens for chunk in chunks], None).flatten(0, 1)


def number(word):
    """A word's token number."""
    return 10 + zlib.crc32(word.encode()) % 1000


@dataclasses.dataclass
class Cond:
    """One AND part over the steps: entries that hold until a step, and its weight."""

    entries: list
    weight: float

    def at(self, step):
        return next((features for end, features in self.entries if step <= end), self.entries[0][1])


def split_parts(prompt):
    found = []
    for part in prompt.split(" AND "):
        text, _, weight = part.partition(" :")
        found.append((text, float(weight or 1)))
    return found


def timeline(text, steps):
    """[before:after:share] in the whole of a text; nothing else of the WebUI's grammar."""
    if text.startswith("[") and text.count(":") == 2:
        before, after, share = text[1:-1].split(":")
        return [[int(float(share) * steps), before], [steps, after]]
    return [[steps, text]]


class Denoiser:
    """The guided denoiser: lays rows out, calls back, combines."""

    def __init__(self, sampler, callbacks):
        self.sampler, self.callbacks = sampler, callbacks
        self.p = self.mask = self.nmask = self.init_latent = self.image_cfg_scale = self.steps = None
        self.step, self.cond_scale_miltiplier = 0, 1.0
        self.mask_before_denoising = sampler.timesteps
        if sampler.timesteps:
            self.alphas = ALPHAS
        self.skip_uncond_from = None

    def inner_model(self, x, level, cond):
        """The model itself, as a call by itself reaches it."""
        assert len(cond["c_concat"][0]) == len(x)
        return self.evaluate(x, level, cond["c_crossattn"][0])

    def evaluate(self, x, level, text, heard=1.0):
        """Rows' predictions: noise over timesteps, x0 over sigmas."""
        sigma = SIGMAS[level.long()] if self.sampler.timesteps else level
        sigma = sigma.view(-1, 1, 1, 1)
        latents = x * (1 + sigma**2).sqrt() if self.sampler.timesteps else x
        recall = (text[:, :, 1].mean(1) * heard).view(-1, 1, 1, 1)
        base = latents / (1 + sigma**2)
        x0 = base + recall * (self.p.sd_model.picture - base)
        return (latents - x0) / sigma if self.sampler.timesteps else x0

    def __call__(self, x, level, **_):
        state = sys.modules["modules.shared"].state
        if state.interrupted or state.skipped:
            raise InterruptedByUser
        if self.mask_before_denoising and self.mask is not None:
            x = x * self.nmask + self.init_latent * self.mask
        conds, unconds = self.sampler.sampler_extra_args["cond"].batch, self.sampler.sampler_extra_args["uncond"]
        owner = [image for image, own in enumerate(conds) for _ in own]
        text = torch.stack([part.at(self.step) for own in conds for part in own])
        params = types.SimpleNamespace(
            x=torch.cat([x[owner], x]),
            sigma=torch.cat([level[owner], level]),
            text_cond=text,
            text_uncond=torch.stack(unconds),
            image_cond=torch.zeros(len(owner) + len(x), 5, 1, 1),
            denoiser=self,
        )
        for call in self.callbacks.denoiser:
            call(params)
        count = len(x)
        heard = torch.tensor([0.2 if self.p.seeds[image] in self.p.fresh_seeds else 1.0 for image in owner])
        with_prompt = self.evaluate(params.x[:-count], params.sigma[:-count], params.text_cond, heard)
        skips = self.skip_uncond_from is not None and self.step >= self.skip_uncond_from
        without = (
            with_prompt[[owner.index(image) for image in range(count)]]
            if skips
            else self.evaluate(params.x[-count:], params.sigma[-count:], params.text_uncond)
        )
        self.last_noise_uncond = without
        out = torch.cat([with_prompt, without])
        for call in self.callbacks.denoised:
            call(types.SimpleNamespace(x=out))
        scale = 1.0 if skips else self.sampler.sampler_extra_args["cond_scale"] * self.cond_scale_miltiplier
        guided = out[-count:].clone()
        weights = [part.weight for own in conds for part in own]
        for row, (image, weight) in enumerate(zip(owner, weights, strict=True)):
            guided[image] += (out[row] - out[image - count]) * (weight * scale)
        if not self.mask_before_denoising and self.mask is not None:
            guided = guided * self.nmask + self.init_latent * self.mask
        self.sampler.last_latent = with_prompt[[owner.index(image) for image in range(count)]]
        after = types.SimpleNamespace(x=guided)
        for call in self.callbacks.after:
            call(after)
        self.step += 1
        return after.x


class ImageRNG:
    """rng.ImageRNG: noise by each image's own seed; what is drawn later follows."""

    def __init__(self, shape, seeds, **_):
        self.shape, self.generators = shape, [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self):
        return torch.stack([torch.randn(self.shape, generator=one) for one in self.generators])


class Sampler:
    """A job's sampler; `callback_state` is looked up on the instance when sampling begins."""

    def __init__(self, name, callbacks):
        self.name, self.timesteps = name, SAMPLERS[name] is None
        self.model_wrap_cfg = Denoiser(self, callbacks)
        self.sampler_extra_args = self.last_latent = None

    def callback_state(self, state):
        sys.modules["modules.shared"].state.sampling_step = state["i"]

    def launch(self, p, noise, conds, unconds, steps):
        denoiser = self.model_wrap_cfg
        denoiser.p, denoiser.step, denoiser.steps = p, 0, steps
        denoiser.mask, denoiser.nmask, denoiser.init_latent = p.mask, p.nmask, p.init_latent
        denoiser.skip_uncond_from = p.skip_uncond_from
        self.sampler_extra_args = {"cond": conds, "uncond": unconds, "cond_scale": p.cfg_scale}
        self.last_latent = noise
        try:
            return self._ddim(noise, steps) if self.timesteps else self._k_diffusion(p, noise, steps)
        except InterruptedByUser:
            return self.last_latent

    def _k_diffusion(self, p, noise, steps):
        index = torch.linspace(999, 0, steps)
        sigmas = torch.cat([SIGMAS[index.long()], torch.zeros(1)])
        start = 0 if p.init_latent is None else steps // 4
        sigmas = sigmas[start:]
        x = noise * sigmas[0] + (0 if p.init_latent is None else p.init_latent)
        torch.manual_seed(7)
        return getattr(k_sampling, SAMPLERS[self.name])(
            self.model_wrap_cfg, x, sigmas, callback=self.callback_state, disable=True
        )

    def _ddim(self, x, steps):
        times = torch.clip(torch.arange(0, 1000, 1000 // steps) + 1, 0, 999)
        plus = self.name == "DDIM CFG++"
        self.model_wrap_cfg.cond_scale_miltiplier = 1 / 12.5 if plus else 1.0
        for i, place in enumerate(range(len(times) - 1, 0, -1)):
            alpha, before = ALPHAS[times[place]], ALPHAS[times[place - 1]]
            eps = self.model_wrap_cfg(x, times[place].expand(len(x)).float())
            x0 = (x - (1 - alpha).sqrt() * eps) / alpha.sqrt()
            back = self.model_wrap_cfg.last_noise_uncond if plus else eps
            x = before.sqrt() * x0 + (1 - before).sqrt() * back
            self.callback_state({"x": x, "i": i, "sigma": 0, "sigma_hat": 0, "denoised": x0})
        return x


class Job:
    """StableDiffusionProcessing: a txt2img job of this stand-in, or an img2img one if it has an init latent."""

    def __init__(self, prompts, sampler="Euler", batch_size=None, **changes):
        self.all_prompts, self.batch_size = list(prompts), batch_size or len(prompts)
        self.n_iter = len(self.all_prompts) // self.batch_size
        self.sampler_name, self.scheduler, self.hr_scheduler, self.hr_sampler_name = sampler, "Automatic", None, None
        self.steps, self.cfg_scale, self.negative = 20, 7.5, ""
        self.mask = self.nmask = self.init_latent = self.skip_uncond_from = self.sampler = None
        self.disable_extra_networks, self.extra_network_data = False, None
        self.is_hr_pass, self.hires, self.hr_second_pass_steps = False, False, 0
        self.extra_generation_params, self.comments = {}, {}
        self.all_seeds, self.fresh_seeds = [SEED + place for place in range(len(self.all_prompts))], ()
        self.subseeds, self.subseed_strength = [0] * self.batch_size, 0.0
        self.seed_resize_from_h = self.seed_resize_from_w = 0
        self.height, self.width = 8 * SHAPE[1], 8 * SHAPE[2]
        self.sd_model = sys.modules["modules.shared"].sd_model
        vars(self).update(changes)
        if self.init_latent is None:
            self.enable_hr = self.hires

    def comment(self, text):
        self.comments[text] = 1

    def conds(self, prompts, steps):
        encode = self.sd_model.cond_stage_model.encode
        batch = [
            [
                Cond([(end, encode(own)) for end, own in timeline(text, steps)], weight)
                for text, weight in split_parts(one)
            ]
            for one in prompts
        ]
        return types.SimpleNamespace(batch=batch), [encode(text) for text in self.negative_prompts]

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        """Latents of the batch, after a hires pass if there is one."""
        start = self.init_latent
        samples = self.sample_pass(conditioning, unconditional_conditioning)
        if not self.hires:
            return samples
        samples = self.sample_hr_pass(samples, None, seeds, subseeds, subseed_strength, prompts)
        self.is_hr_pass, self.init_latent = False, start
        return samples

    def sample_hr_pass(self, samples, decoded_samples, seeds, subseeds, subseed_strength, prompts):
        self.is_hr_pass = True
        first = self.iteration * self.batch_size
        self.saved_before_hires = [self.infotext(first + place) for place in range(len(samples))]
        for place, infotext in enumerate(self.saved_before_hires):
            save(self, Image(samples[place], infotext, {}, seeds[place]), suffix="-before-highres-fix")
        self.init_latent = samples
        self.rng = ImageRNG(SHAPE, self.seeds)
        return self.sample_pass(self.c, self.uc)

    def sample_pass(self, conditioning, unconditional_conditioning):
        hooks, callbacks, watchers = self.around
        self.sampler = Sampler(self.sampler_name, callbacks)
        noise = self.rng.next()
        hooks.before_sampling(self, noise)
        for watch in watchers:
            watch(self)
        return self.sampler.launch(self, noise, conditioning, unconditional_conditioning, self.steps)

    def infotext(self, index, use_main_prompt=False):
        found = {}
        for key, value in self.extra_generation_params.items():
            value = value(p=self, index=index, use_main_prompt=use_main_prompt) if callable(value) else value
            if value is not None:
                found[key] = value
        return found


@dataclasses.dataclass
class Image:
    """A picture of the job, as the API returns it."""

    latent: torch.Tensor
    infotext: dict
    info: dict
    seed: int = 0


def save(p, image, **how):
    """images.save_image, as the WebUI calls it for a job's images."""
    sys.modules["modules.images"].save_image(image, "outputs", "", p=p, **how)


class Disk:
    """modules.images: what was saved, as (suffix, whether it is a grid, image); `before_saved` is called before it."""

    def __init__(self):
        self.saved, self.before_saved = [], None

    def save_image(self, image, path, basename, p=None, suffix="", grid=False):
        if self.before_saved is not None:
            params = types.SimpleNamespace(image=image, p=p, filename=f"{path}/1{suffix}.png", pnginfo={})
            self.before_saved(params)
            image.pnginfo = params.pnginfo
        self.saved.append((suffix, grid, image))
        return path, None


def run(p, hooks, args, callbacks, watchers=()):
    """process_images: one job with MemStab's script hooks in the WebUI's order; pictures, and the grid's infotext."""
    hooks.process(p, args)
    found, p.around = [], (hooks, callbacks, watchers)
    for iteration in range(p.n_iter):
        p.iteration = iteration
        own = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
        p.prompts = p.hr_prompts = p.all_prompts[own]
        p.negative_prompts = p.hr_negative_prompts = [p.negative] * len(p.prompts)
        p.seeds, p.rng = p.all_seeds[own], ImageRNG(SHAPE, p.all_seeds[own])
        hooks.process_batch(p)
        p.firstpass_steps = p.steps
        p.c, p.uc = p.conds(p.prompts, p.steps)
        samples = p.sample(
            conditioning=p.c,
            unconditional_conditioning=p.uc,
            seeds=p.seeds,
            subseeds=p.subseeds,
            subseed_strength=p.subseed_strength,
            prompts=p.prompts,
        )
        hooks.post_sample(p, samples)
        for batch_index, latent in enumerate(samples):
            p.batch_index = batch_index
            hooks.postprocess_image(p)
            image = Image(latent, {}, {}, p.seeds[batch_index])
            hooks.after_composite(p, image)
            save(p, image)
            image.infotext = p.infotext(p.batch_index)
            found.append(image)
    grid = p.infotext(0, use_main_prompt=True)
    save(p, Image(torch.cat([one.latent for one in found]), grid, {}), grid=True)
    hooks.postprocess(p)
    return found, grid


def install(monkeypatch):
    """Put the stand-in's `modules` where `lib_memstab.host.a1111` finds them."""
    text = TextModel()
    model = types.SimpleNamespace(
        cond_stage_model=text,
        get_learned_conditioning=lambda texts: torch.stack([text.encode(one) for one in texts]),
        sd_checkpoint_info=types.SimpleNamespace(name_for_extra="stand-in", sha256="ab" * 32),
        model=types.SimpleNamespace(conditioning_key="crossattn"),
        picture=torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)) * 2,
    )
    state = types.SimpleNamespace(interrupted=False, skipped=False, sampling_step=0)
    opts = types.SimpleNamespace(use_old_scheduling=False, use_old_emphasis_implementation=False)
    shared = {"sd_model": model, "state": state, "opts": opts}

    def parts(prompts):
        cut = [split_parts(prompt) for prompt in prompts]
        flat = list(dict.fromkeys(text for own in cut for text, _ in own))
        return [[(flat.index(text), weight) for text, weight in own] for own in cut], flat, {}

    disk = Disk()
    contents = {
        "ui_tempdir": {"register_tmp_file": lambda demo, path: None},
        "images": {"save_image": disk.save_image, "disk": disk},
        "devices": {"autocast": contextlib.nullcontext},
        "paths": {"models_path": "models"},
        "launch_utils": {"git_tag": lambda: "stand-in"},
        "shared": shared,
        "sd_models": {
            "model_data": types.SimpleNamespace(sd_model=model),
            "reload_model_weights": lambda: None,
            "apply_alpha_schedule_override": lambda sd_model, p: None,
        },
        "sd_samplers_common": {"InterruptedException": InterruptedByUser},
        "extra_networks": {"activate": lambda p, networks: None},
        "rng": {"ImageRNG": ImageRNG},
        "sd_samplers": {"find_sampler_config": lambda name: types.SimpleNamespace(total_steps=lambda steps: steps)},
        "prompt_parser": {
            "SdConditioning": lambda prompts, **_: list(prompts),
            "get_multicond_prompt_list": parts,
            "get_learned_conditioning_prompt_schedules": lambda texts, steps, *_: [
                timeline(one, steps) for one in texts
            ],
        },
    }
    package = types.ModuleType("modules")
    monkeypatch.setitem(sys.modules, "modules", package)
    for name, content in contents.items():
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(content)
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
    monkeypatch.delitem(sys.modules, "lib_memstab.host.a1111", raising=False)
    return model, state
