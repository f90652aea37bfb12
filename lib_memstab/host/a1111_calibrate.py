"""A calibration's batches, sampled by AUTOMATIC1111's WebUI like any job, without scripts and without files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

import torch
from modules import call_queue, devices, extra_networks, progress, sd_samplers, shared
from modules.processing import (
    DecodedSamples,
    StableDiffusionProcessingImg2Img,
    StableDiffusionProcessingTxt2Img,
    process_images,
)
from torch import Tensor

from lib_memstab.calibration.batches import Batch, Sampled
from lib_memstab.calibration.calibrator import Calibrator
from lib_memstab.calibration.plan import Plan
from lib_memstab.core.calibration import Recorder
from lib_memstab.core.measurement import measure
from lib_memstab.core.profile import Checkpoint, Prediction
from lib_memstab.host import tap
from lib_memstab.host.a1111 import WebUI, network_names
from lib_memstab.host.places import own_folder
from lib_memstab.host.rows import Parts, read
from lib_memstab.store import Store

TASK = "task(memstab-calibration)"
"""Name under which the WebUI's own progress knows a calibration."""


@lru_cache(maxsize=1)
def the_calibrator() -> Calibrator:
    """The process's one calibrator: "Reload UI" loads scripts anew, and a calibration that is on its way goes on."""
    return Calibrator(Sampling(WebUI()), Store(own_folder).save, lambda: own_folder() / "unfinished")


class Recording:
    """Watches a job without touching it and keeps what a calibration needs; errors end the calibration, not the job."""

    def __init__(self) -> None:
        self.recorder = Recorder()
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
            self.recorder.update(measure(rows.sigma, rows.judged, rows.eps_uncond))
        except Exception as error:  # noqa: BLE001 - raised again when the job is over, where the host does not swallow it
            self.error = error


class FromLatents(StableDiffusionProcessingImg2Img):
    """img2img that starts from latents instead of pictures: neither decoder nor encoder is needed."""

    latents: Tensor

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        """In place of the pictures' encoding."""
        self.image_cfg_scale = None
        self.sampler = sd_samplers.create_sampler(self.sampler_name, self.sd_model)
        self.init_latent = self.latents.to(shared.device, devices.dtype)
        self.image_conditioning = self.txt2img_image_conditioning(self.init_latent)


class Finished:
    """Keeps a job's final latents, and gives blank pictures where none are wanted, as the decoder takes its time."""

    def __init__(self, p: Any, wanted: bool) -> None:
        self.latents: Tensor | None = None
        self._sample, self._wanted = p.sample, wanted
        p.sample = self._keep

    def _keep(self, *args: Any, **kwargs: Any) -> Any:
        latents = self._sample(*args, **kwargs)
        self.latents = latents.detach().half().cpu()
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

    def prediction(self) -> Prediction:
        """What the model predicts."""
        return self._host.prediction()

    def networks(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Names of the extra networks, such as LoRAs, that these prompts switch on."""
        return tuple(sorted({name for one in prompts for name in network_names(extra_networks.parse_prompt(one)[1])}))

    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that the checkpoint was made for, in pixels."""
        model = shared.sd_model
        if getattr(model, "is_sdxl", False):
            return 1024, 1024
        side = getattr(model, "image_size", 64) * 8
        # SD 2's configurations say 64 also where the model was made for 768 pixels, which predict v.
        if getattr(model, "is_sd2", False) and self.prediction() == "v_prediction":
            side = 768
        return side, side

    def run(self, work: Callable[[], None], batches: int) -> None:
        """Do `work` as one job of the WebUI's queue, with its progress over so many batches."""
        progress.add_task_to_queue(TASK)
        with call_queue.queue_lock:
            shared.state.begin(job="MemStab calibration")
            shared.state.job_count = batches
            progress.start_task(TASK)
            try:
                work()
            finally:
                progress.finish_task(TASK)
                shared.state.end()

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""
        return self._host.vocabulary()

    def interrupt(self) -> None:
        """End the batch that is being sampled at its next step."""
        shared.state.interrupt()

    def sample(self, plan: Plan, batch: Batch) -> Sampled | None:
        """Sample a batch; None if the user interrupted. torch.cuda.OutOfMemoryError where it is too large."""
        # Candidates are evaluated once; what comes of that is no picture.
        wanted = plan.pictures and batch.steps > 1
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
            "do_not_save_samples": not wanted,
            "outpath_samples": shared.opts.outdir_samples or shared.opts.outdir_txt2img_samples,
            "do_not_save_grid": True,
            "restore_faces": False,
        }
        if batch.init is None:
            job = StableDiffusionProcessingTxt2Img(**settings)
        else:
            job = FromLatents(init_images=[], denoising_strength=batch.way.strength, **settings)
            job.latents = batch.init
        recording, finished = Recording(), Finished(job, wanted)
        with closing(job) as p:
            tap.attach(p, recording)
            process_images(p)
            tap.attach(p, None)
        if shared.state.interrupted or shared.state.skipped:
            return None
        if recording.error is not None:
            raise recording.error
        curves, starts = recording.recorder.curves()
        assert finished.latents is not None
        return Sampled(curves, starts, recording.recorder.response(), finished.latents)
