"""The stand-in's pages: as much of `modules.*` as panel, tab and settings meet, of real gradio blocks."""

import contextlib
import dataclasses
import importlib.util
import sys
import types
from pathlib import Path

import gradio as gr

from tests.host import standin

SCRIPT = Path(__file__).parents[3] / "scripts" / "memstab.py"
ROOMS = ("a1111", "a1111_calibrate", "accordion", "filenames", "holding", "localize", "options", "places", "works")
"""Rooms of `lib_memstab.host` that import `modules` and so have to be loaded anew for each stand-in."""
LISTENED = (
    "before_ui",
    "cfg_denoiser",
    "cfg_denoised",
    "cfg_after_cfg",
    "before_image_saved",
    "ui_tabs",
    "ui_settings",
    "app_started",
)


class InputAccordion(gr.Checkbox):
    """ui_components.InputAccordion: an accordion that is open while its unseen checkbox is ticked."""

    def __init__(self, value, elem_id, label):
        super().__init__(value, label=label, elem_id=f"{elem_id}-checkbox", visible=False)
        self.accordion = gr.Accordion(label, elem_id=elem_id, open=value)

    def __enter__(self):
        self.accordion.__enter__()
        return self

    def __exit__(self, *error):
        self.accordion.__exit__(*error)

    def get_block_name(self):
        return "checkbox"


@dataclasses.dataclass
class OptionInfo:
    """shared.OptionInfo: one row of the Settings page."""

    default: object = None
    label: str = ""
    component: object = None
    component_args: dict = dataclasses.field(default_factory=dict)
    section: tuple = ()
    comment: str = ""

    def info(self, text):
        self.comment += f"({text})"
        return self

    def show(self):
        kind = self.component or {bool: gr.Checkbox}.get(type(self.default), gr.Textbox)
        return kind(label=self.label, value=self.default, elem_id=f"setting_{self.name}", **self.component_args)


class OptionHTML(OptionInfo):
    """shared.OptionHTML: a text between the rows."""

    def __init__(self, text):
        super().__init__(text, "")

    def show(self):
        return gr.HTML(self.default, elem_id=f"setting_{self.name}")


class Options(types.SimpleNamespace):
    """shared.opts."""

    def add_option(self, name, info):
        info.name = name
        self.data_labels[name] = info
        setattr(self, name, info.default)


class Script:
    """scripts.Script."""

    is_img2img = False

    def elem_id(self, name):
        return f"script_{'img2img' if self.is_img2img else 'txt2img'}_memstab_{name}"

    def process_before_every_sampling(self, p, *args, **kwargs):
        """The WebUI's own does nothing."""


class Txt2Img(standin.Job):
    """processing.StableDiffusionProcessingTxt2Img, as far as a calibration uses it."""

    def __init__(self, prompt, negative_prompt, seed, sampler_name, batch_size, steps, cfg_scale, width, height, **_):
        super().__init__(
            prompt,
            sampler_name,
            batch_size,
            negative=negative_prompt[0],
            all_seeds=list(seed),
            steps=steps,
            cfg_scale=cfg_scale,
            width=width,
            height=height,
        )

    def close(self):
        """Nothing is held."""


class Img2Img(Txt2Img):
    """processing.StableDiffusionProcessingImg2Img."""


