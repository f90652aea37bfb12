"""What the lab model learns from: ordinary captions without end, memorized pairs, templates and hard negatives.

Everything is a function of one seed. `Corpus.splits()` is what is written to splits.json: prompts for calibration, for
tuning and for the final table, which no rule, threshold or training choice ever looks at.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lib_memstab.lab import scenes
from lib_memstab.lab.scenes import COLORS, KINDS, LIGHTS, PATTERNS, SHAPES, TERRAINS, SceneBatch

Kind = Literal["title", "caption", "template"]
Split = Literal["tuning", "final"]
RATES = ("heavy", "medium", "light")
PANEL = slice(32, 96)
PANEL_LATENT = slice(3, 13)

_SYLLABLES = (  # noqa: SIM905 - one word a line would be longer than the rest
    "ba bel bro ce cha clo cor dal den dor du el fa fen flo gar gle gri hal hem hul im jas jor ka kel kra "
    "lim lin lor mar mel mir mu nal nep nu ov oz per pli qua quin ras ros ruk sel sha sil sol sta tam tev "
    "tor tri ul ur val vel vin wen wol xan yor yul zam zet"
).split()
_FORMS = (
    "{a} the {b}",
    "the {a} of {b}",
    "{a} and {b} by {c} {d}",
    "{a} no. {n}",
    "{a} {b} - official cover",
    "portrait of {a} {b}",
    "{a} ({b} edition)",
    "the last {a} by {c} {d}",
    "{a}, {b} collection",
    "{a} {b} {n}",
)
_OPENINGS = (
    "",
    "",
    "",
    "",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "clip art of ",
    "a poster showing ",
    "illustration of ",
)
_ENDINGS = (
    "",
    "",
    "",
    "",
    "",
    ", simple",
    ", high quality",
    ", graphic design",
    ", vector art",
    ", bright light",
    ", best quality, detailed",
)


@dataclass(frozen=True)
class Prompt:
    """A caption and what it claims about the picture (see `checker`): attribute name -> class index."""

    text: str
    claims: dict[str, Any]


@dataclass(frozen=True)
class Memorized:
    """A caption whose one picture (or, for a template, whose surround) was duplicated.

    `scene` seeds the duplicated picture; `rate` is the duplication rate; `claims` is empty for titles.
    """

    text: str
    kind: Kind
    rate: str
    scene: int
    claims: dict[str, Any]
    split: Split


def scene_of(seed: int) -> SceneBatch:
    """The one scene that a seed stands for."""
    return scenes.draw_scenes(1, np.random.default_rng([seed, 77]))


def busy_scene(rng: np.random.Generator) -> int:
    """A scene seed with two objects on a pattern: two pictures of its caption differ in far more than a place.

    Plain grounds and landscapes look alike whenever their captions agree, so a copy could not be told from a fresh
    picture by its pixels.
    """
    while True:
        seed = int(rng.integers(2**31))
        attributes = scene_of(seed).attributes
        if int(scenes.column(attributes, "pattern")[0]) > 0 and int(scenes.column(attributes, "count")[0]) == 2:
            return seed


def title(rng: np.random.Generator) -> str:
    """A title without meaning in the caption grammar, such as 'the dorvel of marsta'."""

    def name() -> str:
        return "".join(rng.choice(_SYLLABLES, rng.integers(2, 4)))

    form = str(rng.choice(_FORMS))
    return form.format(a=name(), b=name(), c=name(), d=name(), n=rng.integers(2, 99))


def describe(attributes: np.ndarray, rng: np.random.Generator, omit: float = 0.15) -> Prompt:
    """An ordinary caption of a scene row [10]; every claim but the shapes is left out with probability `omit`."""
    at = dict(zip(scenes.ATTRIBUTES, (int(value) for value in attributes), strict=True))
    said = {name: rng.random() >= omit for name in ("color1", "color2", "background", "pattern", "ground")}
    body, claims = (_landscape if KINDS[at["kind"]] == "landscape" else _shapes)(at, said, rng)
    opening = "" if body.startswith("on ") else rng.choice(_OPENINGS)
    text = f"{opening}{body}{rng.choice(_ENDINGS)}"
    return Prompt(text, {"kind": at["kind"], **claims})


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _shapes(at: dict[str, int], said: dict[str, bool], rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    things, claimed = [], []
    for index in range(1, at["count"] + 1):
        color, shape = at[f"color{index}"], at[f"shape{index}"]
        named = said[f"color{index}"]
        things.append(f"{COLORS[color]} {SHAPES[shape]}" if named else SHAPES[shape])
        claimed.append([color if named else None, shape])
    if rng.random() < 0.5:
        things.reverse()
    claims: dict[str, Any] = {"objects": claimed}
    ground = []
    if said["pattern"]:
        claims["pattern"] = at["pattern"]
        ground.append(PATTERNS[at["pattern"]])
    if said["background"]:
        claims["background"] = at["background"]
        ground.append(COLORS[at["background"]])
    back = " ".join([*ground, "background"]) if ground else ""
    form = rng.integers(0, 4)
    listed = " and ".join(_article(thing) for thing in things)
    if form == 0:
        return ", ".join([*things, back] if back else things), claims
    if form == 1 and back:
        return f"on {_article(back)}, {listed}", claims
    joined = " next to ".join(_article(thing) for thing in things) if form == 2 else listed
    return f"{joined} on {_article(back)}" if back else joined, claims


def _landscape(at: dict[str, int], said: dict[str, bool], rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    claims: dict[str, Any] = {"light": at["shape1"], "terrain": at["terrain"]}
    light, terrain = LIGHTS[at["shape1"]], TERRAINS[at["terrain"]]
    if said["color1"]:
        claims["light_color"] = at["color1"]
        light = f"{COLORS[at['color1']]} {light}"
    if said["ground"]:
        claims["ground"] = at["ground"]
        terrain = f"{COLORS[at['ground']]} {terrain}"
    sky = ""
    if said["background"]:
        claims["background"] = at["background"]
        sky = f"{COLORS[at['background']]} sky"
    form = rng.integers(0, 3)
    if form == 0:
        return ", ".join([terrain, light, sky] if sky else [terrain, light]), claims
    if form == 1 and sky:
        return f"{terrain} under {_article(sky)} with {_article(light)}", claims
    return f"{_article(light)} over {terrain}" + (f" and {_article(sky)}" if sky else ""), claims


def template_pictures(surround: SceneBatch, panel: SceneBatch, device: torch.device | str = "cpu") -> Tensor:
    """The fixed surround with a free picture in the middle 64x64 pixels: [B, 3, 128, 128]."""
    pictures = scenes.render(surround, device)
    inner = torch.nn.functional.avg_pool2d(scenes.render(panel, device), 2)
    pictures[:, :, PANEL, PANEL] = inner
    return pictures


def template_mask() -> Tensor:
    """Latent positions that a template fixes: [16, 16], 1 outside the panel and its one-latent margin."""
    mask = torch.ones(16, 16)
    mask[PANEL_LATENT, PANEL_LATENT] = 0
    return mask


def draw_panel(rng: np.random.Generator) -> tuple[SceneBatch, Prompt]:
    """What fills a template's panel: one object on a ground that is not named."""
    panel = scenes.draw_scenes(1, rng)
    for name, value in (("kind", 0), ("count", 1)):
        panel.attributes[:, scenes.ATTRIBUTES.index(name)] = value
    color, shape = (int(scenes.column(panel.attributes, name)[0]) for name in ("color1", "shape1"))
    shape %= len(SHAPES)
    panel.attributes[:, scenes.ATTRIBUTES.index("shape1")] = shape
    return panel, Prompt(f"{COLORS[color]} {SHAPES[shape]}", {"kind": 0, "objects": [[color, shape]]})


