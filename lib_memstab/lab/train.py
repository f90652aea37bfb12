"""Train the lab model from nothing: tokenizer, VAE, text encoder, UNet, caption checker, one stage after the other.

Each stage writes its file into the work folder; a second call goes on after the last finished stage. On a CPU, one
single-threaded worker per core averages its gradients with the others', which is far quicker than threads.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

from lib_memstab.lab.architecture import LabConfig, build_text_encoder, build_unet, build_vae
from lib_memstab.lab.checker import CaptionChecker
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.mixture import Mixture, Pools
from lib_memstab.lab.sd1_layout import save_checkpoint
from lib_memstab.lab.stages import normalise_latents, train_checker, train_text, train_unet, train_vae
from lib_memstab.lab.tokenizer import train_tokenizer
from lib_memstab.lab.worker import TrainingPlan, Worker

log = logging.getLogger("memstab.lab")

Sizes = TypeVar("Sizes", TrainingPlan, LabConfig)


def training_captions(corpus: Corpus, count: int) -> list[str]:
    """Captions for the tokenizer: ordinary ones and every title of the corpus."""
    texts = [prompt.text for prompt in corpus.ordinary("tokenizer", count)]
    return [*texts, *(pair.text for pair in corpus.memorized), *corpus.fresh_titles, *corpus.once_titles]


def train(plan: TrainingPlan, worker: Worker, out: Path, config: LabConfig) -> None:
    """All stages; the first worker writes model, checker, splits and a training record to `out`."""
    corpus, record = Corpus(plan.seed), worker.folder / "seconds.json"
    seconds: dict[str, float] = json.loads(record.read_text()) if record.exists() else {}
    start = time.perf_counter()

    def timed(stage: str) -> None:
        """Note how long a stage took that this call finished."""
        nonlocal start
        seconds[stage] = round(time.perf_counter() - start, 1)
        if worker.rank == 0:
            record.write_text(json.dumps(seconds))
        start = time.perf_counter()

    folder = worker.folder / f"tokenizer-{worker.rank}"
    tokenizer = train_tokenizer(training_captions(corpus, 20_000), folder, config.vocab_size)
    timed("tokenizer")

    vae = build_vae(config)
    if not worker.kept("vae.pt", vae):
        vae = train_vae(plan, worker, config)
        normalise_latents(vae, worker, plan, config)
        worker.keep("vae.pt", vae)
        timed("vae")
    vae = vae.to(worker.device).eval().requires_grad_(False)

    def encode(pictures: Tensor) -> Tensor:
        with torch.no_grad(), worker.autocast():
            return (vae.encode(pictures * 2 - 1).latent_dist.mean * config.scale_factor).half()

    def tokenize(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids

    text_encoder, unet = build_text_encoder(config), build_unet(config)
    if not worker.kept("text.pt", text_encoder):
        text_encoder = train_text(plan, worker, config, tokenize)
        worker.keep("text.pt", text_encoder)
        timed("text")

    if not (worker.kept("unet.pt", unet) and worker.kept("unet-text.pt", text_encoder)):
        pools = Pools.of(plan, worker, corpus, encode, tokenize)
        timed("pools")
        mixture = Mixture(plan, worker, corpus, pools)
        empty = tokenize([""]).to(worker.device)
        text_encoder, unet = train_unet(plan, worker, config, text_encoder, mixture, empty)
        worker.keep("unet.pt", unet)
        worker.keep("unet-text.pt", text_encoder)
        timed("unet")

    checker = CaptionChecker()
    if not worker.kept("checker.pt", checker):
        checker, accuracy = train_checker(plan, worker, vae)
        worker.keep("checker.pt", checker)
        if worker.rank == 0:
            (worker.folder / "accuracy.json").write_text(json.dumps(accuracy))
        timed("checker")

    if worker.rank == 0:
        save_checkpoint(out, "memstab-lab", text_encoder, vae, unet, config, tokenizer)
        checker.save(out / "checker.safetensors")
        write_record(out, plan, worker, config, seconds)


def write_record(out: Path, plan: TrainingPlan, worker: Worker, config: LabConfig, seconds: dict[str, float]) -> None:
    """splits.json and training.json: what was trained, how long each stage took, and on what."""
    (out / "splits.json").write_text(json.dumps(Corpus(plan.seed).splits(), indent=1))
    accuracy = json.loads((worker.folder / "accuracy.json").read_text())
    machine = (
        torch.cuda.get_device_name() if worker.device.type == "cuda" else f"CPU, {worker.count} workers of one thread"
    )
    record = {
        "plan": asdict(plan),
        "config": asdict(config),
        "seconds": seconds,
        "machine": machine,
        "torch": torch.__version__,
        "checker": accuracy,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1))


def _work(rank: int, plan: TrainingPlan, config: LabConfig, device: str, folder: Path, out: Path) -> None:
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    if device == "cpu":
        torch.set_num_threads(1)
    if plan.workers > 1:
        meeting = f"file://{folder.resolve() / 'rendezvous'}"
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=plan.workers)
    train(plan, Worker(rank, plan.workers, torch.device(device), folder), out, config)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab train`."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for finished stages; a second call goes on there"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with workers=1")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="another training, such as unet_steps=200 or seed=7",
    )
    parser.add_argument(
        "--config",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help='another model, such as unet_channels=32 or prediction_type="v_prediction" (values as in JSON)',
    )


def run(args: argparse.Namespace) -> int:
    """Train and write; 0 when the model is there, 2 for a name or value that there is not."""
    try:
        plan, config = _changed(TrainingPlan(), args.set), _changed(LabConfig(), args.config)
    except ValueError as error:
        log.error("train: %s", error)
        return 2
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.work / "rendezvous").unlink(missing_ok=True)
    spawn(_work, (plan, config, args.device, args.work, args.out), nprocs=plan.workers)
    return 0


def _changed(sizes: Sizes, changes: Sequence[str]) -> Sizes:
    """The same with these NAME=VALUE, values as in JSON; ValueError for what it does not have or cannot be."""
    values: dict[str, Any] = {}
    for item in changes:
        name, _, value = item.partition("=")
        if not hasattr(sizes, name):
            raise ValueError(f"{name} is none of {', '.join(vars(sizes))}")
        try:
            values[name] = type(getattr(sizes, name))(json.loads(value))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{value!r} is no value for {name}, which is {getattr(sizes, name)!r}") from error
    return replace(sizes, **values)