class NoScripts:
    """A job without scripts."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class WebUI:
    """The stand-in with pages: MemStab's script loaded, panel, tab and settings built, all as the WebUI does it."""

    def __init__(self, monkeypatch, folder):
        self.model, self.state = standin.install(monkeypatch)
        self.callbacks = {name: [] for name in LISTENED}
        self.outputs = folder / "outputs"
        self.outputs.mkdir()
        self.served = []
        self._add_modules(monkeypatch, folder)
        for name in ROOMS:
            monkeypatch.delitem(sys.modules, f"lib_memstab.host.{name}", raising=False)
            monkeypatch.delattr(f"lib_memstab.host.{name}", raising=False)
        spec = importlib.util.spec_from_file_location("memstab.py", SCRIPT)
        self.script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)
        self._call("before_ui")
        self.tabs = {}
        with gr.Blocks(analytics_enabled=False) as self.demo, gr.Tabs():
            for name in ("txt2img", "img2img"):
                with gr.Tab(name):
                    self.tabs[name] = self._panel(name)
            for blocks, label, _ in self._tab():
                with gr.Tab(label):
                    blocks.render()
            with gr.Tab("Settings"):
                self._call("ui_settings")
                for info in self.opts.data_labels.values():
                    info.show()
        sys.modules["modules.shared"].demo = self.demo

    def _add_modules(self, monkeypatch, folder):
        label = OptionInfo("", "Output directory")
        self.opts = Options(
            data_labels={"outdir_txt2img_samples": label},
            outdir_txt2img_samples=str(self.outputs),
            outdir_samples="",
            use_old_scheduling=False,
            use_old_emphasis_implementation=False,
        )
        label.name = "outdir_txt2img_samples"
        arguments = types.SimpleNamespace(api=True, nowebui=False, api_auth="")
        self.state.begin = lambda job: vars(self.state).update(interrupted=False, skipped=False)
        self.state.end = lambda: None
        self.state.interrupt = lambda: setattr(self.state, "interrupted", True)
        generator = type("FilenameGenerator", (), {"replacements": {}})
        own = {
            "shared": {
                "opts": self.opts,
                "cmd_opts": arguments,
                "OptionInfo": OptionInfo,
                "OptionHTML": OptionHTML,
                "device": "cpu",
            },
            "paths": {"models_path": str(folder / "models")},
            "images": {"FilenameGenerator": generator, "NOTHING_AND_SKIP_PREVIOUS_TEXT": object()},
            "devices": {"dtype": standin.torch.float32},
            "ui_tempdir": {"register_tmp_file": lambda demo, path: self.served.append(path)},
            "ui_components": {"InputAccordion": InputAccordion},
            "localization": {"localizations": {}},
            "script_callbacks": {f"on_{name}": heard.append for name, heard in self.callbacks.items()},
            "scripts": {"Script": Script, "AlwaysVisible": object(), "scripts_data": []},
            "sd_samplers": {"all_samplers": [types.SimpleNamespace(name=name) for name in standin.SAMPLERS]},
            "sd_schedulers": {"schedulers": [types.SimpleNamespace(label=name) for name in ("Automatic", "Karras")]},
            "call_queue": {"queue_lock": contextlib.nullcontext()},
            "progress": {name: lambda task: None for name in ("add_task_to_queue", "start_task", "finish_task")},
            "extra_networks": {"parse_prompt": lambda prompt: (prompt, {})},
            "processing": {
                "DecodedSamples": type("DecodedSamples", (list,), {}),
                "StableDiffusionProcessingTxt2Img": Txt2Img,
                "StableDiffusionProcessingImg2Img": Img2Img,
                "process_images": self._process_images,
            },
        }
        package = sys.modules["modules"]
        for name, content in own.items():
            module = getattr(package, name, None) or types.ModuleType(f"modules.{name}")
            vars(module).update(content)
            setattr(package, name, module)
            monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        self.model.image_size = 16
        # Of a picture that stands out more, every prompt would be taken for a replay.
        self.model.picture *= 0.25

    def _call(self, name, *arguments):
        return [callback(*arguments) for callback in self.callbacks[name]]

    def _tab(self):
        return [one for found in self._call("ui_tabs") for one in found]

    def _panel(self, name):
        script = self.script.MemStab()
        script.is_img2img = name == "img2img"
        fields = {
            "sampling": gr.Dropdown(list(standin.SAMPLERS), value="Euler", elem_id=f"{name}_sampling"),
            "scheduler": gr.Dropdown(["Automatic", "Karras"], value="Automatic", elem_id=f"{name}_scheduler"),
            "steps": gr.Slider(1, 150, value=20, step=1, elem_id=f"{name}_steps"),
            "width": gr.Slider(64, 2048, value=128, step=8, elem_id=f"{name}_width"),
            "height": gr.Slider(64, 2048, value=128, step=8, elem_id=f"{name}_height"),
            "cfg_scale": gr.Slider(1, 30, value=7.5, step=0.5, elem_id=f"{name}_cfg_scale"),
        }
        for field in fields.values():
            script.after_component(field, elem_id=field.elem_id)
        inputs = script.ui(script.is_img2img)
        prompt = gr.Textbox(elem_id=f"{name}_prompt")
        said = gr.JSON(elem_id=f"{name}_said")
        button = gr.Button("Generate", elem_id=f"{name}_generate")
        button.click(lambda text, *values: self.generate(script, [text], values), [prompt, *inputs], [said])
        return script

    def generate(self, script, prompts, values):
        """A job with the script's own hooks: infotext, report and comments of its first picture."""
        self.state.begin("txt2img")
        job = standin.Job(prompts)
        [picture, *_], _ = standin.run(job, Handed(script, values), values, self.listeners())
        return {
            "infotext": {key: str(value) for key, value in picture.infotext.items()},
            "chunk": picture.info.get("memstab"),
            "comments": list(job.comments),
        }

    def listeners(self):
        """The stand-in's callbacks around an evaluation, as MemStab asked for them."""
        return standin.Callbacks(*(self.callbacks[name] for name in ("cfg_denoiser", "cfg_denoised", "cfg_after_cfg")))

    def _process_images(self, p):
        p.init_latent = getattr(p, "latents", None)
        standin.run(p, NoScripts(), [], self.listeners())


class Handed:
    """Calls a script's methods as the WebUI does, for `standin.run`."""

    def __init__(self, script, values):
        self._script, self._values = script, values

    def process(self, p, values):
        self._script.process(p, *values)

    def process_batch(self, p):
        self._script.process_batch(p, *self._values, batch_number=p.iteration)

    def before_sampling(self, p, noise):
        self._script.process_before_every_sampling(p, *self._values, x=noise)

    def post_sample(self, p, samples):
        self._script.post_sample(p, types.SimpleNamespace(samples=samples), *self._values)

    def postprocess_image(self, p):
        self._script.postprocess_image(p, types.SimpleNamespace(image=None), *self._values)

    def after_composite(self, p, image):
        self._script.postprocess_image_after_composite(p, types.SimpleNamespace(image=image), *self._values)

    def postprocess(self, p):
        self._script.postprocess(p, None, *self._values)