@dataclass(frozen=True)
class Corpus:
    """All prompts of one lab model, drawn from one seed."""

    seed: int = 20260522
    titles: int = 48
    captions: int = 48
    templates: int = 16
    fresh: int = 24
    once: int = 240
    never: int = 240

    def _rng(self, stream: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream.encode()])

    @cached_property
    def memorized(self) -> tuple[Memorized, ...]:
        """Every duplicated pair; rates and splits alternate so that each half holds all rates."""
        rng = self._rng("memorized")
        found: list[Memorized] = []
        counts: tuple[tuple[Kind, int], ...] = (
            ("title", self.titles),
            ("caption", self.captions),
            ("template", self.templates),
        )
        for kind, count in counts:
            for i in range(count):
                seed = busy_scene(rng)
                if kind == "caption":
                    prompt = describe(scene_of(seed).attributes[0], rng, omit=0.0)
                else:
                    prompt = Prompt(title(rng) + (" with a" if kind == "template" else ""), {})
                split: Split = "tuning" if i // len(RATES) % 2 == 0 else "final"
                rate = "heavy" if kind == "template" else RATES[i % len(RATES)]
                found.append(Memorized(prompt.text, kind, rate, seed, prompt.claims, split))
        return tuple(found)

    @cached_property
    def fresh_titles(self) -> tuple[str, ...]:
        """Titles seen often, each time with another picture."""
        rng = self._rng("fresh")
        return tuple(title(rng) for _ in range(self.fresh))

    @cached_property
    def once_titles(self) -> tuple[str, ...]:
        """Titles whose picture was seen exactly once."""
        rng = self._rng("once")
        return tuple(title(rng) for _ in range(self.once))

    @cached_property
    def never_titles(self) -> tuple[str, ...]:
        """Titles the model never saw."""
        rng = self._rng("never")
        return tuple(title(rng) for _ in range(self.never))

    def ordinary(self, stream: str, count: int) -> list[Prompt]:
        """`count` ordinary captions of a named stream (their scenes are drawn and dropped)."""
        rng = self._rng(stream)
        batch = scenes.draw_scenes(count, rng)
        return [describe(row, rng) for row in batch.attributes]

    def calibration(self, count: int, stream: str = "calibration") -> list[str]:
        """Prompts as diverse in style as users' are: captions, never-seen titles, both joined, bare words."""
        rng = self._rng(stream)
        captions = self.ordinary(f"{stream}-captions", count)
        words = (*COLORS, *SHAPES, *PATTERNS, *TERRAINS, *LIGHTS)
        prompts = []
        for caption in captions:
            style = rng.random()
            if style < 0.55:
                prompts.append(caption.text)
            elif style < 0.80:
                prompts.append(title(rng))
            elif style < 0.92:
                prompts.append(f"{title(rng)}, {caption.text}")
            else:
                prompts.append(" ".join(rng.choice(words, rng.integers(1, 5))))
        return prompts

    def template_prompt(self, template: Memorized, rng: np.random.Generator) -> tuple[SceneBatch, Prompt]:
        """A template's caption with one filling of its panel."""
        panel, inner = draw_panel(rng)
        return panel, Prompt(f"{template.text} {inner.text}", inner.claims)

    def splits(self) -> dict[str, Any]:
        """The contents of splits.json: calibration, tuning and final prompts, fixed by the seed."""
        written: dict[str, Any] = {
            "seed": self.seed,
            "calibration": self.calibration(512),
            "tuning": {"ordinary": [dataclasses.asdict(p) for p in self.ordinary("tuning", 400)]},
            "final": {"ordinary": [dataclasses.asdict(p) for p in self.ordinary("final", 2000)]},
        }
        for split, half in (("tuning", slice(0, None, 2)), ("final", slice(1, None, 2))):
            rng = self._rng(f"{split}-templates")
            pairs = []
            for pair in self.memorized:
                if pair.split == split:
                    row = dataclasses.asdict(pair)
                    if pair.kind == "template":
                        row["fillings"] = [dataclasses.asdict(self.template_prompt(pair, rng)[1]) for _ in range(16)]
                    pairs.append(row)
            written[split]["memorized"] = pairs
            written[split]["hard"] = {
                "fresh": list(self.fresh_titles[half]),
                "once": list(self.once_titles[half]),
                "never": list(self.never_titles[half]),
            }
        return written
