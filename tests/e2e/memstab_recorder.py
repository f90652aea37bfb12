"""Writes down what a host does in one job, as plain data; runs inside the real WebUI and inside the stand-in alike."""

import torch


class Recorder:
    """Events of one job in order: (name, facts). `nudge` changes one tensor at the first evaluation."""

    def __init__(self, nudge=""):
        self.events, self.nudge = [], nudge
        self._evaluations = 0

    def hook(self, name, **facts):
        """A hook of the job."""
        self.events.append([name, facts])

    def denoiser(self, params):
        """on_cfg_denoiser."""
        from modules import shared

        cond = params.denoiser.sampler.sampler_extra_args["cond"]
        weights = [[part.weight for part in own] for own in cond.batch]
        owner = [image for image, own in enumerate(weights) for _ in own]
        images = params.x[-len(weights) :]
        self._opened = params, weights
        encode, stage = shared.sd_model.get_learned_conditioning, shared.sd_model.cond_stage_model
        empty, words = encode([""]), encode(["one two"])[0]
        chunk = stage.tokenize_line("one two")[0][0]
        self.hook(
            "denoiser",
            empty_gap=max(float((row - empty[0]).abs().max()) for row in params.text_uncond),
            piece_gap=float((stage.process_tokens([chunk.tokens], [chunk.multipliers])[0] - words).abs().max()),
            piece_fixes=len(chunk.fixes),
            rows=len(params.x),
            weights=weights,
            texts=len(params.text_cond),
            level=[float(level) for level in params.sigma],
            repeated=bool((params.x[: len(owner)] == images[owner]).all()),
            mean=[float(row.double().mean()) for row in images],
            has_alphas=getattr(params.denoiser, "alphas", None) is not None,
            step=params.denoiser.step,
            steps=params.denoiser.steps,
            guidance=float(params.denoiser.sampler.sampler_extra_args["cond_scale"]),
        )
        if self.nudge == "text" and self._evaluations == 0:
            params.text_cond = params.text_cond * 0.5
        self._evaluations += 1

    def denoised(self, params):
        """on_cfg_denoised."""
        self._out = params.x

    def after(self, params):
        """on_cfg_after_cfg."""
        from lib_memstab.host.a1111 import WebUI

        opened, weights = self._opened
        places = sum(map(len, weights)) + torch.arange(len(weights))
        host, x, level = WebUI(), opened.x[places], opened.sigma[places]
        plain = host.predict(opened, places, x, level, host.encode(opened, "")).double()
        first = torch.tensor([0])
        again = host.predict(opened, first, opened.x[first], opened.sigma[first])
        count, out = len(weights), self._out.double()
        guided, row = out[-count:].clone(), 0
        scale = float(opened.denoiser.sampler.sampler_extra_args["cond_scale"])
        for image, own in enumerate(weights):
            for weight in own:
                guided[image] += scale * weight * (out[row] - out[image - count])
                row += 1
        level = opened.sigma[-count:].double().view(-1, 1, 1, 1)
        noise = (opened.x[-count:].double() - out[-count:]) / level
        self.hook(
            "after",
            rows=len(params.x),
            gap=float((params.x.double() - guided).abs().max() / guided.abs().max()),
            plain_gap=float((plain - out[-count:]).abs().max() / out[-count:].abs().max()),
            again_gap=float((again.double() - out[:1]).abs().max() / out[:1].abs().max()),
            pictured=host.pictured(opened),
            rms=float(out[-count:].pow(2).mean().sqrt()),
            rms_from_x0=float(noise.pow(2).mean().sqrt()),
        )
        if self.nudge == "after" and self._evaluations == 1:
            params.x = params.x + 0.1

    def step(self, state):
        """The sampler's callback."""
        self.hook("step", i=int(state["i"]), whole_zero=type(state["sigma"]) is int and state["sigma"] == 0)

    def infotext(self, index, use_main_prompt=False, **_):
        """Under a key of the infotext."""
        self.hook("infotext", index=index, main=bool(use_main_prompt))
