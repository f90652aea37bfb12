"""`sampling`: the installed `k_diffusion.sampling` itself, without the rest of that package.

`k_diffusion/__init__.py` imports training code that needs torchvision, CLIP and more; the samplers need none of it,
only `append_dims` from `k_diffusion/utils.py`. Where k-diffusion is imported already (inside the WebUI), `sampling` is
that one. Importing this module raises ModuleNotFoundError when k-diffusion is not installed, and ImportError when its
samplers need more of it than is given here.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

# Not the package's own name: a later `import k_diffusion` must find nothing half-made.
_PARENT = f"{__package__}._k_diffusion"


def _installed_folder() -> Path:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("k-diffusion is not installed", name="k_diffusion")
    return Path(next(iter(spec.submodule_search_locations)))


def _load_alone(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{_PARENT}.sampling", folder / "sampling.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no sampling.py", name="k_diffusion.sampling")
    parent = ModuleType(_PARENT, "Stands for the package k_diffusion while its sampling.py is loaded.")
    parent.__path__ = []
    parent.utils = _functions(folder / "utils.py", _used_from_utils(folder / "sampling.py"))  # type: ignore[attr-defined]
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PARENT] = parent
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_PARENT], sys.modules[spec.name]
        raise
    return module


def _used_from_utils(path: Path) -> set[str]:
    """Every NAME in `utils.NAME` of a source file."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "utils"
    }


def _functions(path: Path, names: set[str]) -> ModuleType:
    """A module with only these functions of a source file, compiled from it; they may use builtins and torch."""
    tree = ast.parse(path.read_bytes())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    missing = names - {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if missing:
        raise ImportError(f"{path} has no function {', '.join(sorted(missing))}", name="k_diffusion.utils")
    module = ModuleType(f"{_PARENT}.utils")
    module.__dict__["torch"] = torch
    exec(compile(tree, str(path), "exec"), module.__dict__)
    return module


sampling = sys.modules.get("k_diffusion.sampling") or _load_alone(_installed_folder())
