"""A stand-in for other people's extensions: raises, interrupts or samples on its own where a test asks for it."""

import json

from modules import scripts, shared


class Probe(scripts.Script):
    """Its one argument is JSON: "raise_at", "interrupt_at", "skip_at" say a step; "prompts" one for each image."""

    def title(self):
        return "MemStab probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        import gradio as gr

        return [gr.Textbox(value="{}", visible=False)]

    def process(self, p, order):
        prompts = json.loads(order or "{}").get("prompts")
        if prompts:
            p.all_prompts = list(prompts)

    def process_before_every_sampling(self, p, order, **kwargs):
        wish = json.loads(order or "{}")
        original = p.sampler.callback_state

        def step(state):
            if state["i"] == wish.get("raise_at"):
                raise RuntimeError("another extension broke")
            if state["i"] == wish.get("interrupt_at"):
                shared.state.interrupt()
            if state["i"] == wish.get("skip_at"):
                shared.state.skip()
            return original(state)

        if wish:
            p.sampler.callback_state = step
