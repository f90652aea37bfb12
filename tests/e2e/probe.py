"""A stand-in for other people's extensions: breaks, interrupts, changes prompts, or writes a job's events down."""

import json
import random

import gradio as gr
import hypertile
from memstab_recorder import Recorder
from modules import script_callbacks, scripts, shared

RECORDS = []


def recorder_of(p):
    return getattr(p, "memstab_recorder", None)


class Probe(scripts.Script):
    """Its one argument is JSON.

    "raise_at", "interrupt_at", "skip_at" say a step, "prompts" one for each image, "record" writes events down and
    "nudge" says which tensor the recorder changes; "tiles" writes down what Hypertile would draw next.
    """

    def title(self):
        return "MemStab probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(value="{}", label="Probe", elem_id=self.elem_id("order"))]

    def process(self, p, order):
        wish = json.loads(order or "{}")
        if wish.get("prompts"):
            p.all_prompts = list(wish["prompts"])
        if wish.get("record"):
            p.memstab_recorder = Recorder(wish.get("nudge", ""))
            p.extra_generation_params["Recorder"] = p.memstab_recorder.infotext
        self.note(p, "process")

    def process_batch(self, p, order, **kwargs):
        self.note(p, "process_batch")

    def process_before_every_sampling(self, p, order, **kwargs):
        self.note(p, "before_sampling")
        wish, recorder = json.loads(order or "{}"), recorder_of(p)
        original = p.sampler.callback_state

        def step(state):
            if recorder is not None:
                recorder.step(state)
            if state["i"] == wish.get("raise_at"):
                raise RuntimeError("another extension broke")
            if state["i"] == wish.get("interrupt_at"):
                shared.state.interrupt()
            if state["i"] == wish.get("skip_at"):
                shared.state.skip()
            return original(state)

        if wish:
            p.sampler.callback_state = step

    def post_sample(self, p, ps, order):
        self.note(p, "post_sample")

    def postprocess_image(self, p, pp, order):
        self.note(p, "postprocess_image")
        if json.loads(order or "{}").get("tiles"):
            chance = random.Random()
            chance.setstate(hypertile.RNG_INSTANCE.getstate())
            p.extra_generation_params["Tiles"] = str(chance.random())

    def postprocess_image_after_composite(self, p, pp, order):
        self.note(p, "after_composite")

    def postprocess(self, p, processed, order):
        self.note(p, "postprocess")
        for key in ("Recorder", "Tiles"):
            p.extra_generation_params.pop(key, None)
        if recorder_of(p) is not None:
            RECORDS[:] = [recorder_of(p)]

    def note(self, p, name):
        if recorder_of(p) is not None:
            recorder_of(p).hook(name)


class Current:
    """The recorder of the evaluation that is going on."""

    recorder = None

    def denoiser(self, params):
        self.recorder = recorder_of(params.denoiser.p)
        if self.recorder is not None:
            self.recorder.denoiser(params)

    def denoised(self, params):
        if self.recorder is not None:
            self.recorder.denoised(params)

    def after(self, params):
        if self.recorder is not None:
            self.recorder.after(params)


CURRENT = Current()
script_callbacks.on_cfg_denoiser(CURRENT.denoiser)
script_callbacks.on_cfg_denoised(CURRENT.denoised)
script_callbacks.on_cfg_after_cfg(CURRENT.after)
script_callbacks.on_app_started(
    lambda _, app: app.add_api_route("/memstab-probe/record", lambda: [one.events for one in RECORDS], methods=["GET"])
)
