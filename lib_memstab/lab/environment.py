"""The project's own Python environment: made once, used again until what it was made from changes.

Standard library only, so that it runs on a machine that has Python and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

log = logging.getLogger("memstab")

Extra = Literal["demo", "test"]
Version = tuple[int, int]
Installs = tuple[tuple[str, ...], ...]
"""The arguments of one `pip install` after another."""

ROOT = Path(__file__).resolve().parents[2]
SUPPORTED: tuple[Version, ...] = ((3, 10), (3, 11), (3, 12))
PREFERRED: tuple[Version, ...] = ((3, 11), (3, 12), (3, 10))
# Its own dependencies (torchvision, wandb, …) serve its training code; the samplers need none of them.
K_DIFFUSION = "k-diffusion==0.1.1.post1"
STAMP = "memstab-stamp"


class EnvironmentSetupError(RuntimeError):
    """The environment could not be made; the message says what to do."""


def ensure_environment(extra: Extra, folder: Path = ROOT / ".venv") -> Path:
    """Make or complete the virtual environment `folder` with the project (editable) and one of its extras.

    Returns the path of its Python at once when nothing is to be done. An existing environment is kept and completed.
    Raises EnvironmentSetupError without a checkout, without a supported Python, or when pip fails.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise EnvironmentSetupError(f"{ROOT} is no checkout of MemStab (no pyproject.toml); install memstab[{extra}]")
    larger = [_project_installs("test")] if extra == "demo" else []
    return ensure_installed(folder, _project_installs(extra), also_good=larger)


def ensure_installed(
    folder: Path,
    installs: Installs,
    *,
    python: Path | None = None,
    also_good: Sequence[Installs] = (),
    timeout_s: float | None = None,
) -> Path:
    """Make or complete the virtual environment `folder` so that `installs` hold there; returns its Python.

    `python` makes a new one (default: the running Python if supported, else one that is found); an environment that
    was completed with one of `also_good` is left as it is; `timeout_s` bounds each pip call in seconds. Raises
    EnvironmentSetupError.
    """
    folder = folder.absolute()
    inside = _python_of(folder)
    stamp = folder / STAMP
    if inside.exists() and stamp.is_file():
        made_from = stamp.read_text(encoding="utf-8")
        if made_from in {_fingerprint(folder, wanted) for wanted in (installs, *also_good)}:
            return inside
    _ensure_virtual_environment(folder, python)
    stamp.unlink(missing_ok=True)
    log.info("Setting up %s; the first time this takes some minutes.", folder)
    if _output_of([inside, "-c", "import pip"]) is None:
        _call([inside, "-m", "ensurepip", "--default-pip"], "pip is missing there and could not be added")
    quiet = () if sys.stderr.isatty() else ("--quiet",)
    for arguments in installs:
        command = [str(inside), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *quiet, *arguments]
        _call(command, f"pip could not install {' '.join(arguments)}", timeout_s)
    stamp.write_text(_fingerprint(folder, installs), encoding="utf-8")
    return inside


def find_python(version: Version) -> Path | None:
    """A Python of exactly this (major, minor) version: the running one, one on PATH, or one of pyenv's; else None."""
    return next((python for python in _candidates(version) if _version_of(python) == version), None)


def _candidates(version: Version) -> Iterator[Path]:
    dotted = ".".join(map(str, version))
    yield Path(sys.executable)
    # On PATH there may be a launcher that stands for no Python, and a working one behind it.
    for folder in os.get_exec_path():
        found = shutil.which(f"python{dotted}", path=folder)
        if found:
            yield Path(found)
    if launcher := shutil.which("py"):
        found = _output_of([launcher, f"-{dotted}", "-c", "import sys; print(sys.executable)"])
        if found:
            yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    patch_number = re.compile(re.escape(dotted) + r"\.(\d+)$")
    installed = [(int(match[1]), path) for path in versions.glob("*") if (match := patch_number.match(path.name))]
    for _, path in sorted(installed, reverse=True):
        yield path / ("python.exe" if os.name == "nt" else "bin/python")


def _version_of(python: Path) -> Version | None:
    words = (_output_of([python, "-c", "import sys; print(*sys.version_info[:2])"]) or "").split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else None


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _ensure_virtual_environment(folder: Path, python: Path | None) -> None:
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and (folder.is_file() or any(folder.iterdir())):
        raise EnvironmentSetupError(f"{folder} is no virtual environment; move it away or name another folder")
    inside = _python_of(folder)
    version = _version_of(inside)
    if version in SUPPORTED:
        return
    if version is not None:
        raise EnvironmentSetupError(f"{folder} has Python {_dotted(version)}, MemStab needs {_supported()}; remove it")
    maker = python or _supported_python()
    reason = f"{maker} could not make the virtual environment {folder} (on Debian and Ubuntu it needs python3-venv)"
    _call([maker, "-m", "venv", "--clear", folder], reason)


def _supported_python() -> Path:
    if sys.version_info[:2] in SUPPORTED:
        return Path(sys.executable)
    found = next(filter(None, map(find_python, PREFERRED)), None)
    if found is None:
        running = _dotted(sys.version_info[:2])
        raise EnvironmentSetupError(f"MemStab needs Python {_supported()}; this is {running}, and no other was found")
    return found


def _project_installs(extra: Extra) -> Installs:
    return (("--editable", f"{ROOT}[{extra}]"), ("--no-deps", K_DIFFUSION))


def _fingerprint(folder: Path, installs: Installs) -> str:
    """Changes with the requirements, with pyproject.toml, and when checkout or environment are moved."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps([project, str(folder), installs]).encode()).hexdigest()


def _call(command: Sequence[str | Path], failure: str, timeout_s: float | None = None) -> None:
    """Run with its words on standard error (standard output is the command's own); raise with `failure` if it fails."""
    try:
        code = subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired as error:
        raise EnvironmentSetupError(f"{failure}: not done after {error.timeout:.0f} s") from error
    except OSError as error:
        raise EnvironmentSetupError(f"{failure}: {error}") from error
    if code:
        raise EnvironmentSetupError(f"{failure}: exit code {code}, its own words are above")


def _output_of(command: Sequence[str | Path]) -> str | None:
    """Standard output of a short command, stripped; None if it cannot run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _supported() -> str:
    return f"{_dotted(SUPPORTED[0])} to {_dotted(SUPPORTED[-1])}"
