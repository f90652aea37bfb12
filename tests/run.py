"""The ONE command for every check: set-up, ruff, types, tests, and the tests of the core on oldest and newest Python.

    python3 tests/run.py          everything
    python3 tests/run.py --quick  without the oldest and the newest Python

Needs Python 3.10 to 3.12 with pip, nothing else. Exit code 0 if all that ran passed; what did not run is named.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib_memstab.lab.environment import (  # noqa: E402
    EnvironmentSetupError,
    Version,
    ensure_environment,
    ensure_installed,
    find_python,
)

INSTALL_LIMIT_S = 480.0
DISK_NEEDED_GB = 10  # torch for Linux brings its CUDA libraries: 5 GB installed, half as much again while pip unpacks
WEBUI_PACKAGES = ROOT / "tests" / "host" / "blocks" / "requirements.txt"


@dataclass(frozen=True)
class Edge:
    """One end of the supported range: a Python and what it is tested with.

    `beside` are packages that are installed as they are listed, without looking for what they need; `pages` says that
    MemStab's pages are tested there, on the WebUI's gradio.
    """

    version: Version
    requirements: tuple[str, ...]
    beside: tuple[str, ...] = ()
    pages: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        return (*EDGE_TESTS, *PAGE_TESTS) if self.pages else EDGE_TESTS

    @property
    def what(self) -> str:
        return "tests of the core and of the pages" if self.pages else "tests of the core"


EDGES = (
    # torch and numpy as WebUI 1.10.1 pins them, and what it has for its pages
    Edge(
        (3, 10),
        ("torch==2.1.2", "numpy==1.26.2", "pytest==9.2.0", "hypothesis==6.168.5"),
        tuple(WEBUI_PACKAGES.read_text("utf-8").split()),
        pages=True,
    ),
    Edge((3, 12), ("torch==2.14.1", "numpy==2.5.5", "pytest==9.2.0", "hypothesis==6.170.15")),
)
PAGE_TESTS = ("tests/host/blocks",)
EDGE_TESTS = ("tests/core", "tests/lab/test_environment.py", "tests/test_cli.py")


@dataclass
class Record:
    """What was run and what was left out, in order; printed at the end."""

    lines: list[str] = field(default_factory=list)
    failed: int = 0

    def run(self, name: str, python: Path, *arguments: str, **environment: str) -> None:
        """Run `python -m arguments` in the checkout and note whether it passed and how long it took."""
        print(f"\n=== {name}", flush=True)
        start = time.perf_counter()
        code = subprocess.call([str(python), "-m", *arguments], cwd=ROOT, env={**os.environ, **environment})
        self.failed += code != 0
        self.note("failed" if code else "passed", f"{name} ({time.perf_counter() - start:.0f} s)")

    def note(self, outcome: Literal["passed", "failed", "left out"], what: str) -> None:
        self.lines.append(f"{outcome:9} {what}")


def check_edge(record: Record, edge: Edge, environment: Future[Path]) -> None:
    """Compile everything with this Python; run the tests of the core there, if its packages can be had."""
    name = "Python " + ".".join(map(str, edge.version))
    python = find_python(edge.version)
    if python is None:
        return record.note("left out", f"{name}: not found on PATH or among pyenv's")
    with tempfile.TemporaryDirectory() as cache:
        record.run(f"{name}: compile", python, "compileall", "-q", "-x", r"[/\\]\.venv", ".", PYTHONPYCACHEPREFIX=cache)
    try:
        inside = environment.result()
    except EnvironmentSetupError as error:
        return record.note("left out", f"{name}: {edge.what}: {error}")
    tested_with = f"{name}, {', '.join(edge.requirements[:2])}"
    return record.run(f"{tested_with}: {edge.what}", inside, "pytest", "-q", *edge.tests)


def edge_environment(edge: Edge) -> Path:
    """Its own virtual environment, without the project's other packages; raises EnvironmentSetupError."""
    python = find_python(edge.version)
    if python is None:
        raise EnvironmentSetupError("not found on PATH or among pyenv's")
    folder = ROOT / f".venv-{edge.version[0]}.{edge.version[1]}"
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if not folder.exists() and free_gb < DISK_NEEDED_GB:
        raise EnvironmentSetupError(f"{free_gb:.0f} GB are free on the disk and {DISK_NEEDED_GB} GB are needed")
    options = ("--no-cache-dir", "--no-compile")
    # The WebUI's packages were all pinned together: looking for others that would fit takes pip minutes.
    beside = ((*options, "--no-deps", *edge.beside),) if edge.beside else ()
    installs = ((*options, *edge.requirements), *beside)
    return ensure_installed(folder, installs, python=python, timeout_s=INSTALL_LIMIT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up and run every check.")
    parser.add_argument("--quick", action="store_true", help="leave out the oldest and the newest supported Python")
    quick = parser.parse_args().quick
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    record = Record()
    try:
        python = ensure_environment("test")
    except EnvironmentSetupError as error:
        print(error, file=sys.stderr)
        return 1
    # Other Pythons' packages come over the network while this one's tests run, one after the other.
    with ThreadPoolExecutor(max_workers=1) as beside:
        environments = [] if quick else [beside.submit(edge_environment, edge) for edge in EDGES]
        record.run("ruff", python, "ruff", "check", ".")
        record.run("types", python, "mypy")
        record.run("tests", python, "pytest", "-q")
        for edge, environment in zip(EDGES, environments, strict=False):
            check_edge(record, edge, environment)
    if quick:
        for edge in EDGES:
            record.note("left out", f"Python {edge.version[0]}.{edge.version[1]}: --quick")
    print("\n" + "\n".join(record.lines))
    return 1 if record.failed else 0


if __name__ == "__main__":
    sys.exit(main())
