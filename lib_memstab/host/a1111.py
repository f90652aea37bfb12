"""AUTOMATIC1111's WebUI, as `port.Host` asks for it, and its job object read into `PassFacts`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from modules import (
    devices,
    extra_networks,
    launch_utils,
    prompt_parser,
    rng,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    shared,
)
from torch import Tensor

from lib_memstab.core.profile import Checkpoint, Mode, Prediction
from lib_memstab.core.windows import Chunk, Encode
from lib_memstab.host.facts import PassFacts
from lib_memstab.host.port import HostError, Schedule

END_OF_WORD = "</w>"
_TEXT = "crossattn"


class WebUI:
    """The WebUI this process is."""

    def __init__(self) -> None:
        version = launch_utils.git_tag()
        self.name = "AUTOMATIC1111 WebUI" if version == "<none>" else f"AUTOMATIC1111 WebUI {version}"

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that is loaded now; without a hash where the WebUI was told not to hash."""
        info = shared.sd_model.sd_checkpoint_info
        return Checkpoint(info.name_for_extra, info.sha256)

    def prediction(self) -> Prediction:
        """What the loaded model predicts."""
        return "v_prediction" if getattr(shared.sd_model, "parameterization", "eps") == "v" else "epsilon"

    def loaded(self) -> bool:
        """Whether a checkpoint is loaded; asking for it otherwise would load it."""
        return sd_models.model_data.sd_model is not None

    def empty_text(self) -> Tensor:
        """The empty prompt's text features, [1, T, D], by the text model as it is now.

        Those the host keeps are of the moment the checkpoint was loaded: of another CLIP skip, or of other weights.
        """
        with torch.no_grad(), devices.autocast():
            empty = shared.sd_model.get_learned_conditioning([""])
        return empty[_TEXT] if isinstance(empty, dict) else empty

    def encode(self, params: Any, text: str) -> dict[str, Tensor]:
        """What the text model makes of a text, by name, [1, ...] each; SDXL's has a vector beside the text's rows.

        In front of the rows stays what stands in front of the negative prompt's, see `texts`.
        """
        own, (height, width) = params.text_uncond, params.x.shape[2:]
        prompt = prompt_parser.SdConditioning([text], is_negative_prompt=not text, width=8 * width, height=8 * height)
        with torch.no_grad(), devices.autocast():
            features = shared.sd_model.get_learned_conditioning(prompt)
        named = dict(features) if isinstance(features, dict) else {_TEXT: features}
        rows = named[_TEXT]
        before = (own[_TEXT] if isinstance(own, dict) else own)[:1]
        before = before[:, : before.shape[1] % rows.shape[1]]
        return {**named, _TEXT: torch.cat([before.to(rows), rows], dim=1)}

    def predict(
        self, params: Any, places: Tensor, x: Tensor, level: Tensor, text: dict[str, Tensor] | None = None
    ) -> Tensor:
        """The predictions by one more call of the inner model."""
        if text is None:
            own = params.text_cond
            rows = {name: value[places] for name, value in (own if isinstance(own, dict) else {_TEXT: own}).items()}
        else:
            rows = {name: value.expand(len(places), *value.shape[1:]) for name, value in text.items()}
        images = {"c_concat": [params.image_cond[places]]}
        if shared.sd_model.model.conditioning_key == "crossattn-adm":
            images = {"c_adm": params.image_cond[places]}
        conditions = rows if isinstance(params.text_uncond, dict) else {"c_crossattn": [rows[_TEXT]]}
        with torch.no_grad(), _same_tiles():
            found: Tensor = params.denoiser.inner_model(x, level, cond={**conditions, **images})
        return found

    def pictured(self, params: Any) -> bool:
        """Inpainting and depth checkpoints, those of variations of a picture, and jobs with ControlNet, which marks its
        texts by a row in front of the first chunk.
        """
        if shared.sd_model.model.conditioning_key == "crossattn-adm" or params.image_cond.shape[-1] > 1:
            return True
        text = params.text_uncond[_TEXT] if isinstance(params.text_uncond, dict) else params.text_uncond
        return text.shape[1] % (self._tokenizer().chunk_length + 2) > 0

    def chunks(self, text: str) -> list[Chunk]:
        """A text's chunks, with emphasis as weights; end marks pad them."""
        tokenizer = self._tokenizer()
        chunks, _ = tokenizer.tokenize_line(text)
        return [
            Chunk(tuple(chunk.tokens), tuple(chunk.multipliers), chunk.tokens.index(tokenizer.id_end, 1) - 1)
            for chunk in chunks
        ]

    def encoder(self, text: str) -> Encode | None:
        """What encodes pieces of a text; None for SDXL's pair of text models, the WebUI's old way of emphasis, and
        texts with textual inversions, whose vectors stand in for tokens.
        """
        stage = shared.sd_model.cond_stage_model
        if not hasattr(stage, "process_tokens") or shared.opts.use_old_emphasis_implementation:
            return None
        if any(chunk.fixes for chunk in stage.tokenize_line(text)[0]):
            return None

        def encode(chunks: Sequence[Chunk]) -> Tensor:
            with torch.no_grad(), devices.autocast():
                features: Tensor = stage.process_tokens(
                    [list(chunk.tokens) for chunk in chunks], [list(chunk.weights) for chunk in chunks]
                )
            return features

        return encode

    def vocabulary(self) -> list[str]:
        """Words the text model has an entry of its own for, the most frequent first; empty if it does not say.

        CLIP's tokenizers number their entries by how often they were seen, and mark a word's end.
        """
        tokenizer: Any = getattr(self._tokenizer(), "tokenizer", None)
        if not hasattr(tokenizer, "get_vocab"):
            return []
        entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return [entry.removesuffix(END_OF_WORD) for entry, _ in entries if entry.endswith(END_OF_WORD)]

    def _tokenizer(self) -> Any:
        """The text model that knows how prompts become chunks; SDXL has one inside its conditioner."""
        stage = shared.sd_model.cond_stage_model
        for candidate in (stage, *getattr(stage, "embedders", ())):
            if hasattr(candidate, "tokenize_line"):
                return candidate
        raise HostError("this checkpoint's text model does not say how it cuts a prompt into tokens")

    def schedules(self, prompts: Sequence[str], steps: int, hires_steps: int | None) -> list[list[Schedule]]:
        """For each prompt its AND parts, each as a schedule over the steps of the pass."""
        indexes, texts, _ = prompt_parser.get_multicond_prompt_list(prompt_parser.SdConditioning(prompts))
        timelines = prompt_parser.get_learned_conditioning_prompt_schedules(
            texts, steps, hires_steps, shared.opts.use_old_scheduling
        )
        parts = [Schedule(*(tuple(column) for column in zip(*timeline, strict=True))) for timeline in timelines]
        return [[parts[index] for index, _ in own] for own in indexes]

    def stopped(self) -> bool:
        """Whether the user interrupted or skipped."""
        return bool(shared.state.interrupted or shared.state.skipped)

    def end_pass(self) -> NoReturn:
        """Raise what the WebUI's own callback raises when the user interrupts."""
        raise sd_samplers_common.InterruptedException

    def noise(self, p: Any, seeds: Sequence[int]) -> Any:
        """What the WebUI draws a batch's noise from."""
        shape = (getattr(shared.sd_model, "latent_channels", 4), p.height // 8, p.width // 8)
        return rng.ImageRNG(
            shape,
            seeds,
            subseeds=p.subseeds,
            subseed_strength=p.subseed_strength,
            seed_resize_from_h=p.seed_resize_from_h,
            seed_resize_from_w=p.seed_resize_from_w,
        )

    def reseed(self, p: Any, seeds: Sequence[int]) -> None:
        """What the WebUI does before each batch; a hires pass or a refiner may have left another checkpoint loaded."""
        sd_models.reload_model_weights()
        if not p.disable_extra_networks:
            with devices.autocast():
                extra_networks.activate(p, p.extra_network_data)
        sd_models.apply_alpha_schedule_override(p.sd_model, p)
        p.rng = self.noise(p, seeds)


@contextmanager
def _same_tiles() -> Iterator[None]:
    """Leave the chance that the WebUI's Hypertile cuts the next evaluation by as it is."""
    chance = getattr(sys.modules.get("hypertile"), "RNG_INSTANCE", None)
    before = None if chance is None else chance.getstate()
    try:
        yield
    finally:
        if chance is not None:
            chance.setstate(before)


def network_names(found: Mapping[str, Sequence[Any]] | None) -> tuple[str, ...]:
    """Names of extra networks, such as LoRAs, by the WebUI's own record of a prompt's tags, rising."""
    return tuple(sorted({str(one.items[0]) for own in (found or {}).values() for one in own if one.items}))


def facts_of(p: Any, x: Tensor) -> PassFacts:
    """What the pass that begins samples: `p` the WebUI's job, `x` [B, C, H, W] its latents or noise."""
    hires = bool(p.is_hr_pass)
    sampler = (p.hr_sampler_name if hires else None) or p.sampler_name
    scheduler = (p.hr_scheduler if hires else p.scheduler) or "Automatic"
    steps = (p.hr_second_pass_steps if hires else 0) or p.steps
    config = sd_samplers.find_sampler_config(sampler)
    counted = config.total_steps(steps) if config else steps
    mode: Mode = "img2img" if hires or not hasattr(p, "enable_hr") else "txt2img"
    negative = p.hr_negative_prompts if hires else p.negative_prompts
    return PassFacts(
        name="hires" if hires else "base",
        mode=mode,
        prompts=list(p.hr_prompts if hires else p.prompts),
        negative=any(text.strip() for text in negative),
        sampler=sampler,
        scheduler=scheduler,
        steps=steps,
        schedule=(p.firstpass_steps, counted) if hires else (counted, None),
        guidance=float(p.cfg_scale),
        channels=x.shape[1],
        size=(x.shape[2], x.shape[3]),
        loras=() if p.disable_extra_networks else network_names(p.extra_network_data),
    )


def facts_of_fields(
    sampler: str, scheduler: str, steps: float, width: float, height: float, guidance: float
) -> PassFacts:
    """What a job of the panel's tab would sample without a picture to start from, by the tab's own fields."""
    return PassFacts(
        name="base",
        mode="txt2img",
        prompts=[],
        negative=False,
        sampler=sampler,
        scheduler=scheduler,
        steps=int(steps),
        schedule=(int(steps), None),
        guidance=float(guidance),
        channels=getattr(shared.sd_model, "latent_channels", 4),
        size=(int(height) // 8, int(width) // 8),
    )
