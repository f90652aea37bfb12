"""A calibration's batches, sampled by AUTOMATIC1111's WebUI like any job, without scripts and without files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Literal

import torch
from modules import call_queue, shared
from modules.processing import (
    DecodedSamples,
    StableDiffusionProcessingImg2Img,
    StableDiffusionProcessingTxt2Img,
    process_images,
)
from torch import Tensor

from lib_memstab.core.calibration import Recorder
from lib_memstab.core.measurement import measure
from lib_memstab.core.profile import Checkpoint
from lib_memstab.host import tap
from lib_memstab.host.a1111 import WebUI
from lib_memstab.host.batches import Batch, Sampled
from lib_memstab.host.plan import Plan
from lib_memstab.host.rows import Parts, read


class Recording:
    """Watches a job without touching it and keeps what a calibration needs; errors end the calibration, not the job."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.response: Tensor | None = None
        self.error: Exception | None = None
        self._parts: Parts | None = None

    def before(self, params: Any) -> None:
        """Nothing is changed."""

    def after(self, params: Any, out: Tensor, guided: Any) -> None:
        """Measure one evaluation."""
        if self.error is not None:
            return
        try:
            if self._parts is None:
                batch = params.denoiser.sampler.sampler_extra_args["cond"].batch
                self._parts = Parts.of([[part.weight for part in own] for own in batch], out.device)
            rows = read(params.x, params.sigma, out, self._parts, getattr(params.denoiser, "alphas", None))
            measurement = measure(rows.sigma, rows.judged, rows.eps_uncond)
            self.recorder.update(measurement)
            if self.response is None:
                self.response = measurement.update_norm()
        except Exception as error:  # noqa: BLE001 - raised again when the job is over, where the host does not swallow it
            self.error = error


class Finished:
    """Keeps a job's final latents, and gives blank pictures where none are wanted, as the decoder takes its time."""

    def __init__(self, p: Any, wanted: bool) -> None:
        self.latents: Tensor | None = None
        self._sample, self._wanted = p.sample, wanted
        p.sample = self._keep

    def _keep(self, *args: Any, **kwargs: Any) -> Any:
        latents = self._sample(*args, **kwargs)
        self.latents = latents.detach().float().cpu()
        if self._wanted:
            return latents
        blank = DecodedSamples()
        blank.extend(torch.zeros(3, 8, 8) for _ in latents)
        return blank


class Sampling:
    """The WebUI as a calibration needs it."""

    def __init__(self, host: WebUI) -> None:
        self._host, self.name = host, host.name

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that is loaded."""
        return self._host.checkpoint()

    def prediction(self) -> Literal["epsilon", "v_prediction"]:
        """What the model predicts."""
        return "v_prediction" if getattr(shared.sd_model, "parameterization", "eps") == "v" else "epsilon"

    def run(self, work: Callable[[], None], batches: int) -> None:
        """Do `work` as one job of the WebUI's queue, with its progress over so many batches."""
        with call_queue.queue_lock:
            shared.state.begin(job="MemStab calibration")
            shared.state.job_count = batches
            try:
                work()
            finally:
                shared.state.end()

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""
        return self._host.vocabulary()

    def interrupt(self) -> None:
        """End the batch that is being sampled at its next step."""
        shared.state.interrupt()

    def sample(self, plan: Plan, batch: Batch, pictures: Sequence[Any]) -> Sampled | None:
        """Sample a batch, img2img from `pictures`; None if the user interrupted."""
        settings: dict[str, Any] = {
            "sd_model": shared.sd_model,
            "prompt": batch.prompts,
            "negative_prompt": batch.negatives,
            "seed": batch.seeds,
            "subseed": batch.seeds,
            "sampler_name": batch.way.sampler,
            "scheduler": plan.scheduler,
            "batch_size": len(batch.prompts),
            "n_iter": 1,
            "steps": batch.steps,
            "cfg_scale": batch.way.guidance,
            "width": plan.width,
            "height": plan.height,
            "do_not_save_samples": True,
            "do_not_save_grid": True,
            "restore_faces": False,
        }
        if batch.mode == "txt2img":
            job = StableDiffusionProcessingTxt2Img(**settings)
        else:
            job = StableDiffusionProcessingImg2Img(
                init_images=list(pictures), denoising_strength=batch.way.strength, **settings
            )
        recording, finished = Recording(), Finished(job, batch.wanted)
        with closing(job) as p:
            tap.attach(p, recording)
            processed = process_images(p)
            tap.attach(p, None)
        if shared.state.interrupted or shared.state.skipped:
            return None
        if recording.error is not None:
            raise recording.error
        curves, starts = recording.recorder.curves()
        assert recording.response is not None
        assert finished.latents is not None
        response = recording.response.double().cpu().numpy()
        pictures = processed.images[: len(batch.prompts)] if batch.wanted else []
        return Sampled(curves, starts, response, finished.latents, pictures)
